"""The acceptance test tells good devices from bad ones by what they send."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from devices.model import Device
from gridwarden.certify import Heard, Result, Watch, judge, write_report
from kernel.settings import Settings

BEGAN = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
DEVICE = Device(
    id=uuid4(), code="smoke-1", kind="smoke_alarm", name="厨房", lon=120.1, lat=30.2, settings={"offline_after_s": 90.0}
)


def hear(
    at_s: float, message_id: str, seq: int, *, topic: str = "event", said_s: float | None = None, clock_s: float = 0.0
) -> Heard:
    said_at = BEGAN + timedelta(seconds=(at_s if said_s is None else said_s) + clock_s)
    body = {"v": 1, "id": message_id, "seq": seq, "at": said_at.isoformat(), "status": "self_test"}
    return Heard(
        at_s, f"gridwarden/smoke_alarm/smoke-1/{topic}", json.dumps(body).encode(), BEGAN + timedelta(seconds=at_s)
    )


def good(clock_s: float = 0.0) -> Watch:
    """Two events, each repeated once and then receipted; a heartbeat a minute; back 2 s after its connection was lost."""
    watch = Watch(duration_s=240.0, kicked_s=120.0, returned_s=122.0)
    for number, at_s in enumerate((10.0, 130.0)):
        watch.heard += [
            hear(at_s, f"e{number}", 10 + number * 4, clock_s=clock_s),
            hear(at_s + 1.1, f"e{number}", 10 + number * 4, said_s=at_s, clock_s=clock_s),
        ]
        watch.receipts.append((at_s + 1.2, f"e{number}"))
    for beat in range(4):
        watch.heard.append(hear(40.0 + beat * 60, f"t{beat}", 11 + beat * 2, topic="telemetry", clock_s=clock_s))
    watch.heard.sort(key=lambda heard: heard.at_s)
    return watch


def results(watch: Watch) -> dict[str, Result]:
    return {check.name: check.result for check in judge(watch, DEVICE, Settings())}


def test_a_device_that_keeps_the_contract_passes_everything() -> None:
    assert set(results(good()).values()) == {Result.PASSED}


def drop_repeats(watch: Watch) -> None:
    seen: set[str] = set()
    kept = []
    for heard in watch.heard:
        message_id = json.loads(heard.payload)["id"]
        if message_id not in seen:
            seen.add(message_id)
            kept.append(heard)
    watch.heard, watch.receipts = kept, []


def repeat_after_receipt(watch: Watch) -> None:
    watch.heard.append(hear(20.0, "e0", 10, said_s=10.0))
    watch.heard.sort(key=lambda heard: heard.at_s)


def fall_silent(watch: Watch) -> None:
    watch.heard = [heard for heard in watch.heard if heard.at_s < 60]


def stay_away(watch: Watch) -> None:
    watch.returned_s = None
    watch.heard = [heard for heard in watch.heard if heard.at_s < 120]


def reuse_an_id(watch: Watch) -> None:
    watch.heard.append(hear(200.0, "e0", 99))


def send_nonsense(watch: Watch) -> None:
    watch.heard.append(Heard(50.0, "gridwarden/smoke_alarm/smoke-1/event", b"{nonsense", BEGAN))


@pytest.mark.parametrize(
    ("spoil", "failed"),
    [
        (drop_repeats, "repeats"),
        (repeat_after_receipt, "receipts"),
        (fall_silent, "heartbeat"),
        (stay_away, "reconnect"),
        (reuse_an_id, "ids"),
        (send_nonsense, "messages"),
    ],
)
def test_each_fault_is_found_by_its_own_check(spoil: Callable[[Watch], None], failed: str) -> None:
    watch = good()
    spoil(watch)
    assert results(watch)[failed] is Result.FAILED


def test_a_clock_ten_minutes_off_fails_and_the_offset_is_said() -> None:
    watch = good(clock_s=-600.0)
    clock = next(check for check in judge(watch, DEVICE, Settings()) if check.name == "clock")
    assert clock.result is Result.FAILED
    assert "+600.0 s" in clock.detail


def test_nothing_heard_fails_the_heartbeat_and_shows_nothing_else() -> None:
    found = results(Watch(duration_s=240.0))
    assert found["heartbeat"] is Result.FAILED
    assert found["repeats"] is Result.NOT_SHOWN


def test_another_client_id_than_the_code_is_told_from_a_device_that_stays_away() -> None:
    watch = good()
    watch.returned_s = None  # nobody took the id back, and the device talked on
    assert results(watch)["reconnect"] is Result.NOT_SHOWN


def test_the_report_says_the_verdict_in_both_languages() -> None:
    watch = good()
    stay_away(watch)
    text = write_report(DEVICE, judge(watch, DEVICE, Settings()), watch, BEGAN)
    assert "不合格 / failed" in text
    assert "| 断线自动重连 / Comes back when its connection is lost | 不合格 / failed |" in text
