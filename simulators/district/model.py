"""A simulated district as the other simulators and the score use it: cells, responsibility grids, sites for things.

The truth about which cell a position lies in comes from here, by even-odd ray casting of our own: it shares no code with
the platform that it judges.
"""

import math
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from kernel.types import LonLat

METRES_PER_DEGREE = (96_195.0, 110_858.0)
"""Longitude and latitude, at 30.3° N; right to 1 part in 1,000 over the district."""

_BUCKET_DEG = 0.002


class SiteKind(StrEnum):
    """What sort of spot a site is."""

    KERB = "kerb"  # beside a named road, just off the carriageway
    SQUARE = "square"
    RIVER = "river"  # on the bank
    PARKING_LOT = "parking_lot"
    BUILDING = "building"


class Draw(Protocol):
    """A source of chance: random.Random or numpy.random.Generator."""

    def random(self) -> float: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A cell: its code, its responsibility grid, a point inside it, its closed ring of (lon, lat)."""

    code: str
    grid_code: str
    lon: float
    lat: float
    ring: tuple[tuple[float, float], ...]

    @property
    def community_code(self) -> str:
        """The community's 12 digits."""
        return self.code[:12]

    @property
    def street_code(self) -> str:
        """The street's 9 digits."""
        return self.code[:9]

    def contains(self, lon: float, lat: float) -> bool:
        """Whether a ray to the east crosses the ring an odd number of times."""
        inside = False
        for (x1, y1), (x2, y2) in zip(self.ring, self.ring[1:], strict=False):
            if (y1 > lat) != (y2 > lat) and lon < x1 + (lat - y1) / (y2 - y1) * (x2 - x1):
                inside = not inside
        return inside


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A responsibility grid: a community's cells that one grid worker looks after; a point inside it."""

    code: str
    name: str
    lon: float
    lat: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A spot for a device or an event, at least `margin_m` from every border of its cell.

    `place` is what people there would call it; `heading_deg` the direction of the road or river, clockwise from north.
    """

    kind: SiteKind
    place: str
    lon: float
    lat: float
    cell_code: str
    margin_m: float
    heading_deg: float | None = None

    @property
    def position(self) -> LonLat:
        """Where it is."""
        return LonLat(self.lon, self.lat)


@dataclass(frozen=True, kw_only=True)
class District:
    """A generated district. `names` has the name of every street, community and grid by its code."""

    seed: int
    code: str
    name: str
    names: Mapping[str, str]
    grids: Mapping[str, Grid]
    cells: Mapping[str, Cell]
    sites: Sequence[Site]
    _buckets: dict[tuple[int, int], list[Cell]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        buckets: dict[tuple[int, int], list[Cell]] = defaultdict(list)
        for cell in self.cells.values():
            lons, lats = zip(*cell.ring, strict=True)
            for column in range(_bucket(min(lons)), _bucket(max(lons)) + 1):
                for row in range(_bucket(min(lats)), _bucket(max(lats)) + 1):
                    buckets[column, row].append(cell)
        object.__setattr__(self, "_buckets", dict(buckets))

    def cell_at(self, lon: float, lat: float) -> str | None:
        """Code of the cell at a CGCS2000 position; None outside the district."""
        for cell in self._buckets.get((_bucket(lon), _bucket(lat)), ()):
            if cell.contains(lon, lat):
                return cell.code
        return None

    def site(
        self,
        kind: SiteKind,
        rng: Draw,
        *,
        taken: Container[str] = (),
        street_code: str = "",
        near: LonLat | None = None,
        within_m: float = 800.0,
        margin_m: float = 8.0,
    ) -> Site:
        """One site of that kind by chance, not in a `taken` cell.

        `street_code` (or any longer prefix of cell codes) keeps it in an area; `near` keeps it `within_m` of a position;
        `margin_m` asks for a greater distance from the borders of the cell. Raises LookupError when there is none.
        """
        found = [
            site
            for site in self.sites
            if site.kind is kind
            and site.cell_code not in taken
            and site.cell_code.startswith(street_code)
            and site.margin_m >= margin_m
            and (near is None or distance_m(site.position, near) <= within_m)
        ]
        if not found:
            raise LookupError(
                f"no free {kind} site in the district (prefix {street_code!r}, near {near}, {within_m} m)"
            )
        return found[int(rng.random() * len(found))]

    def distinct_sites(
        self,
        kinds: Iterable[SiteKind],
        rng: Draw,
        *,
        taken: Container[str] = (),
        street_code: str = "",
        near: LonLat | None = None,
        within_m: float = 800.0,
        margin_m: float = 8.0,
    ) -> list[Site]:
        """One site for each kind in order, every one in a cell of its own. Arguments and error as for `site`."""
        free = _Besides(taken)
        found: list[Site] = []
        for kind in kinds:
            found.append(
                self.site(
                    kind, rng, taken=free, street_code=street_code, near=near, within_m=within_m, margin_m=margin_m
                )
            )
            free.add(found[-1].cell_code)
        return found


class _Besides:
    """Cells taken before and those taken since."""

    def __init__(self, before: Container[str]) -> None:
        self._before, self._since = before, set[str]()

    def __contains__(self, code: object) -> bool:
        return code in self._since or code in self._before

    def add(self, code: str) -> None:
        self._since.add(code)


def distance_m(one: LonLat, other: LonLat) -> float:
    """Straight distance over the ground, good to 1 part in 1,000 inside the district."""
    return math.hypot((one.lon - other.lon) * METRES_PER_DEGREE[0], (one.lat - other.lat) * METRES_PER_DEGREE[1])


def _bucket(degrees: float) -> int:
    return math.floor(degrees / _BUCKET_DEG)
