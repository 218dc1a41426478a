"""The picture that goes with a finding: what was seen, in which zone, by which rule, when."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from datetime import datetime
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


def write_evidence(
    connection: Connection,
    *,
    jpeg: bytes,
    evidence_id: UUID,
    evidence_dir: Path,
    area_code: str,
    lon: float | None,
    lat: float | None,
    taken_at: datetime,
    detail: dict[str, Any],
) -> None:
    """Store the picture under the evidence directory and its row in the caller's transaction.

    The file is complete before the row can be committed; without the commit it is a stray file, never a row
    without its picture.
    """
    relative = f"{taken_at:%Y/%m/%d}/{evidence_id}.jpg"
    write_whole(evidence_dir / relative, jpeg)
    width, height = Image.open(io.BytesIO(jpeg)).size
    connection.execute(
        """
        INSERT INTO evidence (id, kind, path, sha256, mime, width, height, area_code, lon, lat, taken_at, detail)
        VALUES (%(id)s, 'snapshot', %(path)s, %(sha256)s, 'image/jpeg', %(width)s, %(height)s, %(area_code)s,
                %(lon)s, %(lat)s, %(taken_at)s, %(detail)s)
        """,
        {
            "id": evidence_id,
            "path": relative,
            "sha256": hashlib.sha256(jpeg).digest(),
            "width": width,
            "height": height,
            "area_code": area_code,
            "lon": lon,
            "lat": lat,
            "taken_at": taken_at,
            "detail": Jsonb(detail),
        },
    )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
