"""Number plates: their pattern, which plate a misread one most likely is, and how they are shown. Pure."""

import re
import unicodedata
from collections.abc import Iterable

_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
_L = "A-HJ-NP-Z"
# docs/parking.md; GA 36 as summarised there: civil plates of 7 and 8 characters, trailers and the like, embassies, police.
PATTERN = re.compile(
    rf"(?:[{_PROVINCES}][{_L}](?:[{_L}0-9]{{5}}|[{_L}0-9]{{4}}[学警挂港澳领]|[A-HJK][{_L}0-9][0-9]{{4}}|[0-9]{{5}}[A-HJK])"
    rf"|使[0-9]{{6}}|[0-9]{{6}}使|WJ[{_PROVINCES}]?[0-9]{{4}}[0-9A-Z])"
)
LONGEST = 16  # what is longer is no plate, whatever a gate sends
_SEPARATORS = re.compile(r"[\s·•.\-_]+")
_ALIKE = ("0DOQ", "8B", "1IL", "2Z", "5S", "6G", "7T", "CG", "UV", "MN", "PR", "KX", "4A", "EF")
_ALIKE_PAIRS = frozenset((a, b) for group in _ALIKE for a in group for b in group if a != b)
ALIKE_COST, OTHER_COST = 0.5, 1.0  # of one character read wrongly: this project's own values


def clean_plate(text: str | None) -> str:
    """`text` as plates are compared: full-width made ordinary, upper case, no separators; '' when nothing was read."""
    cleaned = _SEPARATORS.sub("", unicodedata.normalize("NFKC", text or "")).upper()
    return cleaned[:LONGEST]


def is_plate(plate: str) -> bool:
    """Whether a cleaned plate is one that is issued."""
    return PATTERN.fullmatch(plate) is not None


def misreading_cost(read: str, plate: str) -> float | None:
    """What it takes to read `plate` as `read`: 0 the same, at most one character wrong, lost or added; None for more.

    Characters that look alike to a camera (0 D O, 8 B, 1 I …) cost half of others.
    """
    if read == plate:
        return 0.0
    if len(read) == len(plate):
        wrong = [(a, b) for a, b in zip(read, plate, strict=True) if a != b]
        if len(wrong) != 1:
            return None
        return ALIKE_COST if wrong[0] in _ALIKE_PAIRS else OTHER_COST
    if abs(len(read) - len(plate)) != 1:
        return None
    shorter, longer = sorted((read, plate), key=len)
    at = next((i for i, (a, b) in enumerate(zip(shorter, longer, strict=False)) if a != b), len(shorter))
    return OTHER_COST if shorter[at:] == longer[at + 1 :] else None


def find_plate(read: str, plates: Iterable[str]) -> str | None:
    """The one of `plates` that was most likely read as `read`; None when none is near, or two are equally near.

    Nothing that was not read at all is near to anything.
    """
    if not read:
        return None
    best: float | None = None
    found: list[str] = []
    for plate in plates:
        cost = misreading_cost(read, plate) if plate else None
        if cost is None or (best is not None and cost > best):
            continue
        if best is None or cost < best:
            best, found = cost, []
        found.append(plate)
    return found[0] if len(found) == 1 else None


def mask_plate(plate: str) -> str:
    """For lists: 浙A·**2Q6. What cannot be told apart from the hidden part is hidden too."""
    if len(plate) <= 3:
        return "*" * len(plate)
    if is_plate(plate) and plate[0] in _PROVINCES:
        return f"{plate[:2]}·{'*' * (len(plate) - 5)}{plate[-3:]}"
    return "*" * (len(plate) - 3) + plate[-3:]
