"""Codes for what was laid out. Written without the platform's own numbering, which it serves to check."""

import math
from collections import defaultdict
from dataclasses import dataclass

import shapely

from simulators.district.layout import Piece
from simulators.district.plan import Street

_HALF_ROW_M = 50.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbered:
    """A piece with the codes of its cell, responsibility grid and community."""

    piece: Piece
    code: str
    grid_code: str
    community_code: str


def number(pieces: list[Piece]) -> tuple[list[Numbered], dict[str, str]]:
    """Every piece with its codes, by code; and the names of communities and grids by their codes.

    Communities in a street, grids in a community and cells in a community are numbered from west to east in rows, rows
    from north to south: the northernmost one without a number opens a row of all those whose centroid is less than
    50 m (cells), 150 m (grids) or 250 m (communities) further south.
    """
    names: dict[str, str] = {}
    done: list[Numbered] = []
    streets = {piece.street.code: piece.street for piece in pieces}
    for street_code, in_street in _by_street(pieces).items():
        for community_at, in_community in enumerate(_in_rows(in_street, 5 * _HALF_ROW_M), 1):
            community_code = f"{street_code}{community_at:03d}"
            names[community_code] = _community_name(streets[street_code], community_at)
            grids = _grouped([[piece] for piece in in_community], [piece.grid for piece in in_community])
            grid_codes = {}
            for grid_at, in_grid in enumerate(_in_rows(grids, 3 * _HALF_ROW_M), 1):
                grid_codes[in_grid[0].grid] = f"{community_code}G{grid_at:02d}"
                names[grid_codes[in_grid[0].grid]] = f"{names[community_code]}第{grid_at}网格"
            for cell_at, (piece,) in enumerate(_in_rows([[piece] for piece in in_community], _HALF_ROW_M), 1):
                done.append(
                    Numbered(
                        piece=piece,
                        code=f"{community_code}{cell_at:03d}",
                        grid_code=grid_codes[piece.grid],
                        community_code=community_code,
                    )
                )
    return done, names


def _community_name(street: Street, at: int) -> str:
    """The at-th name of the street; an odd cut may have made one more community than there are names."""
    rounds, index = divmod(at - 1, len(street.communities))
    return f"{street.communities[index]}{'北' * rounds}社区"


def _by_street(pieces: list[Piece]) -> dict[str, list[list[Piece]]]:
    streets: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        streets[piece.street.code].append(piece)
    return {
        code: _grouped([[piece] for piece in streets[code]], [piece.community for piece in streets[code]])
        for code in sorted(streets)
    }


def _grouped(groups: list[list[Piece]], keys: list[int]) -> list[list[Piece]]:
    by_key: dict[int, list[Piece]] = defaultdict(list)
    for group, key in zip(groups, keys, strict=True):
        by_key[key].extend(group)
    return list(by_key.values())


def _in_rows(groups: list[list[Piece]], reach_m: float) -> list[list[Piece]]:
    centres = [_centre(group) for group in groups]
    waiting = sorted(range(len(groups)), key=lambda i: (-centres[i][1], centres[i][0]))
    ordered: list[list[Piece]] = []
    while waiting:
        north = centres[waiting[0]][1]
        row = [i for i in waiting if north - centres[i][1] < reach_m]
        ordered.extend(groups[i] for i in sorted(row, key=lambda i: (centres[i][0], -centres[i][1])))
        waiting = [i for i in waiting if north - centres[i][1] >= reach_m]
    return ordered


def _centre(group: list[Piece]) -> tuple[float, float]:
    areas = [piece.ring_m.area for piece in group]
    points = [shapely.centroid(piece.ring_m) for piece in group]
    whole = math.fsum(areas)
    return (
        math.fsum(a * p.x for a, p in zip(areas, points, strict=True)) / whole,
        math.fsum(a * p.y for a, p in zip(areas, points, strict=True)) / whole,
    )
