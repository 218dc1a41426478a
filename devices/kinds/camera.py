"""Camera (摄像机): its health as the vision worker sees it, or as the camera itself says by MQTT.

Rule: no picture for too long (gone), a dark one without contrast (black), the same picture for too long (frozen), a lens that is
covered or out of focus, a view that moved, too few pictures (slow), time stamps that run wrong (clock).
"""

import random
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field

from devices.model import (
    Alarm,
    DeviceKind,
    DeviceSettings,
    DeviceStatus,
    Instant,
    JsonState,
    Message,
    Metric,
    Payload,
    Rule,
    Text,
    TopicKind,
    draw_envelope,
    every_topic,
    instant_text,
    read_state_instant,
    seconds_between,
    write_instant,
)


class CameraPayload(Payload):
    """Health: telemetry and state. Brightness is the mean, contrast the standard deviation of luma, both 0 to 255."""

    frame_age_s: float | None = Field(default=None, ge=0, description="age of the newest frame; absent: none ever came")
    fps: float | None = Field(default=None, ge=0, le=1000)
    luma: float | None = Field(default=None, ge=0, le=255)
    contrast: float | None = Field(default=None, ge=0, le=255)
    frozen_s: float | None = Field(
        default=None, ge=0, description="frames come, the picture has not changed for so long"
    )
    covered_s: float | None = Field(default=None, ge=0, description="the lens is covered for so long")
    blurred_s: float | None = Field(default=None, ge=0, description="the picture is blurred for so long")
    moved_s: float | None = Field(default=None, ge=0, description="it shows another view for so long")
    clock_error_s: float | None = Field(
        default=None, description="by how much its time stamps ran ahead of the time in the last minute"
    )
    looks_per_s: float | None = Field(default=None, ge=0, le=1000, description="looks of the detector a second")
    skipped_fps: float | None = Field(
        default=None, ge=0, le=1000, description="looks a second that were wanted and that the detector had no time for"
    )


class CameraEvent(Payload):
    """An alarm of the camera itself, fields as in GB/T 28181; kept, judged by no rule yet."""

    gb_device_id: str | None = Field(default=None, pattern=r"^\d{20}$")
    priority: int = Field(ge=1, le=4)
    method: int = Field(ge=1, le=7, description="1 phone 2 device 3 SMS 4 GPS 5 video 6 device fault 7 other")
    alarm_type: int | None = Field(default=None, ge=0, le=999)
    description: Text = ""
    lon: float | None = Field(default=None, ge=-180, le=180)
    lat: float | None = Field(default=None, ge=-90, le=90)
    taken_at: Instant | None = None


class CameraSettings(DeviceSettings):
    """Limits are this project's own values."""

    offline_after_s: float = Field(default=60.0, gt=0)
    gone_s: float = Field(default=15.0, gt=0, description="no frame for so long: gone")
    frozen_limit_s: float = Field(default=30.0, gt=0, description="the same picture for so long: frozen")
    black_luma: float = Field(default=16.0, ge=0, le=255, description="darker than this …")
    black_contrast: float = Field(default=8.0, ge=0, le=255, description="… and flatter than this: black")
    covered_limit_s: float = Field(default=20.0, gt=0, description="covered for so long")
    blurred_limit_s: float = Field(default=20.0, gt=0, description="blurred for so long")
    moved_limit_s: float = Field(default=30.0, gt=0, description="another view for so long: moved")
    min_fps: float = Field(default=1.0, ge=0, le=1000, description="fewer pictures a second than this …")
    slow_limit_s: float = Field(default=20.0, ge=0, description="… for so long: slow")
    clock_limit_s: float = Field(default=5.0, gt=0, description="so many seconds wrong in a minute: its clock is wrong")
    hold_s: float = Field(default=5.0, ge=0, description="wrong for so long before the alarm")
    clear_s: float = Field(default=5.0, ge=0, description="right for so long before it is over")


