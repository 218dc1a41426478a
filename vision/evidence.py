"""The picture that goes with a finding: what was seen, in which zone, by which rule, when."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from PIL import Image, ImageDraw
from psycopg.types.json import Jsonb

from kernel.clock import to_local
from kernel.db import Connection
from vision.lettering import Lettering
from vision.model import Box, Picture, Point

INK = (230, 234, 236)
BAND = (17, 21, 24)
ALERT = (240, 180, 41)
ZONE = (90, 169, 255)
JPEG_QUALITY = 85
ORIGINAL_QUALITY = 90
MIN_WIDTH_PX = 480
"""Smaller pictures are enlarged, so that the text can be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """What is written on a snapshot, in one language of the city's choice."""

    title_zh: str
    title_en: str
    place: str
    """Zone and camera as they are named; left out where the font lacks their characters."""
    at: datetime
    timezone: str
    language: str


def draw_snapshot(
    picture: Picture,
    *,
    boxes: tuple[Box, ...],
    polygon: tuple[Point, ...],
    caption: Caption,
    lettering: Lettering,
) -> bytes:
    """JPEG of a BGR picture with the boxes, the zone's outline and a band of text below it."""
    image = Image.fromarray(np.ascontiguousarray(picture[:, :, ::-1]))
    if image.width < MIN_WIDTH_PX:
        image = image.resize((MIN_WIDTH_PX, round(image.height * MIN_WIDTH_PX / image.width)))
    line_px = max(2, image.width // 320)
    size_px = max(14, image.width // 40)
    sheet = Image.new("RGB", (image.width, image.height + round(size_px * 1.9)), BAND)
    sheet.paste(image, (0, 0))
    canvas = ImageDraw.Draw(sheet)
    outline = [(x * image.width, y * image.height) for x, y in polygon]
    if outline:
        canvas.line([*outline, outline[0]], fill=ZONE, width=line_px, joint="curve")
    for x1, y1, x2, y2 in boxes:
        corners = [x1 * image.width, y1 * image.height, x2 * image.width, y2 * image.height]
        canvas.rectangle(corners, outline=ALERT, width=line_px)
    _write(canvas, sheet.width, image.height + round(size_px * 1.3), size_px, caption, lettering)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _write(
    canvas: ImageDraw.ImageDraw, width_px: int, base_px: int, size_px: int, caption: Caption, lettering: Lettering
) -> None:
    chinese = caption.language.startswith("zh") and lettering.has_chinese
    title = caption.title_zh if chinese else caption.title_en
    local = to_local(caption.at, caption.timezone)
    time = local.strftime("%Y-%m-%d %H:%M:%S ") + (local.tzname() or "")
    margin_px = size_px // 2
    lettering.draw(canvas, (margin_px, base_px), title, size_px, ALERT)
    left_px = margin_px * 3 + lettering.width(title, size_px)
    right_px = width_px - margin_px - lettering.width(time, size_px)
    lettering.draw(canvas, (right_px, base_px), time, size_px, INK)
    place = ""
    for letter in lettering.drawable(caption.place):
        if left_px + lettering.width(place + letter, size_px) > right_px - margin_px:
            break
        place += letter
    lettering.draw(canvas, (left_px, base_px), place, size_px, INK)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A file that is shown, masked as far as masks go, and what is known of it."""

    id: UUID
    kind: str
    mime: str
    suffix: str
    content: bytes
    width: int
    height: int
    taken_at: datetime
    masked: bool
    area_code: str
    lon: float | None
    lat: float | None
    detail: dict[str, Any]

    @property
    def path(self) -> str:
        """Below the folder of evidence, by day."""
        return f"{self.taken_at.astimezone(UTC):%Y/%m/%d}/{self.id}{self.suffix}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Original:
    """The same without masks. `path` is below the folder of originals; the file is there."""

    path: str
    sha256: bytes
    mime: str
    width: int
    height: int
    masks: tuple[Box, ...]


def write_evidence(connection: Connection, evidence_dir: Path, shown: Shown) -> None:
    """Store the file under the evidence directory and its row in the caller's transaction.

    The file is complete before the row can be committed; without the commit it is a stray file, never a row
    without its picture.
    """
    write_whole(evidence_dir / shown.path, shown.content)
    connection.execute(
        """
        INSERT INTO evidence (id, kind, path, sha256, mime, width, height, area_code, lon, lat, taken_at, masked, detail)
        VALUES (%(id)s, %(kind)s, %(path)s, %(sha256)s, %(mime)s, %(width)s, %(height)s, %(area_code)s,
                %(lon)s, %(lat)s, %(taken_at)s, %(masked)s, %(detail)s)
        """,
        {
            "id": shown.id,
            "kind": shown.kind,
            "path": shown.path,
            "sha256": hashlib.sha256(shown.content).digest(),
            "mime": shown.mime,
            "width": shown.width,
            "height": shown.height,
            "area_code": shown.area_code,
            "lon": shown.lon,
            "lat": shown.lat,
            "taken_at": shown.taken_at,
            "masked": shown.masked,
            "detail": Jsonb(shown.detail),
        },
    )


def keep_original(connection: Connection, evidence_id: UUID, original: Original, now: datetime) -> None:
    """The row of an original whose file is in place, in the caller's transaction."""
    connection.execute(
        """
        INSERT INTO evidence_original (evidence_id, path, sha256, mime, width, height, masks, kept_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            evidence_id, original.path, original.sha256, original.mime, original.width, original.height,
            Jsonb([list(mask) for mask in original.masks]), now,
        ),
    )  # fmt: skip


def write_original(
    originals_dir: Path, evidence_id: UUID, picture: Picture, masks: tuple[Box, ...], taken_at: datetime
) -> Original:
    """The clean picture as JPEG that nobody but the owner can read, in folders likewise; for `keep_original`."""
    path = f"{taken_at.astimezone(UTC):%Y/%m/%d}/{evidence_id}.jpg"
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(picture[:, :, ::-1]))
    image.save(buffer, "JPEG", quality=ORIGINAL_QUALITY)
    make_private(originals_dir, (originals_dir / path).parent)
    write_whole(originals_dir / path, buffer.getvalue(), mode=0o600)
    return Original(
        path=path,
        sha256=hashlib.sha256(buffer.getvalue()).digest(),
        mime="image/jpeg",
        width=image.width,
        height=image.height,
        masks=masks,
    )


def measure_jpeg(jpeg: bytes) -> tuple[int, int]:
    """Width and height in pixels."""
    with Image.open(io.BytesIO(jpeg)) as image:
        return image.width, image.height


def make_private(root: Path, folder: Path) -> None:
    """Folders that nobody else can read, from `root` down to `folder`. Raises OSError."""
    missing = [part for part in (folder, *folder.parents) if part.is_relative_to(root) and not part.exists()]
    for part in reversed(missing):
        part.mkdir(parents=True, exist_ok=True, mode=0o700)


def write_whole(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that it is there complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:  # a full disk: every attempt has a name of its own, and none may stay
        beside.unlink(missing_ok=True)
        raise
