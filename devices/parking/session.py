"""Sessions are what follows from a lot's passages taken in order of time, and nothing else. Pure.

A passage that comes late is put in its place: everything from its instant on is replayed, so that the sessions are the
same whatever the order in which passages came (`rewind`, then `replay`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal
from uuid import UUID

from devices.parking.plate import find_plate

DOUBLE_READ = timedelta(seconds=60)  # the same plate again in the same direction within it: the same car, read twice


class SessionState(StrEnum):
    """How a stay stands."""

    OPEN = "open"  # inside
    LEFT = "left"
    UNMATCHED = "unmatched"  # left, and nobody knows when it came: a person decides
    NO_EXIT = "no_exit"  # came again without having been seen to leave
    WAIVED = "waived"  # unmatched, and a person decided that nothing follows from it


class MatchedBy(StrEnum):
    """How the exit was brought together with its entry."""

    PLATE = "plate"
    SIMILAR = "similar"  # one character was read differently
    PERSON = "person"


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A vehicle that drove through a gate. `plate` as read, cleaned; '' when it could not be read."""

    id: UUID
    device_id: UUID
    direction: Literal["in", "out"]
    plate: str
    at: datetime
    colour: str | None = None
    confidence_pct: float | None = None
    paid: str | None = None  # what the gate says about payment: none, paid, deferred, unpaid
    fee_fen: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One stay. Its id is that of its first passage."""

    id: UUID
    state: SessionState
    plate: str
    colour: str | None = None
    entered_at: datetime | None = None
    left_at: datetime | None = None
    ended_at: datetime | None = None
    exit_id: UUID | None = None
    exit_plate: str | None = None
    matched_by: MatchedBy | None = None
    paid: str | None = None
    fee_fen: int | None = None

    @property
    def began_at(self) -> datetime:
        """Instant of the first passage."""
        at = self.entered_at or self.left_at
        assert at is not None
        return at


def rewind(sessions: Iterable[Session], to: datetime) -> list[Session]:
    """What these sessions were just before `to`: later ones gone, those that ended since open again."""
    found = []
    for session in sessions:
        if session.began_at >= to:
            continue
        if session.ended_at is not None and session.ended_at >= to:
            session = Session(
                id=session.id,
                state=SessionState.OPEN,
                plate=session.plate,
                colour=session.colour,
                entered_at=session.entered_at,
            )
        found.append(session)
    return found


def replay(
    before: Iterable[Session], passages: Iterable[Passage], choices: Mapping[UUID, UUID | None]
) -> dict[UUID, Session]:
    """The sessions after `passages` (in any order), begun with those of `before`.

    `choices`: by exit, the entry that a person said it belongs to, or None when they said that it belongs to none.
    """
    lot = _Lot(before)
    for passage in sorted(passages, key=lambda p: (p.at, p.id)):
        if passage.direction == "in":
            lot.enter(passage)
        else:
            lot.leave(passage, choices)
    return lot.sessions


def find_session(plate: str, inside: Sequence[Session]) -> Session | None:
    """The open session of a vehicle at the exit, by its plate or one character beside it; None unless exactly one."""
    same = next((s for s in inside if plate and s.plate == plate), None)
    if same is not None:
        return same
    found = find_plate(plate, {s.plate for s in inside})
    return next((s for s in inside if found is not None and s.plate == found), None)


class _Lot:
    """Who is inside, and who just left, while passages are taken one after the other."""

    def __init__(self, before: Iterable[Session]) -> None:
        self.sessions = {session.id: session for session in before}
        self._inside = {s.plate: s.id for s in self.sessions.values() if s.state is SessionState.OPEN and s.plate}
        self._left = {
            s.id: s.left_at
            for s in self.sessions.values()
            if s.state is not SessionState.OPEN and s.left_at is not None
        }

    def enter(self, passage: Passage) -> None:
        """A vehicle came. One that is inside already was not seen leaving, unless it was only read twice."""
        known_id = self._inside.get(passage.plate)
        if known_id is not None:
            known = self.sessions[known_id]
            assert known.entered_at is not None
            if passage.at - known.entered_at <= DOUBLE_READ:
                return
            self.sessions[known_id] = replace(known, state=SessionState.NO_EXIT, ended_at=passage.at)
        self.sessions[passage.id] = Session(
            id=passage.id,
            state=SessionState.OPEN,
            plate=passage.plate,
            colour=passage.colour,
            entered_at=passage.at,
        )
        if passage.plate:
            self._inside[passage.plate] = passage.id

    def leave(self, passage: Passage, choices: Mapping[UUID, UUID | None]) -> None:
        """A vehicle left: by a person's word, by its plate, by a plate one character beside it, or unmatched."""
        if passage.id in choices:
            entry = self.sessions.get(choices[passage.id] or passage.id)
            if entry is not None and entry.state is SessionState.OPEN:
                self._end(entry, passage, MatchedBy.PERSON)
            else:
                state = SessionState.UNMATCHED if choices[passage.id] else SessionState.WAIVED
                self._leave_unmatched(passage, state)
            return
        known_id = self._inside.get(passage.plate)
        if known_id is not None:
            self._end(self.sessions[known_id], passage, MatchedBy.PLATE)
            return
        just_left = self._find_just_left(passage.at)
        if passage.plate and passage.plate in just_left:
            return
        found = find_plate(passage.plate, self._inside.keys() | just_left)
        if found in just_left and found not in self._inside:
            return  # the same car, read once more and wrongly
        if found is not None:
            self._end(self.sessions[self._inside[found]], passage, MatchedBy.SIMILAR)
        else:
            self._leave_unmatched(passage, SessionState.UNMATCHED)

    def _find_just_left(self, at: datetime) -> set[str]:
        """Plates, as read either way, of those that left within a double reading."""
        for session_id in [i for i, left_at in self._left.items() if at - left_at > DOUBLE_READ]:
            del self._left[session_id]
        left = [self.sessions[session_id] for session_id in self._left]
        return {plate for s in left for plate in (s.plate, s.exit_plate) if plate}

    def _end(self, session: Session, passage: Passage, matched_by: MatchedBy) -> None:
        if self._inside.get(session.plate) == session.id:
            del self._inside[session.plate]
        self._left[session.id] = passage.at
        self.sessions[session.id] = replace(
            session,
            state=SessionState.LEFT,
            left_at=passage.at,
            ended_at=passage.at,
            exit_id=passage.id,
            exit_plate=passage.plate,
            matched_by=matched_by,
            paid=passage.paid,
            fee_fen=passage.fee_fen,
        )

    def _leave_unmatched(self, passage: Passage, state: SessionState) -> None:
        self._left[passage.id] = passage.at
        self.sessions[passage.id] = Session(
            id=passage.id,
            state=state,
            plate=passage.plate,
            colour=passage.colour,
            left_at=passage.at,
            ended_at=passage.at,
            exit_id=passage.id,
            exit_plate=passage.plate,
            matched_by=MatchedBy.PERSON if state is SessionState.WAIVED else None,
            paid=passage.paid,
            fee_fen=passage.fee_fen,
        )
