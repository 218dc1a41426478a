"""Waiting for a condition, never for a duration: tests must hold on a busy machine."""

import time
from collections.abc import Callable

import pytest


def wait_for(condition: Callable[[], object], timeout_s: float = 30.0) -> bool:
    """Whether it came true in time."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    """Wait; fail saying what did not come."""
    if not wait_for(condition, timeout_s):
        pytest.fail(f"not within {timeout_s:.0f} s: {what}")
