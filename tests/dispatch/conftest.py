"""A city on a real PostgreSQL."""

import pytest

from kernel.db import Database
from kernel.settings import Settings
from tests.dispatch.build import City


@pytest.fixture
def city(database: Database, settings: Settings) -> City:
    """A district with its grid; the tests put people and devices in it."""
    return City.build(database, settings)
