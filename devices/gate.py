"""What stands between a rule's own judgement and its alarm: a daily window, and damping of what flaps."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from devices.model import JsonState, instant_text, read_state_instant
from devices.rule_type import DailyWindow, Damping, Moment, Turn
from devices.window import find_next_start, find_window_start


def pass_gate(
    state: JsonState, turn: Turn | None, moment: Moment, window: DailyWindow | None, damping: Damping | None
) -> tuple[JsonState, list[Turn]]:
    """What comes out when `turn` goes in, or when time passed. Pure.

    state: `inner` the episode that the rule is in, `outer` the beginning of the one that was let out, `changes` the
    instants of late. In goes and out comes a beginning and an end by turns, never two of one sort.
    """
    at = moment.now if moment.passing else moment.at
    new: JsonState = dict(state)
    if turn is not None and turn.raised:
        new["inner"] = {"began_at": instant_text(turn.began_at), "detail": dict(turn.detail)}
    elif turn is not None:
        new.pop("inner", None)
    flapping = False
    if damping is not None:
        if turn is not None:
            new["changes"] = [*state.get("changes", []), instant_text(turn.occurred_at)][-damping.changes :]
        flapping = _is_flapping(new.get("changes", []), at, damping)
    if flapping:
        new["flapping"] = True
    else:
        new.pop("flapping", None)
    window_start = find_window_start(at, window.start, window.end, moment.timezone) if window is not None else None
    inner: Mapping[str, Any] | None = new.get("inner")
    wanted = inner is not None and (window is None or window_start is not None)
    outer_at = read_state_instant(new, "outer")
    if wanted and outer_at is None and inner is not None:
        began_at = datetime.fromisoformat(inner["began_at"])
        if window_start is not None and window is not None and window.start != window.end:
            began_at = max(began_at, window_start.astimezone(began_at.tzinfo))
        new["outer"] = instant_text(began_at)
        return new, [Turn(True, began_at, turn.occurred_at if turn is not None else at, inner["detail"])]
    if not wanted and outer_at is not None and not flapping:
        del new["outer"]
        return new, [Turn(False, outer_at, at, turn.detail if turn is not None else {})]
    return new, []


def _is_flapping(changes: list[str], at: datetime, damping: Damping) -> bool:
    """Whether the last so many changes lie within one span that is not over."""
    oldest = changes[-damping.changes] if len(changes) >= damping.changes else None
    return oldest is not None and at - datetime.fromisoformat(oldest) < timedelta(seconds=damping.span_s)


def find_gate_due(
    state: JsonState, moment: Moment, window: DailyWindow | None, damping: Damping | None
) -> datetime | None:
    """When the window opens or closes on an episode, or flapping has been quiet for its span."""
    dues: list[datetime] = []
    is_open = window is None or find_window_start(moment.now, window.start, window.end, moment.timezone) is not None
    if ("inner" in state and is_open) != ("outer" in state) and not state.get("flapping"):
        dues.append(moment.now)  # a late message was judged in a window that is over by now
    if window is not None and window.start != window.end and ("inner" in state or "outer" in state):
        dues += [find_next_start(moment.now, edge, moment.timezone) for edge in (window.start, window.end)]
    if damping is not None and state.get("flapping"):
        # Too many within a span end being too many when the oldest of the last ones leaves it.
        dues.append(datetime.fromisoformat(state["changes"][-damping.changes]) + timedelta(seconds=damping.span_s))
    return min(dues, default=None)
