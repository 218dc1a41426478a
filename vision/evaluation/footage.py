"""A folder of clips with their truth: every clip run, matched and counted; the report is a table and JSON."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import vision
from kernel.settings import Settings
from vision.detect import Detector
from vision.evaluation.clip import Found, run_clip
from vision.evaluation.figures import Tally, add_up, print_table, tally
from vision.evaluation.matching import match
from vision.evaluation.pictures import write_misses
from vision.evaluation.truth import ENDING, TruthError, find_truths
from vision.evidence import write_whole
from vision.rule import AnyRule
from vision.rules import discover


def evaluate_clip(
    truth_path: Path, misses: Path, *, rules: Mapping[str, AnyRule], detector: Detector, settings: Settings
) -> dict[str, Any]:
    """One clip's result as JSON: counts by rule, every pair, miss and false alarm, a line for each picture written.

    Raises TruthError, SceneError, CaptureError.
    """
    run = run_clip(truth_path, rules=rules, detector=detector, settings=settings)
    matched = match(run.found, run.truth)
    return {
        "clip": run.name, "part": run.truth.part, "condition": run.truth.condition, "street_seed": run.truth.street_seed,
        "seconds": round(run.seconds, 2), "frames": run.frames, "looks": run.looks, "blind": run.blind_looks,
        "tallies": {rule: asdict(counts) for rule, counts in tally(run, matched).items()},
        "right": [{"event": event.id, "start_s": event.start_s, **_said(found)} for found, event in matched.pairs],
        "missed": [event.model_dump(mode="json") for event in matched.missed],
        "duplicates": [{"event": event.id, **_said(found)} for found, event in matched.duplicates],
        "false": [{"beside": kinds, **_said(found)} for found, kinds in matched.false],
        "pictures": write_misses(misses, run, matched),
    }  # fmt: skip


def evaluate_footage(
    folder: Path,
    *,
    settings: Settings,
    model: Path | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Every clip of a folder. Writes FOLDER/misses/*.jpg and FOLDER/evaluation.json, says the table, gives the report.

    Each clip's result is kept below FOLDER/results; with `resume` those made by the same model, code and settings are
    taken as they are, so that a long run goes on where it was stopped. Raises TruthError for a folder without truth, and what `evaluate_clip` and Detector raise.
    """
    truths = find_truths(folder)
    if not truths:
        raise TruthError(f"{folder}: there is no *.truth.json in it")
    rules = discover()
    detector = Detector(model or settings.vision.model, threads=settings.vision.threads)
    made_by = [_hash_file(detector.path), fingerprint(), settings.vision.fps, settings.vision.idle_fps]
    results = []
    for path in truths:
        kept_path = folder / "results" / path.name.replace(ENDING, ".json")
        result = _read_kept(kept_path, made_by) if resume else None
        if result is None:
            result = evaluate_clip(path, folder / "misses", rules=rules, detector=detector, settings=settings)
            kept = {"made_by": made_by, "result": result}
            write_whole(kept_path, json.dumps(kept, ensure_ascii=False, indent=1).encode())
            say(describe(result))
        results.append(result)
    report = report_on(results, detector.path, settings)
    say("\n" + report["table"])
    write_whole(folder / "evaluation.json", (json.dumps(report, ensure_ascii=False, indent=1) + "\n").encode())
    return report


def report_on(results: list[dict[str, Any]], model: Path, settings: Settings) -> dict[str, Any]:
    """The report over results of clips; the same results give the same report."""
    tallies = [
        (str(result["condition"]), {rule: Tally(**counts) for rule, counts in result["tallies"].items()})
        for result in results
    ]
    table = add_up(tallies)
    return {
        "model": {"name": model.name, "sha256": _hash_file(model)},
        "code_sha256": fingerprint(),
        "looks_per_s": settings.vision.fps,
        "idle_looks_per_s": settings.vision.idle_fps,
        "parts": sorted({str(result["part"]) for result in results}),
        "clips": len(results),
        "camera_hours": round(sum(result["seconds"] for result in results) / 3600, 3),
        "looks": sum(result["looks"] for result in results),
        "figures": {
            rule: {condition: counts.as_json() for condition, counts in sorted(row.items())}
            for rule, row in sorted(table.items())
        },
        "table": print_table(table),
        "results": results,
    }


def _read_kept(path: Path, made_by: list[Any]) -> dict[str, Any] | None:
    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or kept.get("made_by") != made_by:
        return None
    result: dict[str, Any] = kept["result"]
    return result


def _hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fingerprint() -> str:
    """Names the deciding code: a hash over the sources from which tracks and findings come (rules, watch, detector)."""
    root = Path(vision.__file__).resolve().parent
    todo = ["watch", "detect", *(f"rules.{path.stem}" for path in sorted((root / "rules").glob("*.py")))]
    sources: dict[str, bytes] = {}
    while todo:
        name = todo.pop()
        path = root.joinpath(*name.split(".")).with_suffix(".py")
        if name in sources or not path.is_file():
            continue
        sources[name] = path.read_bytes()
        imports = (node for node in ast.walk(ast.parse(sources[name])) if isinstance(node, ast.ImportFrom))
        todo += [
            node.module.removeprefix("vision.") for node in imports if node.module and node.module.startswith("vision.")
        ]
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(name.encode() + b"\0" + sources[name])
    return digest.hexdigest()[:16]


def describe(result: Mapping[str, Any]) -> str:
    """One line about a clip, and one for each picture."""
    wrong = f"{len(result['missed'])} missed, {len(result['false'])} false, {len(result['duplicates'])} twice"
    lines = [
        f"{result['clip']}: {len(result['right'])} right, {wrong}; {result['looks']} looks in {result['seconds']:.0f} s"
    ]
    return "\n  ".join([*lines, *result["pictures"]])


def _said(found: Found) -> dict[str, Any]:
    return {
        "rule": found.rule, "category": found.category, "zone": found.zone, "started_s": found.started_s,
        "raised_s": found.raised_s, "box": [round(value, 4) for value in found.box], "score": found.score,
    }  # fmt: skip
