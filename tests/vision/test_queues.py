"""What is a queue's and what is not: the way the neighbours came."""

from __future__ import annotations

from vision.model import Box, Point
from vision.queues import Departure, is_queueing
from vision.slots import Slot

LEFT, RIGHT = (-0.2, 0.02), (0.2, -0.02)
AHEAD: Box = (0.20, 0.42, 0.34, 0.54)


def slot(box: Box = (0.40, 0.40, 0.54, 0.52), approach: Point | None = LEFT) -> Slot:
    return Slot(
        key="a",
        box=box,
        score=0.9,
        track_id=1,
        first_s=100.0,
        last_s=130.0,
        seen_s=30.0,
        arrived=True,
        approach=approach,
    )


def queues(approach: Point | None, now_s: float = 130.0) -> bool:
    gone = Departure(box=AHEAD, first_s=98.0, left_s=125.0, approach=approach)
    return is_queueing(slot(), [slot()], [gone], now_s=now_s, dwell_s=20.0, hold_s=60.0)


def test_the_one_ahead_that_came_the_same_way_and_drove_off_is_followed() -> None:
    assert queues(LEFT)


def test_the_other_lanes_traffic_is_nobodys_queue() -> None:
    assert not queues(RIGHT)
    assert not queues(None)


def test_who_has_not_followed_for_long_stands_for_itself() -> None:
    assert queues(LEFT, now_s=144.0) and not queues(LEFT, now_s=146.0)
