"""A closure check says clear only when it saw."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from kernel.types import Verdict
from tests.vision.build import at
from vision.check import Answer, Check, add_look, conclude
from vision.health import Blindness
from vision.model import Presence
from vision.store import CheckRequest

LOOK_S = 4.0
THERE, GONE, HIDDEN = Presence.THERE, Presence.GONE, Presence.HIDDEN


def check(expires_s: float = 60) -> Check:
    request = CheckRequest(
        id=UUID(int=1),
        device_id=UUID(int=2),
        rule="illegal_parking",
        zone="kerb",
        category="illegal_parking",
        requested_at=at(0),
        expires_at=at(expires_s),
    )
    return Check(request=request, began_at=at(0))


def look(presences: list[Presence | Blindness], every_s: float = 0.25, expires_s: float = 60) -> Answer | None:
    """The first answer while these looks come in, or what is answered after they ended."""
    made, now_s = check(expires_s), 0.0
    for index, seen in enumerate(presences):
        now_s = (index + 1) * every_s
        doubt = seen if isinstance(seen, Blindness) else None
        made = add_look(made, seen if isinstance(seen, Presence) else None, doubt, at(now_s))
        answer = conclude(made, at(now_s), LOOK_S)
        if answer is not None:
            return answer
    return conclude(made, at(now_s + 30), LOOK_S)


def test_a_place_seen_empty_in_every_look_is_clear() -> None:
    assert look([GONE] * 40) == Answer(verdict=Verdict.CLEAR, detail="")


def test_a_cause_seen_in_most_looks_is_not_clear() -> None:
    assert look([GONE, THERE, THERE] * 10) == Answer(verdict=Verdict.NOT_CLEAR, detail="")


def test_a_single_slip_of_the_detector_does_not_matter_but_wavering_does() -> None:
    assert look([GONE] * 8 + [THERE] + [GONE] * 30) == Answer(verdict=Verdict.CLEAR, detail="")
    assert look([GONE, GONE, THERE] * 20) == Answer(verdict=Verdict.INCONCLUSIVE, detail="unsteady")


def test_a_hidden_place_is_inconclusive() -> None:
    assert look([HIDDEN] * 40) == Answer(verdict=Verdict.INCONCLUSIVE, detail="hidden")


@pytest.mark.parametrize("blind", list(Blindness))
def test_a_camera_that_cannot_be_believed_is_inconclusive(blind: Blindness) -> None:
    assert look([blind] * 60) == Answer(verdict=Verdict.INCONCLUSIVE, detail=blind.value)
    assert look([GONE, blind, blind] * 20) == Answer(verdict=Verdict.INCONCLUSIVE, detail=blind.value)


def test_a_camera_that_sends_nothing_is_offline() -> None:
    assert look([]) == Answer(verdict=Verdict.INCONCLUSIVE, detail="offline")


def test_it_is_answered_before_the_request_expires() -> None:
    made = check(expires_s=3)
    assert conclude(made, at(1.9), LOOK_S) is None
    assert conclude(made, at(2.0), LOOK_S) == Answer(verdict=Verdict.INCONCLUSIVE, detail="offline")


def test_two_looks_are_too_few_to_say_clear() -> None:
    assert look([GONE] * 2, every_s=5) == Answer(verdict=Verdict.INCONCLUSIVE, detail="offline")


def test_pictures_from_before_the_request_say_nothing() -> None:
    made = check()
    for index in range(20):
        made = add_look(made, GONE, None, at(0) - timedelta(seconds=index + 1))
    assert made.presences == ()