def find_trouble(payload: CameraPayload, settings: CameraSettings) -> str | None:
    """gone, black, frozen, covered, blurred, moved, slow or clock, in this order; None when the picture is fine."""
    if payload.frame_age_s is None or payload.frame_age_s >= settings.gone_s:
        return "gone"
    dark = payload.luma is not None and payload.luma < settings.black_luma
    if dark and payload.contrast is not None and payload.contrast < settings.black_contrast:
        return "black"
    if payload.frozen_s is not None and payload.frozen_s >= settings.frozen_limit_s:
        return "frozen"
    for trouble, lasting_s, limit_s in (
        ("covered", payload.covered_s, settings.covered_limit_s),
        ("blurred", payload.blurred_s, settings.blurred_limit_s),
        ("moved", payload.moved_s, settings.moved_limit_s),
    ):
        if lasting_s is not None and lasting_s >= limit_s:
            return trouble
    if payload.fps is not None and payload.fps < settings.min_fps:
        return "slow"
    if payload.clock_error_s is not None and abs(payload.clock_error_s) >= settings.clock_limit_s:
        return "clock"
    return None


def step_picture(
    state: JsonState, message: Message | None, now: datetime, settings: CameraSettings, timezone: str
) -> tuple[JsonState, list[Alarm]]:
    """Trouble that lasts `hold_s` raises, a fine picture for `clear_s` ends it; what the trouble is may change within."""
    del now, timezone
    seen_at = read_state_instant(state, "seen_at")
    if message is None or not isinstance(message.payload, CameraPayload):
        return state, []
    at = message.measured_at
    if seen_at is not None and at < seen_at:
        return state, []
    trouble = find_trouble(message.payload, settings)
    active = bool(state.get("active"))
    new: JsonState = {**state, "seen_at": instant_text(at)}
    if (trouble is not None) == active:
        new.pop("turning_at", None)
        return new, []
    turning_at = read_state_instant(state, "turning_at") or at
    hold_s = (
        settings.clear_s if active else {"black": settings.hold_s, "slow": settings.slow_limit_s}.get(trouble or "", 0)
    )
    # The others have waited for their own limits already.
    if seconds_between(turning_at, at) < hold_s:
        new["turning_at"] = instant_text(turning_at)
        return new, []
    new.pop("turning_at", None)
    new["active"] = not active
    if not active:
        new["began_at"] = instant_text(turning_at)
    began_at = read_state_instant(new, "began_at") or at
    values = {"frame_age_s": message.payload.frame_age_s, "luma": message.payload.luma}
    values |= {"contrast": message.payload.contrast, "frozen_s": message.payload.frozen_s}
    values |= {"covered_s": message.payload.covered_s, "blurred_s": message.payload.blurred_s}
    values |= {"moved_s": message.payload.moved_s, "fps": message.payload.fps}
    values |= {"clock_error_s": message.payload.clock_error_s}
    detail: dict[str, Any] = {name: round(value, 1) for name, value in values.items() if value is not None}
    alarm = Alarm(
        rule="camera_fault",
        category="camera_fault",
        cause=write_instant(began_at),
        raised=not active,
        occurred_at=at,
        detail=({"reason": trouble} if trouble else {}) | detail,
    )
    return new, [alarm]


def make_health(
    now: datetime,
    *,
    frame_age_s: float | None,
    fps: float | None = None,
    luma: float | None = None,
    contrast: float | None = None,
    frozen_s: float | None = None,
    covered_s: float | None = None,
    blurred_s: float | None = None,
    moved_s: float | None = None,
    clock_error_s: float | None = None,
    looks_per_s: float | None = None,
    skipped_fps: float | None = None,
) -> Message:
    """A health message as the vision worker makes it, about the instant `now`."""
    payload = CameraPayload(
        v=1,
        id=f"health-{int(now.timestamp() * 1000)}",
        at=now,
        frame_age_s=frame_age_s,
        fps=fps,
        luma=luma,
        contrast=contrast,
        frozen_s=frozen_s,
        covered_s=covered_s,
        blurred_s=blurred_s,
        moved_s=moved_s,
        clock_error_s=clock_error_s,
        looks_per_s=looks_per_s,
        skipped_fps=skipped_fps,
    )
    return Message(
        topic_kind=TopicKind.STATE, id=payload.id, seq=None, measured_at=now, received_at=now, payload=payload
    )


