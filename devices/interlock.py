"""Interlocks that more than one kind uses, and how all of a command's are judged. Pure; whatever is not known is not ok."""

from collections.abc import Callable
from datetime import datetime

from pydantic import BaseModel

from devices.model import (
    CommandType,
    DeviceState,
    DeviceStatus,
    Interlock,
    Judge,
    Relation,
    Situation,
    WhenOffline,
    instant_text,
    read_state_instant,
    seconds_between,
)

CLOCK_LIMIT_S = 30.0
"""A device whose clock is farther off than this judges a command's expiry wrongly."""
CAMERA_FRESH_S = 60.0
"""A camera that has not looked for people for so long does not watch the place."""
PRESENCE_S = 30.0
"""People seen in the zone so long ago still count."""
_BLIND = (DeviceStatus.FAULT, DeviceStatus.OFFLINE, DeviceStatus.UNKNOWN)


def judge_all(command: CommandType, situation: Situation, parameters: BaseModel | None) -> tuple[Interlock, ...]:
    """Every interlock of the command that applies, in order. `parameters` None: before they are chosen."""
    judges = (judge_heard, judge_lock, *command.interlocks)
    found = []
    for judge in judges:
        if judge is judge_heard and command.when_offline is WhenOffline.WAIT:
            continue
        if judge is judge_lock and command.halts:
            continue
        interlock = judge(situation, parameters)
        if interlock is not None:
            found.append(interlock)
    return tuple(found)


def value_of(state: DeviceState, metric: str) -> float | None:
    """The newest value of a metric."""
    value = state.metrics.get(metric, {}).get("value")
    return float(value) if value is not None else None


def measured_since(state: DeviceState, metric: str, since: datetime) -> float | None:
    """The newest value of a metric when it was measured at or after `since`, else None."""
    at = read_state_instant(state.metrics.get(metric, {}), "at")
    return value_of(state, metric) if at is not None and at >= since else None


def judge_heard(situation: Situation, parameters: object) -> Interlock:
    """The device is heard."""
    del parameters
    seen_at = situation.state.last_seen_at
    return Interlock(
        code="device_heard",
        ok=situation.heard,
        params={"last_seen_at": instant_text(seen_at) if seen_at is not None else None},
    )


def judge_lock(situation: Situation, parameters: object) -> Interlock:
    """Nobody works at the device."""
    del parameters
    if not situation.locks:
        return Interlock(code="no_maintenance_lock", ok=True)
    lock = situation.locks[0]
    params = {"reason": lock.reason, "locked_by": lock.locked_by, "locked_at": instant_text(lock.locked_at)}
    return Interlock(code="no_maintenance_lock", ok=False, params=params)


def judge_clock(situation: Situation, parameters: object) -> Interlock | None:
    """The device's clock is right enough for it to see that a command has expired."""
    del parameters
    offset_s = situation.state.clock_offset_s
    if offset_s is None:
        return None
    params = {"offset_s": round(offset_s, 1), "limit_s": CLOCK_LIMIT_S}
    return Interlock(code="clock_right", ok=abs(offset_s) <= CLOCK_LIMIT_S, params=params)


def judge_fresh(limit_s: Callable[[Situation], float], *metrics: str) -> Judge:
    """The readings that the other interlocks look at are new enough to be trusted, by our clock."""

    def judge(situation: Situation, parameters: object) -> Interlock:
        del parameters
        most_s = limit_s(situation)
        ages_s = [age_of(situation.state, metric, situation.now) for metric in metrics]
        known = [age_s for age_s in ages_s if age_s is not None]
        oldest_s = max(known) if len(known) == len(metrics) else None
        ok = oldest_s is not None and oldest_s <= most_s and min(known) >= -CLOCK_LIMIT_S
        age_s = None if oldest_s is None else round(oldest_s, 1)
        return Interlock(code="readings_fresh", ok=ok, params={"age_s": age_s, "limit_s": most_s})

    return judge


def age_of(state: DeviceState, metric: str, now: datetime) -> float | None:
    """Seconds since a metric was measured; None when it never was."""
    at = read_state_instant(state.metrics.get(metric, {}), "at")
    return seconds_between(at, now) if at is not None else None


def judge_remote(situation: Situation, parameters: object) -> Interlock:
    """The switch at the device stands on remote. A device that does not say where it stands obeys it itself."""
    del parameters
    local = value_of(situation.state, "local_control")
    return Interlock(code="remote_control", ok=not local, params={"known": local is not None})


def judge_fault(metric: str) -> Judge:
    """The device reports no fault of its drive (`metric` 1)."""

    def judge(situation: Situation, parameters: object) -> Interlock:
        del parameters
        return Interlock(code="no_fault", ok=not value_of(situation.state, metric))

    return judge


def judge_zone(situation: Situation, parameters: object) -> Interlock | None:
    """The cameras that watch the place see nobody there; they must see at all. Applies where cameras are related."""
    del parameters
    cameras = situation.related.get(Relation.CAMERA, {})
    if not cameras:
        return None
    for code, state in cameras.items():
        if state is None or state.status in _BLIND or code not in situation.watched:
            return Interlock(code="zone_watched", ok=False, params={"camera": code})
    for presence in situation.presences:
        if presence.camera in cameras and seconds_between(presence.seen_at, situation.now) <= PRESENCE_S:
            params = {"camera": presence.camera, "zone": presence.zone, "seen_at": instant_text(presence.seen_at)}
            return Interlock(code="nobody_in_zone", ok=False, params=params)
    return Interlock(code="nobody_in_zone", ok=True, params={"cameras": sorted(cameras)})
