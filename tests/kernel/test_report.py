"""The one intake."""

from datetime import UTC, datetime

import psycopg
import pytest

from kernel.db import Database
from kernel.ids import new_id
from kernel.report import Report, insert_report
from kernel.types import Source

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def make_report(source_key: str = "smoke-1:smoke:1", category: str = "smoke") -> Report:
    return Report(
        id=new_id(NOW), source=Source.SYSTEM, source_key=source_key, category=category,
        lon=120.17, lat=30.28, occurred_at=NOW, received_at=NOW,
    )  # fmt: skip


def test_a_report_is_taken_once_however_often_it_is_said(database: Database) -> None:
    with database.transaction() as connection:
        assert insert_report(connection, make_report())
        assert not insert_report(connection, make_report())
        assert connection.execute("SELECT count(*), min(severity) FROM report").fetchone() == (1, 1)


def test_a_taken_report_wakes_dispatch(database: Database) -> None:
    with psycopg.connect(database._conninfo, autocommit=True) as listener:
        listener.execute("LISTEN gw_report")
        with database.transaction() as connection:
            insert_report(connection, make_report())
        assert [n.channel for n in listener.notifies(timeout=5, stop_after=1)] == ["gw_report"]


def test_an_unknown_category_is_refused(database: Database) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation), database.transaction() as connection:
        insert_report(connection, make_report(category="no such thing"))
