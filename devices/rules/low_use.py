"""A meter that counts up too little over a span: water use below a floor at the home of a person cared for."""

from datetime import datetime, timedelta

from pydantic import Field

from devices.model import JsonState, instant_text, read_state_instant, seconds_between
from devices.rule_type import MetricName, Moment, Parameters, RuleType, Span, Turn, is_late

_MOST_POINTS = 96


class LowUseParameters(Parameters):
    """`floor` is in the metric's unit (m³ of a water meter)."""

    metric: MetricName = "volume_m3"
    floor: float = Field(default=0.01, gt=0, le=1e9, description="less than this / 下限")
    span_s: Span = Field(default=24 * 3600.0, description="used within so many seconds / 时间窗（秒）")


def judge(state: JsonState, moment: Moment, p: LowUseParameters) -> tuple[JsonState, Turn | None]:
    """Use between the newest reading and the one a span before; judged when a whole span is known, by readings only.

    A meter that counts less than before was exchanged or reset: what was known of it is forgotten. At most 96 points are
    kept, so that of a meter that reports more often the span's start is exact to 1/96 of it.
    """
    value, at = moment.readings.get(p.metric), moment.at
    if moment.passing or value is None or is_late(state, at):
        return state, None
    points: list[tuple[datetime, float]] = [(datetime.fromisoformat(t), v) for t, v in state.get("points", [])]
    if points and value < points[-1][1]:
        points = []
    start_at = at - timedelta(seconds=p.span_s)
    while len(points) > 1 and points[1][0] <= start_at:
        points.pop(0)
    if not points or seconds_between(points[-1][0], at) >= p.span_s / _MOST_POINTS:
        points.append((at, value))
    new: JsonState = {**state, "seen_at": instant_text(at), "points": [[instant_text(t), v] for t, v in points]}
    began_at = read_state_instant(state, "began_at")
    known = points[0][0] <= start_at
    used = value - points[0][1]
    if began_at is not None and used >= p.floor:
        del new["began_at"]
        return new, Turn(False, began_at, at, {"metric": p.metric, "used": round(used, 6)})
    if began_at is not None or not known or used >= p.floor:
        return new, None
    new["began_at"] = instant_text(points[0][0])
    detail = {"metric": p.metric, "used": round(used, 6), "floor": p.floor, "span_s": p.span_s}
    return new, Turn(True, points[0][0], at, detail)


TYPE = RuleType(
    name="low_use",
    title_zh="用量过低（如用水）",
    title_en="Too little used (such as water)",
    parameters=LowUseParameters,
    judge=judge,
    metrics=lambda p: frozenset({p.metric}),
    category="water_use_low",
    severity=1,
    needs_consent=True,
)
