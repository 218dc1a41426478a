"""Limits: wrong keys by address, messages by device."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.ways.limit import Attempts, Rate


class Clock:
    """Seconds that the test moves on."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def read(self) -> float:
        return self.now_s


def test_an_address_waits_after_too_many_failures_and_others_do_not() -> None:
    clock = Clock()
    attempts = Attempts(most=3, span_s=60.0, read_s=clock.read)
    for _ in range(3):
        assert attempts.may_try("a")
        attempts.note_failure("a")
    assert not attempts.may_try("a")
    assert attempts.may_try("b")
    clock.now_s += 59
    assert not attempts.may_try("a")
    clock.now_s += 1
    assert attempts.may_try("a")
    attempts.note_failure("a")
    assert attempts.may_try("a")  # a new span, and a first failure in it


def test_a_device_has_a_burst_and_then_its_rate() -> None:
    clock = Clock()
    rate = Rate(60, read_s=clock.read)
    assert rate.take("a", 60) == 0.0
    assert rate.take("a") > 0
    assert rate.take("b") == 0.0
    clock.now_s += 1
    assert rate.take("a") == 0.0
    assert rate.take("a") > 0


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 30)), max_size=60))
def test_never_more_than_the_burst_and_the_rate(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    rate = Rate(30, read_s=clock.read)
    began_s, taken = clock.now_s, 0
    for wait_s, count in steps:
        clock.now_s += wait_s
        if rate.take("a", count) == 0.0:
            taken += count
        assert taken <= 30 + (clock.now_s - began_s) * 0.5 + 1e-6
