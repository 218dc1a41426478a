"""A battery or a signal that will reach its floor soon: a straight line through what was measured, in days."""

from datetime import datetime, timedelta

from pydantic import Field

from devices.model import DeviceStatus, JsonState, instant_text, read_state_instant, seconds_between
from devices.rule_type import MetricName, Moment, Parameters, RuleType, Turn, is_late

_MOST_POINTS = 60
_DAY_S = 86_400.0


class TrendParameters(Parameters):
    """`floor` and `jump` are in the metric's unit."""

    metric: MetricName = "battery_pct"
    floor: float = Field(default=10.0, ge=-1e9, le=1e9, description="the device fails here / 失效值")
    days_left: float = Field(default=30.0, gt=0, le=3650, description="alarm when it is reached so soon / 预计剩余天数")
    observed_days: float = Field(
        default=14.0, gt=0, le=365, description="the line is drawn through so many days / 观察天数"
    )
    jump: float = Field(default=20.0, gt=0, le=1e9, description="a rise like this is a new battery / 更换判据")


def fit_days_left(points: list[tuple[float, float]], floor: float) -> float | None:
    """Days from the last point until the least-squares line through (day, value) points falls to `floor`.

    0 when it is there; None when the line does not fall.
    """
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0:
        return None
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    now_value = mean_y + slope * (points[-1][0] - mean_x)
    if now_value <= floor:
        return 0.0
    return (floor - now_value) / slope if slope < 0 else None


def judge(state: JsonState, moment: Moment, p: TrendParameters) -> tuple[JsonState, Turn | None]:
    """Fewer than `days_left` raise, half as many more end it. Judged once half of `observed_days` is known."""
    value, at = moment.readings.get(p.metric), moment.at
    if moment.passing or value is None or is_late(state, at):
        return state, None
    points = [(datetime.fromisoformat(t), v) for t, v in state.get("points", [])]
    points = [(t, v) for t, v in points if seconds_between(t, at) <= p.observed_days * _DAY_S]
    if points and value - points[-1][1] >= p.jump:
        points = []
    # One point per sixtieth of the span; the newest always counts, and is kept when its time has come.
    step = timedelta(days=p.observed_days / _MOST_POINTS)
    if not points or at - points[-1][0] >= step:
        points.append((at, value))
    new: JsonState = {**state, "seen_at": instant_text(at), "points": [[instant_text(t), v] for t, v in points]}
    began_at = read_state_instant(state, "began_at")
    known = seconds_between(points[0][0], at) >= p.observed_days * _DAY_S / 2
    line = [*points, (at, value)] if points[-1][0] != at else points
    left = fit_days_left([(seconds_between(at, t) / _DAY_S, v) for t, v in line], p.floor) if known else None
    if left is not None:
        new["days_left"] = round(left, 1)
    else:
        new.pop("days_left", None)
    detail = {"metric": p.metric, "value": value, "floor": p.floor, "days_left": new.get("days_left")}
    if began_at is None and left is not None and left <= p.days_left:
        new["began_at"] = instant_text(at)
        return new, Turn(True, at, at, detail)
    over = left is None if not known or left is None else left > p.days_left * 1.5
    if began_at is not None and over and value > p.floor:
        del new["began_at"]
        return new, Turn(False, began_at, at, detail)
    return new, None


TYPE = RuleType(
    name="trend",
    title_zh="趋势预测（电量、信号）",
    title_en="Forecast of battery or signal",
    parameters=TrendParameters,
    judge=judge,
    metrics=lambda p: frozenset({p.metric}),
    status=DeviceStatus.FAULT,
    category="low_battery",
    severity=4,
)
