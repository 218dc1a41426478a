"""A device that is not heard: by reports it missed, or by a plain time; silent gateways are told apart from silent devices.

The three parameters are also the device's own settings of the same names, which win where they are set. While a rule of
this type acts on a device they decide when it shows as offline.
"""

from datetime import datetime, timedelta

from pydantic import Field

from devices.model import DeviceState, DeviceStatus, JsonState, instant_text, read_state_instant, seconds_between
from devices.rule_type import Damping, Moment, Parameters, RuleType, Span, Turn

_PATIENCE_S = 300.0  # a child of a silent gateway is looked at again at least so often


class OfflineParameters(Parameters):
    """Absent ones are left to the kind and the device."""

    offline_after_s: Span | None = Field(default=None, description="not heard for so long / 静默时长（秒）")
    report_period_s: Span | None = Field(default=None, description="it reports so often … / 上报周期（秒）")
    missed_reports: int | None = Field(default=None, ge=1, le=1000, description="… and missed so many / 漏报次数")


def judge(state: JsonState, moment: Moment, p: OfflineParameters) -> tuple[JsonState, Turn | None]:
    """Silence raises, the first message ends it. A child raises nothing while its gateway may be the cause.

    The gateway is the cause when it is silent itself, or was not heard since the child should have been: then the child
    waits, and after the gateway is back it has the whole of its own time again.
    """
    del p
    seen_at, began_at = moment.state.last_seen_at, read_state_instant(state, "began_at")
    if not moment.passing:
        heard_at = moment.kind.heard_at(moment.message) if moment.message is not None else moment.now
        if heard_at is None or not _is_fresh(heard_at, moment):
            return state, None
        return {}, Turn(False, began_at, moment.now, {}) if began_at is not None else None
    if began_at is not None or seen_at is None:
        return state, None
    silent_s = seconds_between(moment.heard_from(seen_at), moment.now)
    if silent_s <= moment.silent_after_s:
        return state, None
    held = _hold_by_gateway(state, seen_at, moment)
    if held is not None:
        return held, None
    detail = {"silent_s": round(silent_s, 1), "silent_after_s": moment.silent_after_s}
    new = {"began_at": instant_text(seen_at)}
    return new, Turn(True, seen_at, moment.now, detail)


def _is_fresh(heard_at: datetime, moment: Moment) -> bool:
    return seconds_between(heard_at, moment.now) <= moment.silent_after_s


def _hold_by_gateway(state: JsonState, seen_at: datetime, moment: Moment) -> JsonState | None:
    """The state to wait with while the gateway explains the silence; None when it does not."""
    parent = moment.parent
    if parent is None or parent.last_seen_at is None:
        return None
    if seconds_between(moment.heard_from(parent.last_seen_at), moment.now) > parent.silent_after_s:
        return {"gateway": parent.code, "down": True}
    if parent.last_seen_at <= seen_at:
        # Both fell silent together, and the gateway's own time is not over: its verdict decides.
        return {**state, "gateway": parent.code}
    if state.get("down"):
        return {"gateway": parent.code, "back_at": instant_text(moment.now)}
    back_at = read_state_instant(state, "back_at")
    return state if back_at and seconds_between(back_at, moment.now) <= moment.silent_after_s else None


def find_due(state: JsonState, moment: Moment, p: OfflineParameters) -> datetime | None:
    """When it has been silent for long enough; later while its gateway is waited for."""
    del p
    seen_at = moment.state.last_seen_at
    if seen_at is None or "began_at" in state:
        return None
    due_at = moment.heard_from(seen_at) + timedelta(seconds=moment.silent_after_s)
    if due_at > moment.now or "gateway" not in state:
        return due_at
    back_at = read_state_instant(state, "back_at")
    if back_at is not None:
        return back_at + timedelta(seconds=moment.silent_after_s)
    return moment.now + timedelta(seconds=min(_PATIENCE_S, moment.silent_after_s))


def seed(state: DeviceState, p: OfflineParameters) -> JsonState:
    """Nothing: when it was last heard stands in the device's state."""
    del state, p
    return {}


TYPE = RuleType(
    name="offline",
    title_zh="设备离线（漏报）",
    title_en="Device offline (reports missed)",
    parameters=OfflineParameters,
    judge=judge,
    due=find_due,
    timed=True,
    status=DeviceStatus.OFFLINE,
    category="device_offline",
    severity=3,
    damping=Damping(changes=4, span_s=3600.0),
)
