"""Which finding belongs to which event: one to one, by category, zone, time and place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vision.evaluation.clip import Found
from vision.evaluation.truth import Event, Truth
from vision.spots import overlap

LATE_S = 3.0
"""A finding may be raised until so long after its event has ended: the last looks of it are judged a little later."""

EARLY_S = 2.0
"""Nor may it be raised longer than this before its event begins, by the uncertainty of the truth itself."""

LEAST_OVERLAP = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Matched:
    """What became of one clip's findings and events."""

    pairs: tuple[tuple[Found, Event], ...]
    missed: tuple[Event, ...]
    duplicates: tuple[tuple[Found, Event], ...]
    """A finding of an event that had been found before."""
    false: tuple[tuple[Found, str], ...]
    """A finding of nothing; the kinds of look-alikes that went on in its zone then, or what is wrong with it."""
    excused: tuple[Found, ...]
    """A finding of something that was nobody's event: too near to its threshold."""


def match(found: Sequence[Found], truth: Truth) -> Matched:
    """Findings in the order in which they were raised; each takes the best event that is still free."""
    pairs: list[tuple[Found, Event]] = []
    duplicates: list[tuple[Found, Event]] = []
    false: list[tuple[Found, str]] = []
    excused: list[Found] = []
    taken: set[str] = set()
    for one in sorted(found, key=lambda item: (item.raised_s, item.zone, item.key)):
        fitting = sorted(
            (event for event in truth.events if fits(one, event)), key=lambda event: -_likeness(one, event)
        )
        free = [event for event in fitting if event.id not in taken]
        if free:
            taken.add(free[0].id)
            pairs.append((one, free[0]))
        elif fitting:
            duplicates.append((one, fitting[0]))
        elif any(fits(one, event) for event in truth.ignored):
            excused.append(one)
        else:
            false.append((one, _explain(one, truth)))
    missed = tuple(event for event in truth.events if event.id not in taken)
    return Matched(
        pairs=tuple(pairs), missed=missed, duplicates=tuple(duplicates), false=tuple(false), excused=tuple(excused)
    )


def fits(found: Found, event: Event) -> bool:
    """May this finding be that event?"""
    return (
        found.category == event.category.value
        and found.zone == event.zone
        and event.start_s - EARLY_S <= found.raised_s <= event.end_s + LATE_S
        and (event.box is None or _likeness(found, event) >= LEAST_OVERLAP)
    )


def _likeness(found: Found, event: Event) -> float:
    return 0.0 if event.box is None else overlap(found.box, event.box)


def _explain(found: Found, truth: Truth) -> str:
    others = sorted(
        {
            event.category.value
            for event in truth.events
            if event.zone == found.zone and event.start_s <= found.raised_s <= event.end_s + LATE_S
        }
    )
    kinds = sorted(
        {
            item.kind
            for item in truth.lookalikes
            if item.zone == found.zone and item.start_s <= found.raised_s <= item.end_s + LATE_S and item.counted
        }
    )
    if others:
        return "beside " + ", ".join(others)
    return ", ".join(kinds) or "nothing staged"
