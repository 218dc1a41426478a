"""What a simulated span comes to in figures, and two of them side by side as a picture (HTML with SVG, nothing to load)."""

import html
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from dispatch.whatif import Run

_URGENT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """None where nothing is to be counted. `fairness` is the Gini coefficient of tasks done per person: 0 is all alike."""

    filed: int
    handled: int
    response_median_s: float | None  # filed → at the place
    response_p90_s: float | None
    urgent_response_p90_s: float | None
    in_limit: float | None  # of those whose limit has passed: handled by then
    way_km: float
    way_per_task_m: float | None
    offers_per_case: float | None
    fairness: float | None


def count_figures(run: Run, until: datetime) -> Figures:
    """The figures of a run as they stand at `until`."""
    responses, urgent = _responses_s(run), _responses_s(run, _URGENT)
    due = [fate for fate in run.fates if fate.case.due_at <= until]
    kept = sum(fate.handled_at is not None and fate.handled_at <= fate.case.due_at for fate in due)
    way_m, done = sum(run.way_m.values()), sum(run.done.values())
    return Figures(
        filed=len(run.fates),
        handled=sum(fate.handled_at is not None for fate in run.fates),
        response_median_s=statistics.median(responses) if responses else None,
        response_p90_s=_share(responses, 0.9),
        urgent_response_p90_s=_share(urgent, 0.9),
        in_limit=kept / len(due) if due else None,
        way_km=way_m / 1000,
        way_per_task_m=way_m / done if done else None,
        offers_per_case=sum(fate.offers for fate in run.fates) / len(run.fates) if run.fates else None,
        fairness=gini(list(run.done.values())),
    )


def _responses_s(run: Run, severity: int = 4) -> list[float]:
    """Filed to at the place, of those so severe where somebody came."""
    return [
        (fate.arrived_at - fate.case.filed_at).total_seconds()
        for fate in run.fates
        if fate.arrived_at and fate.case.task.severity <= severity
    ]


