"""JSON shapes of devices and staff: the same on the socket and in the answers of routes."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from kernel.types import Role


class MetricView(BaseModel):
    """The newest value of a metric, and when the device measured it."""

    value: float
    at: datetime


class AlarmView(BaseModel):
    """An alarm rule that is active now."""

    cause: str
    raised_at: datetime
    category: str | None = None


class ZoneView(BaseModel):
    """A zone of a camera: polygon in 0..1 of the frame."""

    name: str
    rule: str
    polygon: list[tuple[float, float]]
    lon: float | None = None
    lat: float | None = None
    parameters: dict[str, Any] = {}


class CameraView(BaseModel):
    """What a camera has besides. Its address is never shown."""

    heading_deg: float | None
    fov_deg: float | None
    range_m: float | None
    zones: list[ZoneView]


class WaterItemView(BaseModel):
    """One item of the standard, and the best class whose limit it keeps."""

    model_config = ConfigDict(populate_by_name=True)
    metric: str
    value: float
    water_class: str = Field(alias="class")
    at: datetime


class WaterView(BaseModel):
    """Class by GB 3838-2002: I to V or worse_than_V (劣V), decided by its worst item. `missing`: not measured of late."""

    model_config = ConfigDict(populate_by_name=True)
    water_class: str = Field(alias="class")
    deciding_item: str
    deciding_items: list[str]
    items: list[WaterItemView]
    missing: list[str]
    at: datetime


class DeviceView(BaseModel):
    """A device and the newest that is known about it."""

    id: UUID
    map_id: int
    code: str
    kind: str
    name: str
    lon: float
    lat: float
    cell_code: str
    status: str
    metrics: dict[str, MetricView]
    alarms: dict[str, AlarmView]
    last_seen_at: datetime | None
    camera: CameraView | None
    enabled: bool = True
    parent_id: UUID | None = None
    clock_offset_s: float | None = None
    water: WaterView | None = None


class StaffView(BaseModel):
    """Somebody who goes out, with the newest position while on duty."""

    id: UUID
    map_id: int
    name: str
    roles: list[Role]
    on_duty: bool
    lon: float | None
    lat: float | None
    accuracy_m: float | None
    heading_deg: float | None
    measured_at: datetime | None
    open_tasks: int
