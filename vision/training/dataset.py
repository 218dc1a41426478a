"""A data set in YOLO layout, whoever made it: where its pictures and labels lie, and what its classes are called here.

Both common layouts are read, `images/<part>` with `labels/<part>` and `<part>/images` with `<part>/labels`. `data.yaml`
names the classes; a class that is called otherwise here is mapped by name, and one that is mapped to nothing is left out.
A data set without a part for validation has every seventh picture set aside, told by its name alone, so that it stays
the same ones when pictures are added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from vision.model import LABELS, Label

PICTURES = (".jpg", ".jpeg", ".png")
VALIDATION = ("val", "valid")
_ASIDE_OF = 7


class DataSetError(ValueError):
    """A data set that cannot be used; the text says what to change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """`labels`: for each class index of its files the canonical label, None for a class that is left out."""

    folder: Path
    labels: tuple[Label | None, ...]
    _folders: dict[str, tuple[Path, Path]] = field(default_factory=dict)

    @property
    def known(self) -> frozenset[Label]:
        """What is labelled in it; of everything else it says nothing."""
        return frozenset(label for label in self.labels if label is not None)

    def files(self, part: str) -> list[Path]:
        """The pictures of `train` or `val`, by name. Raises DataSetError when there are none."""
        is_validation = part in VALIDATION
        name = next((name for name in VALIDATION if name in self._folders), "") if is_validation else part
        if name in self._folders:
            return _find_pictures(self._folders[name][0])
        if "train" not in self._folders or not is_validation:
            raise DataSetError(f"{self.folder}: no part {part!r}: expected images/{part} or {part}/images")
        return [file for file in _find_pictures(self._folders["train"][0]) if _is_aside(file)]

    def training_files(self) -> list[Path]:
        """Those of `train` without the ones set aside. Raises DataSetError when there are none."""
        files = self.files("train")
        if any(name in self._folders for name in VALIDATION):
            return files
        return [file for file in files if not _is_aside(file)] or files

    def read(self, picture: Path) -> NDArray[np.float32]:
        """(N, 5) of one picture: canonical label's index, centre x, centre y, width, height, 0 to 1.

        Raises DataSetError for a line that is none.
        """
        folders = next(f for f in self._folders.values() if picture.parent == f[0])
        path = folders[1] / f"{picture.stem}.txt"
        rows = []
        for number, line in enumerate(path.read_text("utf-8").splitlines() if path.exists() else [], 1):
            if not line.strip():
                continue
            try:
                index, *box = (float(word) for word in line.split()[:5])
                label = self.labels[int(index)]
                centre_x, centre_y, width, height = box
            except (ValueError, IndexError):
                raise DataSetError(
                    f"{path}:{number}: not a box of one of {len(self.labels)} classes: {line!r}"
                ) from None
            if label is not None:
                rows.append([LABELS.index(label), centre_x, centre_y, width, height])
        return np.array(rows, np.float32).reshape(-1, 5)


def read_dataset(folder: Path, renames: Mapping[str, str] | None = None) -> DataSet:
    """`renames`: what a class of `data.yaml` is called here, '' to leave it out; without data.yaml, the classes in order.

    Raises DataSetError.
    """
    folders = {}
    for part in ("train", *VALIDATION):
        for images, labels in ((f"images/{part}", f"labels/{part}"), (f"{part}/images", f"{part}/labels")):
            if (folder / images).is_dir():
                folders[part] = (folder / images, folder / labels)
    if not folders:
        raise DataSetError(f"{folder}: no pictures: expected images/train or train/images")
    renames = dict(renames or {})
    names = _read_names(folder / "data.yaml") if (folder / "data.yaml").exists() else list(renames)
    if not names:
        raise DataSetError(
            f"{folder}: no data.yaml says what its classes are called; name them with --class NAME=LABEL"
        )
    unknown = [name for name in names if renames.get(name, name) not in (*LABELS, "")]
    if unknown:
        raise DataSetError(
            f"{folder}: not known here: {', '.join(unknown)}; map each with --class NAME=LABEL,"
            f" LABEL one of {', '.join(LABELS)}, or leave it out with --class NAME="
        )
    called = [renames.get(name, name) for name in names]
    return DataSet(folder=folder, labels=tuple(Label(name) if name else None for name in called), _folders=folders)


def _read_names(path: Path) -> list[str]:
    try:
        found = yaml.safe_load(path.read_text("utf-8"))["names"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise DataSetError(f"{path}: no list of names: {error}") from None
    return (
        [str(name) for _, name in sorted(found.items())] if isinstance(found, dict) else [str(name) for name in found]
    )


def _find_pictures(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)
    if not files:
        raise DataSetError(f"{folder}: no pictures ({', '.join(PICTURES)})")
    return files


def _is_aside(file: Path) -> bool:
    return hashlib.sha256(file.stem.encode()).digest()[0] % _ASIDE_OF == 0
