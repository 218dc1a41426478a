"""The picture of one look, as far as rules may ask about it."""

from __future__ import annotations

from dataclasses import dataclass

from vision.model import Picture


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A picture, (H, W, 3) uint8 BGR. Places are fractions of its width and height."""

    picture: Picture
