"""Text on pictures: Noto Sans SC from the web font's slices, or plain English when the font is absent.

The font comes as the package @fontsource/noto-sans-sc has it: a hundred woff2 files of some characters each, and
unicode.json saying which slice has which. Only the slices a text needs are opened.
"""

from __future__ import annotations

import json
import logging
import re
from functools import lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

log = logging.getLogger(__name__)

_RANGE = re.compile(r"U\+([0-9a-fA-F]{1,6})(?:-([0-9a-fA-F]{1,6}))?")
_FAMILY = "noto-sans-sc"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Lettering:
    """Draws text with the slices in `font_dir` (the files beside unicode.json, or in its folder `files`)."""

    def __init__(self, font_dir: Path) -> None:
        self._slice_of = _read_slices(font_dir)
        if not self._slice_of:
            log.warning("no Chinese font in %s: texts on pictures will be English only", font_dir)

    @property
    def has_chinese(self) -> bool:
        """True when Chinese can be drawn."""
        return self.covers("网格卫士")

    def covers(self, text: str) -> bool:
        """True when every character of the text can be drawn; without the font, printable ASCII can."""
        if not self._slice_of:
            return all(" " <= letter <= "~" for letter in text)
        return all(ord(letter) in self._slice_of for letter in text)

    def drawable(self, text: str) -> str:
        """The text without what cannot be drawn: never boxes in place of characters."""
        kept = "".join(letter for letter in text if self.covers(letter))
        return re.sub(r"\s+", " ", kept).strip()

    def width(self, text: str, size_px: int) -> float:
        """Width in pixels."""
        return sum(font.getlength(part) for font, part in self._runs(text, size_px))

    def draw(
        self, canvas: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size_px: int, fill: tuple[int, int, int]
    ) -> None:
        """Draw the text with its base line beginning at `at` (pixels)."""
        x, y = at
        for font, part in self._runs(text, size_px):
            canvas.text((x, y), part, font=font, fill=fill, anchor="ls")
            x += font.getlength(part)

    def _runs(self, text: str, size_px: int) -> list[tuple[Font, str]]:
        if not self._slice_of:
            return [(_load_plain(size_px), text)] if text else []
        runs: list[tuple[Path, str]] = []
        for letter in text:
            path = self._slice_of.get(ord(letter))
            if path is None:
                continue
            if runs and runs[-1][0] == path:
                runs[-1] = (path, runs[-1][1] + letter)
            else:
                runs.append((path, letter))
        return [(_load(path, size_px), part) for path, part in runs]


def _read_slices(font_dir: Path) -> dict[int, Path]:
    """Code point to the file that has it; about 20,000 of them."""
    try:
        names = json.loads((font_dir / "unicode.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found: dict[int, Path] = {}
    # Latin first: most letters are its, and it has the figures
    for name, text in sorted(names.items(), key=lambda item: item[0] != "latin"):
        file_name = f"{_FAMILY}-{name.strip('[]')}-400-normal.woff2"
        path = next((one for one in (font_dir / file_name, font_dir / "files" / file_name) if one.is_file()), None)
        if path is None:
            continue
        for match in _RANGE.finditer(str(text)):
            for code in range(int(match[1], 16), int(match[2] or match[1], 16) + 1):
                found.setdefault(code, path)
    return found


@lru_cache(maxsize=256)
def _load(path: Path, size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size_px)


@lru_cache(maxsize=8)
def _load_plain(size_px: int) -> Font:
    return ImageFont.load_default(size_px)