def _share(values: Sequence[float], share: float) -> float | None:
    """The value that `share` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(share * 100) // 100) - 1)] if ordered else None


def gini(counts: Sequence[int]) -> float | None:
    """How unequal: 0 all alike, towards 1 all with one; None for nothing."""
    total, size = sum(counts), len(counts)
    if not total:
        return None
    weighted = sum(rank * count for rank, count in enumerate(sorted(counts), start=1))
    return 2 * weighted / (size * total) - (size + 1) / size


# ------------------------------------------------------------------------------------------------ the picture

_ROWS: tuple[tuple[str, str, str, float, bool], ...] = (
    # field, words, unit, factor, whether less is better
    ("response_median_s", "响应时间中位数 · median response", "min", 1 / 60, True),
    ("response_p90_s", "响应时间 90% · 90 % respond within", "min", 1 / 60, True),
    ("urgent_response_p90_s", "紧急案件响应 90% · urgent, 90 % within", "min", 1 / 60, True),
    ("in_limit", "按时处置率 · limits kept", "%", 100.0, False),
    ("way_km", "行程合计 · way gone", "km", 1.0, True),
    ("way_per_task_m", "每件行程 · way per task", "m", 1.0, True),
    ("offers_per_case", "每件派单次数 · offers per incident", "", 1.0, True),
    ("fairness", "忙闲不均(基尼系数) · unevenness (Gini)", "", 1.0, True),
)
_COLOURS = ("#5b6b7c", "#1d6fd1")


def write_picture(
    path: Path, runs: Mapping[str, Run], until: datetime, subject: str, notes: Sequence[str] = ()
) -> None:
    """Write FILE.html: the figures of two runs as bars, who responded how fast, and tasks per person."""
    figures = {name: count_figures(run, until) for name, run in runs.items()}
    key = "".join(
        f'<span><i style="background:{colour}"></i>{html.escape(name)}</span>'
        for name, colour in zip(runs, _COLOURS, strict=False)
    )
    parts = [
        f"<h1>派单推演 · what if</h1><p>{html.escape(subject)}</p><p class=key>{key}</p>",
        *(f"<p>{html.escape(note)}</p>" for note in notes),
        "<table>",
        *(_bars(list(figures.values()), *row) for row in _ROWS),
        "</table><h2>响应时间 · share of incidents with somebody there after so many minutes</h2>",
        _curves([sorted(s / 60 for s in _responses_s(run)) for run in runs.values()]),
        "<h2>每人办件 · tasks per person, the busiest first</h2>",
        _steps([sorted(run.done.values(), reverse=True) for run in runs.values()]),
    ]
    path.write_text(_PAGE.format(body="\n".join(parts)), "utf-8")


def _bars(figures: Sequence[Figures], field: str, words: str, unit: str, factor: float, less: bool) -> str:
    values = [None if (v := asdict(one)[field]) is None else float(v) * factor for one in figures]
    top = max((abs(v) for v in values if v is not None), default=0.0) or 1.0
    lines = "".join(
        f'<rect x="0" y="{k * 16}" width="{0 if v is None else 300 * abs(v) / top:.1f}" height="13" fill="{colour}"/>'
        f'<text x="{4 if v is None else 300 * abs(v) / top + 4:.1f}" y="{k * 16 + 11}">'
        f"{'–' if v is None else f'{v:,.2f}'} {unit}</text>"
        for k, (v, colour) in enumerate(zip(values, _COLOURS, strict=False))
    )
    first, last = values[0], values[-1]
    verdict = ""
    if first is not None and last is not None and abs(last - first) > 1e-9:
        verdict = "较好 · better" if (last < first) == less else "较差 · worse"
    return f'<tr><td>{words}</td><td><svg width="420" height="34">{lines}</svg></td><td>{verdict}</td></tr>'


def _curves(series: Sequence[Sequence[float]]) -> str:
    """Cumulated shares over minutes, to the 99th percentile of the slower one."""
    ends = [_share(values, 0.99) or 0.0 for values in series]
    right = max(ends, default=0.0) or 1.0
    lines = []
    for values, colour in zip(series, _COLOURS, strict=False):
        points = [
            f"{640 * min(1.0, v / right):.1f},{200 - 200 * (k + 1) / len(values):.1f}" for k, v in enumerate(values)
        ]
        kept = " ".join(points[:: max(1, len(points) // 400)])
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{kept}"/>')
    return _frame("".join(lines), f"{right:.0f} min", "100 %")


def _steps(series: Sequence[Sequence[int]]) -> str:
    top = max((values[0] for values in series if values), default=0) or 1
    lines = []
    for values, colour in zip(series, _COLOURS, strict=False):
        points = [f"{640 * k / max(1, len(values) - 1):.1f},{200 - 200 * v / top:.1f}" for k, v in enumerate(values)]
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(points)}"/>')
    return _frame("".join(lines), f"{max((len(v) for v in series), default=0)} 人", f"{top} 件")


def _frame(inner: str, right: str, top: str) -> str:
    return (
        '<svg width="720" height="230" viewBox="-40 -10 720 240"><path d="M0 0V200H640" fill="none" stroke="#9aa5b1"/>'
        f'{inner}<text x="600" y="216">{html.escape(right)}</text><text x="-38" y="4">{html.escape(top)}</text></svg>'
    )


_PAGE = """<!doctype html><html lang="zh-CN"><meta charset="utf-8"><title>派单推演 · what if</title><style>
body{{font:14px/1.5 "Noto Sans SC",sans-serif;color:#1c2733;margin:24px;max-width:900px}} td{{padding:3px 10px 3px 0;vertical-align:top}}
svg text{{font-size:11px;fill:#1c2733}} .key span{{margin-right:24px}} .key i{{display:inline-block;width:12px;height:12px;margin-right:6px}}
h1{{font-size:20px}} h2{{font-size:15px;margin-top:24px}}
</style>{body}</html>
"""


def describe(figures: Figures) -> dict[str, float | int | None]:
    """The figures as JSON, rounded."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(figures).items()}
