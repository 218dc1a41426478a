"""How far a photograph is believed: every doubt takes its weight off and says why."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.proof import DOUBTS, SAME_LOOK_BITS, Gray, Shown, count_differing, hash_look, is_even, is_like, judge

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
GOOD = Shown(
    taken_at=NOW - timedelta(minutes=1), camera_time=None, offered_at=NOW - timedelta(hours=1), handled_at=NOW,
    distance_m=20.0, accuracy_m=10.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "code", "is_enough"),
    [
        ({"reused_in": "20261119-000007"}, "reused_file", False),
        ({"looks_like": "20261119-000007"}, "reused_look", False),
        ({"is_report_picture": True}, "same_as_report", False),
        ({"taken_at": NOW - timedelta(minutes=63)}, "before_task", False),
        ({"taken_at": NOW - timedelta(minutes=16)}, "not_now", True),
        ({"camera_time": "2026:11:20 11:20:00"}, "camera_time_differs", True),
        ({"distance_m": 701.0, "accuracy_m": 100.0}, "far_away", False),
        ({"distance_m": 120.0}, "not_at_place", True),
        ({"distance_m": None}, "not_at_place", True),
        ({"is_even": True}, "nothing_to_see", True),
        ({"is_like_first": False}, "unlike_first", True),
        ({"is_readable": False}, "unreadable", True),
    ],
)
def test_each_doubt_lowers_the_score_by_its_weight(changes: dict[str, Any], code: str, is_enough: bool) -> None:
    judged = judge(replace(GOOD, **changes))
    assert [doubt.code for doubt in judged.doubts] == [code]
    assert judged.score == pytest.approx(1 - judged.doubts[0].weight)
    assert judged.is_enough is is_enough


def test_small_doubts_add_up_and_none_is_a_full_score() -> None:
    assert judge(GOOD).score == 1.0
    # A time zone apart, an inaccurate position, no first photograph: nothing to doubt.
    assert judge(replace(GOOD, camera_time="2026:11:20 15:59:10", distance_m=180.0, accuracy_m=500.0)).doubts == ()
    assert not judge(replace(GOOD, distance_m=120.0, taken_at=NOW - timedelta(minutes=20))).is_enough


@given(
    st.builds(
        Shown, taken_at=st.datetimes(timezones=st.just(UTC)), camera_time=st.one_of(st.none(), st.text(max_size=20)),
        offered_at=st.none(), handled_at=st.just(NOW), distance_m=st.one_of(st.none(), st.floats(0, 1e6)),
        accuracy_m=st.one_of(st.none(), st.floats()), reused_in=st.none(), looks_like=st.sampled_from([None, "7"]),
        is_readable=st.booleans(), is_even=st.booleans(), is_like_first=st.sampled_from([None, True, False]),
    )
)  # fmt: skip
def test_whatever_a_phone_says_the_score_is_one_and_its_doubts_have_names(shown: Shown) -> None:
    judged = judge(shown)
    assert 0 <= judged.score <= 1
    assert {doubt.code for doubt in judged.doubts} <= set(DOUBTS)


# ------------------------------------------------------------------------------------------------ pictures


def scene(seed: int) -> Gray:
    """Something with corners: random coarse shapes."""
    chance = np.random.default_rng(seed)
    picture = np.full((480, 640), 120, np.uint8)
    for _ in range(60):
        x, y = chance.integers(0, 600), chance.integers(0, 440)
        w, h = chance.integers(10, 120, 2)
        cv2.rectangle(picture, (int(x), int(y)), (int(x + w), int(y + h)), int(chance.integers(0, 255)), -1)
    return picture


def save(picture: Gray, quality: int) -> Gray:
    return np.asarray(
        cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE),
        np.uint8,
    )


def test_a_look_survives_saving_shrinking_and_brightening_and_tells_others_apart() -> None:
    first = hash_look(scene(1))
    assert first is not None
    for again in (
        save(scene(1), 40), np.asarray(cv2.resize(scene(1), (320, 240), interpolation=cv2.INTER_AREA), np.uint8),
        np.asarray(np.clip(scene(1).astype(int) + 20, 0, 255), np.uint8),
    ):  # fmt: skip
        look = hash_look(again)
        assert look is not None and count_differing(first, look) <= SAME_LOOK_BITS
    looks = [hash_look(scene(seed)) for seed in range(2, 32)]
    assert all(look is not None and count_differing(first, look) > 2 * SAME_LOOK_BITS for look in looks)


def test_a_wall_or_the_dark_has_nothing_to_see_and_no_look() -> None:
    dark = np.asarray(np.random.default_rng(1).normal(20, 3, (480, 640)).clip(0, 255), np.uint8)
    assert is_even(dark) and hash_look(dark) is None
    assert not is_even(scene(1))


def test_the_same_place_from_a_step_aside_is_alike_and_another_place_is_not() -> None:
    here = scene(1)
    turned = cv2.getRotationMatrix2D((320, 240), 6, 1.15)
    aside = np.asarray(cv2.warpAffine(here, turned, (640, 480), borderMode=cv2.BORDER_REFLECT), np.uint8)
    assert is_like(save(aside, 80), here)
    assert not is_like(scene(2), here)
    assert not is_like(np.zeros((480, 640), np.uint8), here)
