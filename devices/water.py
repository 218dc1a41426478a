"""The class of a water by GB 3838-2002 (地表水环境质量标准, table 1): that of its worst item, and which item that is.

One measurement, not the monthly or yearly mean on which a department's assessment rests (地表水环境质量评价办法): it says
how the water is now. Values are compared as measured, without rounding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from devices.model import instant_text, read_state_instant

WaterBody = Literal["river", "lake"]
_FRESH = timedelta(hours=24)  # items much older than the newest one say nothing about the same water


class WaterClass(StrEnum):
    """I is the best; beyond V the water is 劣V."""

    I = "I"  # noqa: E741 - the standard's own name
    II = "II"
    III = "III"
    IV = "IV"
    V = "V"
    WORSE_THAN_V = "worse_than_V"


_CLASSES = tuple(WaterClass)
# Limits of classes I to V. Dissolved oxygen is a floor, the others ceilings; a lake's phosphorus has limits of its own.
_FLOORS = {"dissolved_oxygen_mg_l": (7.5, 6.0, 5.0, 3.0, 2.0)}
_CEILINGS = {
    "codmn_mg_l": (2.0, 4.0, 6.0, 10.0, 15.0),
    "cod_mg_l": (15.0, 15.0, 20.0, 30.0, 40.0),
    "ammonia_nitrogen_mg_l": (0.15, 0.5, 1.0, 1.5, 2.0),
    "total_phosphorus_mg_l": (0.02, 0.1, 0.2, 0.3, 0.4),
}
_LAKE_PHOSPHORUS = (0.01, 0.025, 0.05, 0.1, 0.2)
_PH_RANGE = (6.0, 9.0)  # the same for all five classes
# Worst first among items of one class; what a station of this project measures, so that what is missing can be said.
ITEMS = (
    "ammonia_nitrogen_mg_l",
    "total_phosphorus_mg_l",
    "codmn_mg_l",
    "cod_mg_l",
    "dissolved_oxygen_mg_l",
    "ph",
)
_EXPECTED = tuple(item for item in ITEMS if item not in ("cod_mg_l", "ph"))


@dataclass(frozen=True, kw_only=True, slots=True)
class WaterItem:
    """One item, and the best class whose limit it keeps."""

    metric: str
    value: float
    water_class: WaterClass
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class WaterQuality:
    """The verdict. `deciding_items`: all that are as bad as the class; `missing`: expected items without a fresh value,
    so that the class may be better than the water is."""

    water_class: WaterClass | None
    deciding_items: tuple[str, ...]
    items: tuple[WaterItem, ...]
    missing: tuple[str, ...]
    at: datetime | None


def judge_item(metric: str, value: float, body: WaterBody = "river") -> WaterClass:
    """The best class whose limit `value` keeps.

    Raises KeyError when the standard gives the metric no class (turbidity, conductivity).
    """
    if metric == "ph":
        return WaterClass.I if _PH_RANGE[0] <= value <= _PH_RANGE[1] else WaterClass.WORSE_THAN_V
    if metric in _FLOORS:
        kept = [value >= floor for floor in _FLOORS[metric]]
    else:
        ceilings = _CEILINGS[metric]
        if body == "lake" and metric == "total_phosphorus_mg_l":
            ceilings = _LAKE_PHOSPHORUS
        kept = [value <= ceiling for ceiling in ceilings]
    return _CLASSES[kept.index(True)] if True in kept else WaterClass.WORSE_THAN_V


def judge_water(values: Mapping[str, tuple[float, datetime]], body: WaterBody = "river") -> WaterQuality:
    """The class of a water from the newest value of each metric, (value, measured at); other metrics are passed over."""
    known = {metric: values[metric] for metric in ITEMS if metric in values}
    newest_at = max((at for _, at in known.values()), default=None)
    items = tuple(
        WaterItem(metric=metric, value=value, water_class=judge_item(metric, value, body), at=at)
        for metric, (value, at) in known.items()
        if newest_at is not None and newest_at - at <= _FRESH
    )
    measured = {item.metric for item in items}
    missing = tuple(metric for metric in _EXPECTED if metric not in measured)
    # pH alone gives no class: within its range it is right for all of them, it can only spoil one.
    classed = [item for item in items if item.metric != "ph" or item.water_class is WaterClass.WORSE_THAN_V]
    worst = max((item.water_class for item in classed), key=_CLASSES.index, default=None)
    return WaterQuality(
        water_class=worst,
        deciding_items=tuple(item.metric for item in classed if item.water_class is worst),
        items=items,
        missing=missing,
        at=newest_at,
    )


def describe_water(metrics: Mapping[str, Any], body: WaterBody = "river") -> dict[str, Any] | None:
    """The verdict on a device's newest metrics (`device_state.metrics`) as JSON; None when no item was ever measured."""
    values = {
        name: (float(entry["value"]), at)
        for name, entry in metrics.items()
        if name in ITEMS and (at := read_state_instant(entry, "at")) is not None
    }
    quality = judge_water(values, body)
    if quality.water_class is None or quality.at is None:
        return None
    return {
        "class": str(quality.water_class),
        "deciding_item": quality.deciding_items[0],
        "deciding_items": list(quality.deciding_items),
        "items": [
            {"metric": i.metric, "value": i.value, "class": str(i.water_class), "at": instant_text(i.at)}
            for i in quality.items
        ],
        "missing": list(quality.missing),
        "at": instant_text(quality.at),
    }
