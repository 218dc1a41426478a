"""What operators judged, as a data set: the pictures of findings with their boxes, and false alarms as background.

YOLO layout as `vision train` reads it (images/, labels/, data.yaml). All pictures of a camera are in one part, so that a
model is never judged on a street that it was trained on. Pictures are masked as they are shown, unless the caller has
the right and a reason to take the originals; the writing is audited.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from PIL import Image
from psycopg.rows import class_row

from kernel.audit import write_audit
from kernel.db import Connection
from vision.evidence import write_whole
from vision.mask import mask_picture
from vision.model import LABELS, Box, Category, Label, Picture

THING: dict[str, Label] = {
    Category.ILLEGAL_PARKING: Label.VEHICLE,
    Category.BIN_OVERFLOW: Label.BIN_OVERFLOW,
    Category.EXPOSED_GARBAGE: Label.GARBAGE,
    Category.DIRTY_ROAD: Label.GARBAGE,
}
"""What stands in the box of a finding; other categories have boxes around places, not things."""

BACKGROUND = frozenset({"nothing_there", "wrong_object"})
"""The detector was wrong."""
THING_ANYWAY = frozenset({"as_reported", "allowed_there", "moving", "already_known"})
"""The detector was right, whatever the rule made of it."""
VAL_SHARE = 0.2
_QUALITY = 92


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One judged finding and where its picture without marks lies, if it is kept."""

    report_id: UUID
    category: str
    camera: str
    why: str
    box: list[float]
    path: str | None
    masks: list[list[float]] | None


@dataclass(kw_only=True, slots=True)
class Summary:
    """What was written, and what was not and why."""

    train: int = 0
    val: int = 0
    boxes: int = 0
    background: int = 0
    no_picture: int = 0
    not_told: int = 0
    """Judged as bad_picture or other, or of a category that names no thing."""


def read_judged(connection: Connection, since: datetime | None) -> list[Judged]:
    """Judged findings, oldest first, each with its clean picture of the moment it was raised."""
    with connection.cursor(row_factory=class_row(Judged)) as cursor:
        return cursor.execute(
            """
            SELECT r.id AS report_id, r.category, d.code AS camera, j.why, r.detail -> 'box' AS box, o.path, o.masks
            FROM finding_judgement j JOIN report r ON r.id = j.report_id JOIN device d ON d.id = r.device_id
            LEFT JOIN evidence_original o ON o.evidence_id = (r.detail #>> '{evidence,threshold}')::uuid
            WHERE r.detail ? 'box' AND (%(since)s::timestamptz IS NULL OR r.occurred_at >= %(since)s) ORDER BY r.id
            """,
            {"since": since},
        ).fetchall()


def write_judged(
    connection: Connection,
    originals_dir: Path,
    out: Path,
    *,
    now: datetime,
    since: datetime | None = None,
    unmasked_because: str = "",
) -> Summary:
    """Write the data set under `out`, which is made. With `unmasked_because`, faces and plates stay visible.

    Raises FileExistsError when `out` holds something: an older data set would be mixed with this one.
    """
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty")
    summary, causes = Summary(), Counter[str]()
    for one in read_judged(connection, since):
        causes[one.why] += 1
        label = THING.get(one.category)
        if label is None or one.why not in BACKGROUND | THING_ANYWAY:
            summary.not_told += 1
            continue
        picture = _read(originals_dir, one.path)
        if picture is None:
            summary.no_picture += 1
            continue
        if not unmasked_because:
            picture = mask_picture(picture, [_box(mask) for mask in one.masks or []])
        _write(out, one, picture, label, summary)
    names = "".join(f"  {index}: {label.value}\n" for index, label in enumerate(LABELS))
    write_whole(out / "data.yaml", f"path: .\ntrain: images/train\nval: images/val\nnames:\n{names}".encode())
    told: dict[str, Any] = {**asdict(summary), "why": dict(causes), "masked": not unmasked_because}
    write_whole(out / "summary.json", (json.dumps(told, ensure_ascii=False, indent=1) + "\n").encode())
    write_audit(
        connection, now, actor="command line", action="judged_exported", subject=str(out),
        detail={**told, "reason": unmasked_because},
    )  # fmt: skip
    return summary


def part_of(camera: str) -> str:
    """The part that a camera's pictures go to: always the same."""
    share = int.from_bytes(hashlib.sha256(camera.encode()).digest()[:4]) / 2**32
    return "val" if share < VAL_SHARE else "train"


def _write(out: Path, one: Judged, picture: Picture, label: Label, summary: Summary) -> None:
    part, name = part_of(one.camera), f"{one.camera}-{one.report_id}"
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture[:, :, ::-1])).save(buffer, "JPEG", quality=_QUALITY)
    line = ""
    if one.why in THING_ANYWAY:
        x1, y1, x2, y2 = _box(one.box)
        place = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        line = f"{LABELS.index(label)} " + " ".join(f"{value:.5f}" for value in place) + "\n"
        summary.boxes += 1
    else:
        summary.background += 1
    write_whole(out / "images" / part / f"{name}.jpg", buffer.getvalue())
    write_whole(out / "labels" / part / f"{name}.txt", line.encode())
    if part == "val":
        summary.val += 1
    else:
        summary.train += 1


def _read(originals_dir: Path, path: str | None) -> Picture | None:
    if path is None:
        return None
    try:
        with Image.open(originals_dir / path) as image:
            return np.asarray(np.asarray(image.convert("RGB"))[:, :, ::-1], np.uint8)
    except OSError:
        return None


def _box(values: list[float]) -> Box:
    x1, y1, x2, y2 = (min(1.0, max(0.0, float(value))) for value in values)
    return (x1, y1, x2, y2)
