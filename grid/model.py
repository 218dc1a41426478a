"""Areas, cells, components and background features, and what a position is called in them."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class Level(StrEnum):
    """What an imported file holds. The first four are the levels of `area`."""

    DISTRICT = "district"  # 区
    STREET = "street"  # 街道
    COMMUNITY = "community"  # 社区
    GRID = "grid"  # 责任网格: the cells of one collector
    CELL = "cell"  # 单元网格
    FEATURE = "feature"  # map background: roads, water, buildings
    COMPONENT = "component"  # 部件


AREA_LEVELS = (Level.DISTRICT, Level.STREET, Level.COMMUNITY, Level.GRID)


@dataclass(frozen=True, kw_only=True, slots=True)
class Area:
    """A district, street, community or responsibility grid. `geom_wkb` is a (multi)polygon in CGCS2000 degrees."""

    id: UUID
    level: Level
    code: str
    name: str
    parent_code: str | None
    geom_wkb: bytes
    source_crs: str
    imported_at: datetime
    valid_from: datetime | None = None  # None: since it was imported


@dataclass(frozen=True, kw_only=True, slots=True)
class GridCell:
    """A cell (单元网格). `lon`/`lat` is a point inside it; `geom_wkb` a (multi)polygon; both CGCS2000 degrees."""

    id: UUID
    code: str
    responsibility_grid_code: str | None
    lon: float
    lat: float
    geom_wkb: bytes
    source_crs: str
    imported_at: datetime
    valid_from: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """A component (部件), keyed by (standard, kind, code) so that two generations of the standard can stand together."""

    id: UUID
    standard: str
    kind: str
    code: str
    name: str
    cell_code: str | None
    lon: float
    lat: float
    source_crs: str
    imported_at: datetime
    properties: dict[str, Any] = field(default_factory=dict)
    valid_from: datetime | None = None

    @property
    def owner(self) -> str:
        """Who owns it (权属单位), when its file said; else ''."""
        for name in ("owner_unit", "owner", "权属单位"):
            if isinstance(value := self.properties.get(name), str):
                return value.strip()
        return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """Map background without duties; `layer` is road, water, building, parking_lot, green or another name."""

    id: UUID
    layer: str
    name: str
    geom_wkb: bytes
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a position is. Codes of levels that were not imported are cut from the cell's code; their names are ''."""

    cell_code: str
    grid_code: str
    community_code: str
    street_code: str
    district_code: str
    grid_name: str = ""
    community_name: str = ""
    street_name: str = ""
    district_name: str = ""

    @property
    def area_code(self) -> str:
        """The code by which rows are seen (gw_in_scope): the community's."""
        return self.community_code
