"""What is decoded: what the rules need, and under load no more than will be looked at."""

from typing import Any

import pytest

from ingest.decoding import Decode
from vision.scheduler import Scheduler, Wish
from vision.thrift import SAVE_AFTER_S, SPEND_AFTER_S, Thrift, choose_decode, judge_load


def test_load_that_lasts_lowers_and_room_that_lasts_raises_and_neither_flutters() -> None:
    state = Thrift()
    for now_s in range(100):  # over and under by turns: nothing lasts
        state = judge_load(state, 1.5 if now_s % 5 else 0.9, float(now_s))
        assert not state.saving
    state = judge_load(state, 0.9, 99.5)
    for now_s in range(100, 100 + int(SAVE_AFTER_S)):
        state = judge_load(state, 1.5, float(now_s))
        assert not state.saving
    state = judge_load(state, 1.5, 100 + SAVE_AFTER_S)
    assert state.saving
    for now_s in range(200, 400):
        state = judge_load(state, 0.9, float(now_s))  # it keeps up again, but without room
        assert state.saving
    assert judge_load(state, 0.5, 400.0).saving
    assert not judge_load(judge_load(state, 0.5, 400.0), 0.5, 400 + SPEND_AFTER_S).saving


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, Decode.REFERENCED),
        ({"saving": True}, Decode.KEY),
        ({"saving": True, "urgent": True}, Decode.REFERENCED),
        ({"saving": True, "granted_s": 0.5}, Decode.REFERENCED),  # it is looked at more often than key pictures come
        ({"saving": True, "key_every_s": None}, Decode.REFERENCED),
        ({"watched": False}, Decode.KEY),
        ({"few": True}, Decode.ALL),
        ({"few": True, "saving": True, "granted_s": 0.5}, Decode.REFERENCED),
    ],
)
def test_no_less_is_decoded_than_will_be_looked_at(changed: dict[str, Any], expected: Decode) -> None:
    usual: dict[str, Any] = {
        "watched": True, "saving": False, "urgent": False, "granted_s": 2.0, "key_every_s": 2.0, "few": False
    }  # fmt: skip
    assert choose_decode(**(usual | changed)) is expected


def test_the_load_is_what_is_wanted_over_what_can_be_done() -> None:
    scheduler: Scheduler[str] = Scheduler(cost_s=0.1, share=0.8)
    for name in ("a", "b"):
        scheduler.want(name, Wish(every_s=0.25), 0.0)
    assert scheduler.load == pytest.approx(1.0)
    scheduler.want("c", Wish(every_s=0.25), 0.0)
    assert scheduler.load == pytest.approx(1.5)
    scheduler.pick(0.0)
    assert scheduler.granted_s("c") == pytest.approx(0.375) and scheduler.wanted_per_s("c") == 4.0
    assert scheduler.granted_s("unknown") == float("inf")
