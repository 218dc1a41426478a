"""Short form of the drill about cameras (tests/drills/camera.py); full length by `scripts/drill camera`."""

import pytest

from tests.drills.camera import (
    SHORT,
    break_cameras,
    change_size,
    half_open,
    kill_child,
    reboot,
    reconnect_many,
    wrong_codec,
)

pytestmark = pytest.mark.drill


def test_cameras_and_captures_break_in_every_way_and_a_camera_beside_them_never_notices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingest.capturing.SILENCE_S", 2.0)
    verdict = break_cameras(
        SHORT, (half_open, wrong_codec, change_size, reboot, reconnect_many, kill_child), at_once=6
    )  # fmt: skip
    assert verdict.holds, "\n".join(verdict.lines())
