"""Findings and events are matched one to one, and the figures say what was matched."""

from __future__ import annotations

import numpy as np
import pytest

from vision.evaluation.clip import ClipRun, Found, Snapshot
from vision.evaluation.figures import add_up, poisson, print_table, tally, wilson
from vision.evaluation.matching import match
from vision.evaluation.truth import Event, Lookalike, Restart, Truth
from vision.model import Box, Category

BOX = (0.2, 0.2, 0.4, 0.4)
NOTHING = Snapshot(at_s=0.0, picture=np.zeros((4, 4, 3), np.uint8), tracks=())


def event(name: str, start_s: float, end_s: float, box: Box = BOX) -> Event:
    return Event(
        id=name,
        rule="illegal_parking",
        category=Category.ILLEGAL_PARKING,
        zone="kerb",
        start_s=start_s,
        end_s=end_s,
        box=box,
    )


def found(raised_s: float, *, zone: str = "kerb", box: Box = BOX, category: str = "illegal_parking") -> Found:
    return Found(
        rule="illegal_parking", category=category, zone=zone, key=f"{raised_s}", started_s=raised_s - 20.0,
        raised_s=raised_s, box=box, score=0.9, snapshot=NOTHING,
    )  # fmt: skip


def truth(*events: Event, ignored: tuple[Event, ...] = (), restarts: tuple[Restart, ...] = ()) -> Truth:
    queue = Lookalike(id="l0", rule="illegal_parking", zone="kerb", kind="queue", start_s=200.0, end_s=220.0)
    return Truth(
        version=1, condition="day", seconds=360.0, fps=5.0, size=(640, 360), events=events, ignored=ignored,
        lookalikes=(queue,), restarts=restarts, scene={"zones": [{"name": "kerb", "rule": "illegal_parking"}]},
    )  # fmt: skip


def test_each_finding_takes_one_event_and_each_event_one_finding() -> None:
    first, second = event("e0", 10.0, 60.0), event("e1", 80.0, 120.0)
    matched = match([found(30.0), found(45.0), found(101.0)], truth(first, second))
    assert [(one.raised_s, of.id) for one, of in matched.pairs] == [(30.0, "e0"), (101.0, "e1")]
    assert [(one.raised_s, of.id) for one, of in matched.duplicates] == [(45.0, "e0")]
    assert not matched.missed
    assert not matched.false


def test_of_two_events_at_once_the_one_at_the_place_is_taken() -> None:
    left, right = event("e0", 10.0, 60.0, (0.1, 0.2, 0.3, 0.4)), event("e1", 10.0, 60.0, (0.28, 0.2, 0.48, 0.4))
    matched = match(
        [found(31.0, box=(0.27, 0.2, 0.47, 0.4)), found(32.0, box=(0.1, 0.2, 0.3, 0.4))], truth(left, right)
    )
    assert [of.id for _, of in matched.pairs] == ["e1", "e0"]


@pytest.mark.parametrize(
    "wrong",
    [
        found(30.0, zone="bay"),
        found(30.0, category="crowding"),
        found(30.0, box=(0.6, 0.6, 0.8, 0.8)),
        found(5.0),
        found(64.0),
    ],
)
def test_another_zone_category_place_or_time_is_no_match(wrong: Found) -> None:
    matched = match([wrong], truth(event("e0", 10.0, 60.0)))
    assert [one for one, _ in matched.false] == [wrong]
    assert [one.id for one in matched.missed] == ["e0"]


def test_a_false_alarm_names_the_lookalike_and_what_is_nobodys_event_is_excused() -> None:
    matched = match([found(21.0), found(210.0)], truth(ignored=(event("i0", 0.0, 22.0),)))
    assert [one.raised_s for one in matched.excused] == [21.0]
    assert [kinds for _, kinds in matched.false] == ["queue"]


def test_shares_come_with_their_interval() -> None:
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(95, 100) == pytest.approx((0.8882, 0.9785), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert poisson(0) == pytest.approx((0.0, 3.6889), abs=1e-3)
    assert poisson(3) == pytest.approx((0.6187, 8.7673), abs=1e-3)


def test_the_figures_of_a_clip() -> None:
    clip = truth(
        event("e0", 10.0, 60.0), event("e1", 80.0, 120.0), event("e2", 150.0, 190.0),
        restarts=(Restart(at_s=79.0, gap_s=6.0),),
    )  # fmt: skip
    run = ClipRun(
        name="day-0001", truth=clip, seconds=366.0, found=[found(31.5), found(41.0), found(105.0), found(210.0)]
    )
    matched = match(run.found, clip)
    figures = add_up([("day", tally(run, matched)), ("day", tally(run, matched))])["illegal_parking"]["all"].as_json()
    assert (figures["events"], figures["right"], figures["missed"]) == (6, 4, 2)
    assert (figures["false"], figures["duplicates"], figures["lookalikes"]) == (2, 2, 2)
    assert (figures["precision"], figures["recall"]) == (0.5, pytest.approx(0.6667))
    # the second event begins while nobody watches: nothing is said of its start
    assert figures["start_error_s"] == {"count": 2, "median": 1.5, "p95": 1.5, "worst": 1.5, "within_limit": 1.0}
    assert figures["hours"] == 0.2
    assert figures["false_per_hour"] == 10.0
    assert figures["false_per_day"] == 240.0
    table = print_table(add_up([("day", tally(run, matched))]))
    assert "| illegal_parking | day | 3 | 1 | 2 | 1 | 1 | 1 | 0.500" in table