def read_heard_at(message: Message) -> datetime | None:
    """A camera is heard when a frame of it arrives, not when somebody reports that none does."""
    if not isinstance(message.payload, CameraPayload):
        return message.received_at
    if message.payload.frame_age_s is None:
        return None
    return message.received_at - timedelta(seconds=min(message.payload.frame_age_s, 10**9))


METRICS = (
    Metric(name="fps", unit="fps", title_zh="帧率", title_en="Frame rate"),
    Metric(name="luma", unit="", title_zh="亮度", title_en="Brightness"),
    Metric(name="contrast", unit="", title_zh="对比度", title_en="Contrast"),
    Metric(name="frame_age_s", unit="s", title_zh="画面滞后", title_en="Age of the picture"),
    Metric(name="frozen_s", unit="s", title_zh="画面静止", title_en="Picture unchanged"),
    Metric(name="covered_s", unit="s", title_zh="镜头被挡", title_en="Lens covered"),
    Metric(name="blurred_s", unit="s", title_zh="画面模糊", title_en="Picture blurred"),
    Metric(name="moved_s", unit="s", title_zh="镜头移位", title_en="Camera moved"),
    Metric(name="clock_error_s", unit="s", title_zh="时钟误差", title_en="Clock error"),
    Metric(name="looks_per_s", unit="fps", title_zh="识别帧率", title_en="Looks a second"),
    Metric(name="skipped_fps", unit="fps", title_zh="跳过帧率", title_en="Looks skipped a second"),
)


def read_readings(payload: Payload) -> dict[str, float]:
    """Numbers of the payload by metric."""
    if not isinstance(payload, CameraPayload):
        return {}
    return {m.name: float(v) for m in METRICS if (v := getattr(payload, m.name)) is not None}


def read_status(payload: Payload) -> DeviceStatus | None:
    """Offline when no frame comes; otherwise the rule says."""
    if not isinstance(payload, CameraPayload):
        return None
    gone = payload.frame_age_s is None or payload.frame_age_s >= CameraSettings().gone_s
    return DeviceStatus.OFFLINE if gone else DeviceStatus.OK


def draw_sample(rng: random.Random, now: datetime, topic_kind: TopicKind) -> dict[str, Any]:
    """A camera in daylight; as an event, a video alarm."""
    envelope = draw_envelope(rng, now - timedelta(milliseconds=rng.randrange(200)))
    if topic_kind is TopicKind.EVENT:
        return envelope | {"priority": rng.randint(1, 4), "method": 5, "alarm_type": 2, "description": "移动侦测"}
    return envelope | {
        "frame_age_s": round(rng.uniform(0.0, 0.4), 2),
        "fps": round(rng.uniform(4.5, 5.5), 1),
        "luma": round(rng.uniform(80, 150), 1),
        "contrast": round(rng.uniform(30, 60), 1),
        "frozen_s": 0.0,
    }


KIND = DeviceKind(
    name="camera",
    title_zh="摄像机",
    title_en="Camera",
    payloads=every_topic(CameraPayload, event=CameraEvent),
    settings=CameraSettings,
    metrics=METRICS,
    readings=read_readings,
    status=read_status,
    heard_at=read_heard_at,
    rules=(
        Rule(
            name="camera_fault",
            category="camera_fault",
            title_zh="摄像机故障",
            title_en="Camera fault",
            step=step_picture,
            status=DeviceStatus.FAULT,
        ),
    ),
    symbol="camera",
    sample=draw_sample,
)
