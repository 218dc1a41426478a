"""How much of a stream is decoded: what the rules need, and under load no more than will be looked at.

While the detector cannot keep up, a camera whose turn comes no more often than its key pictures do is decoded at those alone.
That is never tried where something is being followed. Pure; time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ingest.decoding import Decode

SAVE_FROM, SAVE_AFTER_S = 1.0, 10.0
"""The wishes of all cameras, over what the detector can do: from there on it saves, once that has lasted."""

SPEND_FROM, SPEND_AFTER_S = 0.8, 30.0
"""Below it no more, once that has lasted."""

KEY_SHARE = 0.8
"""A camera's key pictures are enough when they come no later than its looks are due, or little later."""

FEW = 2.0
"""A stream with fewer pictures for each look than this may have too few that others refer to: all are decoded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thrift:
    """`since_s`: since when the load has asked for the other."""

    saving: bool = False
    since_s: float | None = None


def judge_load(state: Thrift, load: float, now_s: float) -> Thrift:
    """The new state. `load`: wishes over what can be done."""
    other = load <= SPEND_FROM if state.saving else load > SAVE_FROM
    if not other:
        return replace(state, since_s=None)
    since_s = now_s if state.since_s is None else state.since_s
    if now_s - since_s >= (SPEND_AFTER_S if state.saving else SAVE_AFTER_S):
        return Thrift(saving=not state.saving)
    return replace(state, since_s=since_s)


def choose_decode(
    *, watched: bool, saving: bool, urgent: bool, granted_s: float, key_every_s: float | None, few: bool
) -> Decode:
    """What to decode of one camera. `granted_s`: between two looks, by the scheduler; `key_every_s`: between two of its key
    pictures, None while that is not known; `few`: its stream has hardly more pictures than may be looked at."""
    if not watched:
        return Decode.KEY  # nothing is followed here: whether the picture can be believed is all that counts
    if saving and not urgent and key_every_s is not None and key_every_s * KEY_SHARE <= granted_s:
        return Decode.KEY
    return Decode.ALL if few and not saving else Decode.REFERENCED
