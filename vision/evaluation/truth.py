"""The truth of a clip, as `gridwarden sim footage` writes it or a person who watched a film: see docs/evaluation.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vision.model import Box, Category

ENDING = ".truth.json"


class TruthError(Exception):
    """A truth file that cannot be used; the text says why."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Restart(_Model):
    """Whoever watches goes away at `at_s`, with what the database keeps, and is back after `gap_s`."""

    at_s: Annotated[float, Field(ge=0)]
    gap_s: Annotated[float, Field(ge=0)]


class Event(_Model):
    """Something that must be reported once. Seconds of the clip; `box` 0..1 of the picture."""

    id: str
    rule: str
    category: Category
    zone: str
    cause: str = ""
    start_s: float
    end_s: float
    box: Box | None = None


class Lookalike(_Model):
    """Something that must not be reported. `counted`: it is one of those that were staged, not of those everywhere."""

    id: str
    rule: str
    zone: str
    kind: str
    start_s: float
    end_s: float
    counted: bool = True


class Truth(_Model):
    """What happens in one clip. `ignored`: what may be reported or not, too near to its threshold to ask for."""

    version: Annotated[int, Field(ge=1, le=1)]
    part: str = ""
    number: int = 0
    street_seed: int = 0
    condition: str = ""
    light: str = ""
    weather: str = ""
    seconds: Annotated[float, Field(gt=0)]
    fps: Annotated[float, Field(gt=0)]
    size: tuple[int, int]
    scene: dict[str, Any]
    restarts: tuple[Restart, ...] = ()
    events: tuple[Event, ...] = ()
    lookalikes: tuple[Lookalike, ...] = ()
    ignored: tuple[Event, ...] = ()

    def is_watched(self, at_s: float) -> bool:
        """False in the gaps of the restarts."""
        return not any(restart.at_s <= at_s < restart.at_s + restart.gap_s for restart in self.restarts)


def find_truths(folder: Path) -> list[Path]:
    """The truth files of a folder, by name; empty when it is no folder of footage."""
    return sorted(folder.glob(f"*{ENDING}"))


def read_truth(path: Path) -> Truth:
    """Raises TruthError, which names the file and the field."""
    try:
        return Truth.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TruthError(f"{path}: {where}: {first['msg']}") from None


def clip_of(path: Path) -> Path:
    """The film beside a truth file. Raises TruthError when there is none."""
    stem = path.name.removesuffix(ENDING)
    for ending in (".mp4", ".mkv", ".avi"):
        clip = path.with_name(stem + ending)
        if clip.is_file():
            return clip
    raise TruthError(f"{path}: there is no film {stem}.mp4 beside it")
