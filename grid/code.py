"""Division and cell codes, and how the cells of a community are numbered (GB/T 30428.1, as told in DOMAIN terms).

A cell's code: 6 digits division, 3 street, 3 community, then the sequence number inside the community: 3 digits by
default; cities with 14- or 16-digit codes have 2 or 4.
"""

import re

import numpy as np
from numpy.typing import NDArray

from grid.model import Level

DISTRICT_DIGITS, STREET_DIGITS, COMMUNITY_DIGITS = 6, 9, 12
_AREA_DIGITS = {Level.DISTRICT: DISTRICT_DIGITS, Level.STREET: STREET_DIGITS, Level.COMMUNITY: COMMUNITY_DIGITS}
_GRID = re.compile(r"[0-9]{12}[0-9A-Z]{1,8}")
_DIGITS = re.compile(r"[0-9]+")


class CodeError(ValueError):
    """A code that the rules do not allow; the text says which rule."""


def check_code(level: Level, code: str, *, cell_code_digits: int = 15) -> None:
    """Raise CodeError unless `code` is written as a code of `level`.

    District 6, street 9, community 12 digits; a responsibility grid is its community's code and 1 to 8 digits or
    capital letters; a cell has `cell_code_digits` digits (14 to 16), the last 2 to 4 of which are not all zero.
    """
    if level is Level.GRID:
        if not _GRID.fullmatch(code):
            raise CodeError("a responsibility grid's code is the community's 12 digits and 1 to 8 digits or capitals")
        return
    digits = cell_code_digits if level is Level.CELL else _AREA_DIGITS.get(level)
    if digits is None:
        raise CodeError(f"{level} has no division code")
    if len(code) != digits or not _DIGITS.fullmatch(code):
        raise CodeError(f"a {level} code has {digits} digits")
    if level is Level.CELL and int(code[COMMUNITY_DIGITS:]) == 0:
        raise CodeError("cells are numbered from 1")


def parent_level(level: Level) -> Level | None:
    """The level above: cells and responsibility grids lie in a community; a district has none here."""
    return {
        Level.STREET: Level.DISTRICT,
        Level.COMMUNITY: Level.STREET,
        Level.GRID: Level.COMMUNITY,
        Level.CELL: Level.COMMUNITY,
    }.get(level)


def parent_code(level: Level, code: str) -> str | None:
    """The code of the area above, which is a prefix; None for a district."""
    above = parent_level(level)
    return None if above is None else code[: _AREA_DIGITS[above]]


def cell_code(community_code: str, sequence: int, *, cell_code_digits: int = 15) -> str:
    """The code of the cell with that number in its community.

    Raises CodeError when the community's code is wrong or the number does not fit.
    """
    check_code(Level.COMMUNITY, community_code)
    code = f"{community_code}{sequence:0{cell_code_digits - COMMUNITY_DIGITS}d}"
    check_code(Level.CELL, code, cell_code_digits=cell_code_digits)
    return code


def number_cells(centroids_m: NDArray[np.float64], row_height_m: float = 100.0) -> NDArray[np.int64]:
    """Sequence numbers, from 1, of the cells of one community: "from west to east, then from north to south".

    The rule taken here: the northernmost cell that has no number yet opens a row; every cell whose centroid lies less
    than half of `row_height_m` south of that one's belongs to the row; a row is numbered from west to east, and rows
    follow each other from north to south. Equal eastings go from north to south, equal positions by their order in.

    `centroids_m` is (n, 2), eastings and northings in metres. Returns (n,) in the order of the input.
    """
    numbers = np.zeros(len(centroids_m), dtype=np.int64)
    east, north = centroids_m[:, 0], centroids_m[:, 1]
    southward = np.argsort(-north, kind="stable")
    first, following = 0, 1
    while first < len(southward):
        row = southward[first:]
        row = row[north[row] > north[southward[first]] - row_height_m / 2]
        for index in row[np.lexsort((row, -north[row], east[row]))]:
            numbers[index] = following
            following += 1
        first += len(row)
    return numbers
