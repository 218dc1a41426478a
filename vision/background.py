"""The slow background of one camera: what its picture looks like without what came in the last minutes.

Kept as a grey thumbnail. Light is followed within a minute; a thing that was set down stays "changed" for `ABSORB_S`, so
that a rule of minutes can ask about it, and only then belongs to the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import cv2
import numpy as np
from numpy.typing import NDArray

from vision.model import Box
from vision.motion import THUMBNAIL, Grey, Grey32

Mask = NDArray[np.uint8]

LEARN_S = 20.0
"""So long pictures are collected first; their median leaves out what passes by."""

LEARN_EVERY_S = 1.0
FOLLOW_S = 60.0
"""Time constant with which unchanged places follow the light."""

ABSORB_S = 1800.0
"""What stood for this long is the background."""

BARE_S = 12.0
STILL_LEVELS = 24
BOX_MARGIN = 0.15
"""Of a box's size: shadows and halos belong to the thing."""

CHANGED_LEVELS = 16.0
"""Grey levels, after the light was taken out, from which a point differs: above noise, rain and H.264."""

LIGHT_POINTS = 61
"""Side of the square over which the change of light is averaged: wider than litter, a person or a bin."""

FLOOD_SHARE = 0.45
FLOOD_S = 60.0
"""So much of the picture changed for so long: this is another light or another view, so everything is learnt anew.
A bus that fills the picture is gone before."""

MIN_LEARN_PICTURES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class BackgroundState:
    """The background (None while it is being learnt), since when it is known, for how long each point differs, and what
    of it is doubtful."""

    grey: Grey32 | None = None
    learnt_at: datetime | None = None
    changed_s: Grey32 | None = None
    doubtful: Mask | None = None
    """(180, 320) of 0 and 1: where something was seen while the background was learnt."""
    bare_s: Grey32 | None = None
    before: Grey | None = None
    fed_at: datetime | None = None
    flooded_since_at: datetime | None = None
    collected: tuple[Grey, ...] = ()
    collecting_since_at: datetime | None = None


def learn_background(
    state: BackgroundState, thumbnail: Grey, now: datetime, occupied: Sequence[Box] = ()
) -> BackgroundState:
    """Feed one thumbnail; called as often as pictures come, works once a second. Only with pictures to be believed.

    `occupied`: where things are seen. What stood there while the background was learnt is in it; once nothing is seen at
    such a place and nothing moves for `BARE_S`, the place as it is then takes its stead.
    """
    if state.fed_at is not None and 0 <= (now - state.fed_at).total_seconds() < LEARN_EVERY_S:
        return state
    if state.grey is None or state.changed_s is None or state.fed_at is None:
        return _collect(state, thumbnail, now, occupied)
    elapsed_s = min(max(0.0, (now - state.fed_at).total_seconds()), 5.0)
    mask = find_changes(state.grey, thumbnail)
    if float(mask.mean()) >= FLOOD_SHARE:
        since_at = state.flooded_since_at or now
        if (now - since_at).total_seconds() >= FLOOD_S:
            return _collect(BackgroundState(), thumbnail, now, occupied)
        return replace(state, fed_at=now, flooded_since_at=since_at)
    # the inside of a large plain thing looks like the road: nothing near a change is learnt
    near = np.asarray(cv2.dilate(mask, np.ones((15, 15), np.uint8)), np.uint8)
    changed_s = np.where(near > 0, state.changed_s + elapsed_s, 0.0).astype(np.float32)
    weight = np.where(near > 0, 0.0, 1 - np.exp(-elapsed_s / FOLLOW_S)).astype(np.float32)
    bare_s = _count_bare(state, thumbnail, near, occupied, elapsed_s)
    bared = np.zeros(thumbnail.shape, bool) if bare_s is None else bare_s >= BARE_S
    absorbed = (changed_s >= ABSORB_S) | bared
    weight[absorbed] = 1.0
    changed_s[absorbed] = 0.0
    grey = state.grey + weight * (thumbnail.astype(np.float32) - state.grey)
    doubtful = None if state.doubtful is None else np.where(bared, 0, state.doubtful).astype(np.uint8)
    return replace(
        state,
        grey=np.asarray(grey, np.float32),
        changed_s=changed_s,
        doubtful=doubtful,
        bare_s=bare_s,
        before=thumbnail,
        fed_at=now,
        flooded_since_at=None,
    )


def _count_bare(
    state: BackgroundState, thumbnail: Grey, near: Mask, occupied: Sequence[Box], elapsed_s: float
) -> Grey32 | None:
    """For how long each doubtful point has differed from the background with nothing seen there and nothing moving."""
    if state.doubtful is None or state.before is None:
        return state.bare_s
    calm = (np.asarray(cv2.absdiff(thumbnail, state.before)) < STILL_LEVELS).astype(np.uint8)
    still = np.asarray(cv2.erode(cv2.medianBlur(calm, 5), np.ones((3, 3), np.uint8)), np.uint8)
    bare = (near > 0) & (still > 0) & (state.doubtful > 0) & (_draw_boxes(occupied) == 0)
    before_s = np.zeros(thumbnail.shape, np.float32) if state.bare_s is None else state.bare_s
    return np.where(bare, before_s + elapsed_s, 0.0).astype(np.float32)


def _draw_boxes(boxes: Sequence[Box]) -> Mask:
    """(180, 320) of 0 and 1: the boxes and a margin around them."""
    canvas = np.zeros((THUMBNAIL[1], THUMBNAIL[0]), np.uint8)
    for x1, y1, x2, y2 in boxes:
        wide, high = BOX_MARGIN * (x2 - x1), BOX_MARGIN * (y2 - y1)
        left, top = max(0, int((x1 - wide) * THUMBNAIL[0])), max(0, int((y1 - high) * THUMBNAIL[1]))
        right, bottom = max(0, int((x2 + wide) * THUMBNAIL[0]) + 1), max(0, int((y2 + high) * THUMBNAIL[1]) + 1)
        canvas[top:bottom, left:right] = 1
    return canvas


def find_changes(background: Grey32, thumbnail: Grey) -> Mask:
    """(180, 320) of 0 and 1: where the thumbnail differs from the background by more than light does."""
    difference = thumbnail.astype(np.float32) - background
    light = cv2.blur(np.clip(difference, -120, 120), (LIGHT_POINTS, LIGHT_POINTS))
    # by night the same thing differs less: what counts is also a share of the light there is
    limit = np.maximum(0.12 * background, CHANGED_LEVELS * np.clip(background / 64, 0.6, 1.0))
    changed = (np.abs(difference - light) > limit).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(changed, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)), np.uint8)


def _collect(state: BackgroundState, thumbnail: Grey, now: datetime, occupied: Sequence[Box]) -> BackgroundState:
    if state.collecting_since_at is not None and now < state.collecting_since_at:
        state = BackgroundState()  # the clock was set back: else pictures would pile up until it is there again
    since_at = state.collecting_since_at or now
    collected = (*state.collected, thumbnail)
    seen = _draw_boxes(occupied)
    doubtful = seen if state.doubtful is None else np.asarray(np.maximum(seen, state.doubtful), np.uint8)
    if (now - since_at).total_seconds() < LEARN_S or len(collected) < MIN_LEARN_PICTURES:
        return replace(state, collected=collected, collecting_since_at=since_at, doubtful=doubtful, fed_at=now)
    middle = np.median(np.stack(collected), axis=0).astype(np.float32)
    return BackgroundState(
        grey=middle, learnt_at=now, changed_s=np.zeros_like(middle), doubtful=doubtful, before=thumbnail, fed_at=now
    )
