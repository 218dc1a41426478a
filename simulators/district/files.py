"""A district made from a seed, and its files: GeoJSON to import into the platform, and the sites for the simulators."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from simulators.district.ground import Thing, lay_ground
from simulators.district.layout import lay_out, to_degrees
from simulators.district.model import Cell, District, Grid, Site, SiteKind
from simulators.district.number import Numbered, number
from simulators.district.plan import DISTRICT_CODE, DISTRICT_NAME, STREETS
from simulators.district.spot import find_sites

FILES = {level: f"{level}.geojson" for level in ("district", "street", "community", "grid", "cell", "feature")}
"""File of each level, in the order in which they are imported."""

_SITES = "sites.json"
_CRS = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4490"}}
Row = tuple[dict[str, Any], BaseGeometry]


def make_district(seed: int) -> District:
    """The district of that seed, without files. About three seconds."""
    return _make(seed)[0]


def write_district(out: Path, seed: int) -> District:
    """Make the district of that seed and write FILES and sites.json into the folder `out` (made when missing).

    GeoJSON in CGCS2000 longitude and latitude, multiples of 1e-7 degrees, with the coordinate system named. The same
    seed writes the same bytes.
    """
    district, cells, things = _make(seed)
    out.mkdir(parents=True, exist_ok=True)
    for level, rows in _rows(district, cells, things).items():
        _write(out / FILES[level], rows)
    head = {"seed": seed, "code": district.code, "name": district.name}
    sites = [asdict(site) for site in district.sites]
    (out / _SITES).write_text(json.dumps({**head, "sites": sites}, ensure_ascii=False), "utf-8")
    return district


def read_district(folder: Path) -> District:
    """The district that `write_district` wrote there."""
    head = json.loads((folder / _SITES).read_text("utf-8"))
    sites = tuple(Site(**{**site, "kind": SiteKind(site["kind"])}) for site in head["sites"])
    names = {p["code"]: p["name"] for level in ("street", "community", "grid") for p, _ in _read(folder, level)}
    cells = {}
    for properties, shape in _read(folder, "cell"):
        ring = tuple((float(lon), float(lat)) for lon, lat in shape["coordinates"][0])
        inner = {"lon": properties["lon"], "lat": properties["lat"]}
        cells[properties["code"]] = Cell(
            code=properties["code"], grid_code=properties["responsibility_grid_code"], ring=ring, **inner
        )
    grids = {
        p["code"]: Grid(code=p["code"], name=p["name"], lon=p["lon"], lat=p["lat"]) for p, _ in _read(folder, "grid")
    }
    return District(
        seed=head["seed"], code=head["code"], name=head["name"], names=names, grids=grids, cells=cells, sites=sites
    )


def _make(seed: int) -> tuple[District, list[Numbered], list[Thing]]:
    rng = np.random.default_rng([seed, 0x6E657473])  # a stream apart from that of the street scenes
    pieces, cuts = lay_out(rng)
    numbered, names = number(pieces)
    things = lay_ground(numbered, cuts, names, rng)
    cells = {cell.code: _cell(cell) for cell in numbered}
    names |= {street.code: street.name for street in STREETS}
    district = District(
        seed=seed,
        code=DISTRICT_CODE,
        name=DISTRICT_NAME,
        names=names,
        grids=_grids(numbered, names),
        cells=cells,
        sites=tuple(find_sites(numbered, things)),
    )
    return district, numbered, things


def _cell(cell: Numbered) -> Cell:
    ring = tuple((float(lon), float(lat)) for lon, lat in shapely.get_coordinates(cell.piece.ring_deg.exterior))
    lon, lat = _inner_point(cell.piece.ring_deg)
    return Cell(code=cell.code, grid_code=cell.grid_code, lon=lon, lat=lat, ring=ring)


def _inner_point(shape_deg: BaseGeometry) -> tuple[float, float]:
    point = shapely.point_on_surface(shape_deg)
    return round(float(point.x), 7), round(float(point.y), 7)


def _grids(cells: list[Numbered], names: dict[str, str]) -> dict[str, Grid]:
    found = {}
    for code, shape in _unions(cells, lambda cell: cell.grid_code).items():
        lon, lat = _inner_point(shape)
        found[code] = Grid(code=code, name=names[code], lon=lon, lat=lat)
    return found


def _unions(cells: list[Numbered], key: Any) -> dict[str, BaseGeometry]:
    """The cells' common outline by key, in degrees; exact, because neighbours share every vertex."""
    by_key: dict[str, list[BaseGeometry]] = {}
    for cell in cells:
        by_key.setdefault(key(cell), []).append(cell.piece.ring_deg)
    return {code: shapely.coverage_union_all(shapes) for code, shapes in sorted(by_key.items())}


def _rows(district: District, cells: list[Numbered], things: list[Thing]) -> dict[str, list[Row]]:
    def areas(digits: int) -> list[Row]:
        unions = _unions(cells, lambda cell: cell.code[:digits])
        return [
            ({"code": code, "name": district.names[code], "parent_code": code[: digits - 3]}, shape)
            for code, shape in unions.items()
        ]

    grids = [
        ({**asdict(district.grids[code]), "parent_code": code[:12]}, shape)
        for code, shape in _unions(cells, lambda cell: cell.grid_code).items()
    ]
    singles = [
        (
            {
                "code": cell.code,
                "name": "",
                "parent_code": cell.community_code,
                "responsibility_grid_code": cell.grid_code,
                "lon": district.cells[cell.code].lon,
                "lat": district.cells[cell.code].lat,
            },
            cell.piece.ring_deg,
        )
        for cell in sorted(cells, key=lambda cell: cell.code)
    ]
    whole = shapely.coverage_union_all([cell.piece.ring_deg for cell in cells])
    return {
        "district": [({"code": district.code, "name": district.name, "parent_code": None}, whole)],
        "street": areas(9),
        "community": areas(12),
        "grid": grids,
        "cell": singles,
        "feature": [
            ({"layer": thing.layer, "name": thing.name, **thing.properties}, shapely.transform(thing.shape_m, _placed))
            for thing in things
        ],
    }


def _placed(points_m: Any) -> Any:
    return np.round(to_degrees(points_m), 7)


def _write(path: Path, rows: Iterable[Row]) -> None:
    rows = list(rows)
    shapes = shapely.to_geojson(np.array([shape for _, shape in rows], dtype=object))
    features = [
        f'{{"type":"Feature","properties":{json.dumps(properties, ensure_ascii=False)},"geometry":{shape}}}'
        for (properties, _), shape in zip(rows, shapes, strict=True)
    ]
    head = f'{{"type":"FeatureCollection","name":"{path.stem}","crs":{json.dumps(_CRS)},"features":[\n'
    path.write_text(head + ",\n".join(features) + "\n]}\n", "utf-8")


def _read(folder: Path, level: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    features = json.loads((folder / FILES[level]).read_text("utf-8"))["features"]
    return [(feature["properties"], feature["geometry"]) for feature in features]
