"""The scene of one camera: its zones, read from a TOML file or from the same JSON in the database."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from shapely import Polygon
from shapely.validation import explain_validity

from vision.ground import MAX_FROM_CAMERA_M, MAX_PAIRS, MIN_NEARNESS, MIN_PAIRS, Ground, GroundError, fit_ground
from vision.health import unpack_view
from vision.model import Point
from vision.presets import Preset
from vision.rule import AnyRule, AnyZone, Zone

MIN_AREA = 1e-4
"""Of the picture: a smaller zone is a slip of the hand."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Metre = Annotated[float, Field(ge=-MAX_FROM_CAMERA_M, le=MAX_FROM_CAMERA_M, allow_inf_nan=False)]


class SceneError(Exception):
    """A scene that cannot be used; the text says which zone and why.

    For pages: `code` is a stable word, `zone` its name ("" for the scene as a whole), `params` what the words need (`field`, `limit` …).
    """

    def __init__(self, text: str, code: str = "bad_value", *, zone: str = "", **params: Any) -> None:
        super().__init__(text)
        self.code = code
        self.zone = zone
        self.params = params


class _ZoneModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=80)]
    rule: str
    polygon: Annotated[tuple[tuple[Fraction, Fraction], ...], Field(min_length=3, max_length=100)]
    lon: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)] | None = None
    lat: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)] | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    preset: Annotated[str, Field(max_length=80)] = ""

    @model_validator(mode="after")
    def _check_position(self) -> _ZoneModel:
        if (self.lon is None) != (self.lat is None):
            raise PydanticCustomError("half_position", "lon and lat belong together")
        return self


class _GroundModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    points: Annotated[tuple[tuple[Fraction, Fraction], ...], Field(min_length=MIN_PAIRS, max_length=MAX_PAIRS)]
    metres: Annotated[tuple[tuple[Metre, Metre], ...], Field(min_length=MIN_PAIRS, max_length=MAX_PAIRS)]


class _PresetModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=80)]
    view: Annotated[str, Field(max_length=4096)]


class SceneModel(BaseModel):
    """The JSON and TOML form: `{"zones": [{name, rule, polygon, lon, lat, parameters}], "ground": {points, metres}}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    zones: Annotated[tuple[_ZoneModel, ...], Field(max_length=64)] = ()
    ground: _GroundModel | None = None
    presets: Annotated[tuple[_PresetModel, ...], Field(max_length=64)] = ()
    """Views of a moving camera, each as `vision.health.take_view` writes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """The checked zones of one camera."""

    zones: tuple[AnyZone, ...]
    presets: tuple[Preset, ...] = ()
    """None for a camera that stands still; else every zone belongs to one."""


def parse_scene(value: Any, rules: Mapping[str, AnyRule]) -> Scene:
    """The scene in parsed JSON or TOML. Raises SceneError."""
    try:
        model = SceneModel.model_validate(value)
    except ValidationError as error:
        raise _explain(error, "scene", zone=_name_zone(error, value)) from None
    names: set[str] = set()
    for zone in model.zones:
        if zone.name in names:
            raise SceneError(f"zone {zone.name!r}: there are two of this name", "double_zone", zone=zone.name)
        names.add(zone.name)
    ground = _fit(model.ground) if model.ground is not None else None
    presets = _check_presets(model)
    if presets and ground is not None:
        raise SceneError("ground: a moving camera has no one ground plane", "ground_moving")
    return Scene(zones=tuple(_check_zone(zone, rules, ground) for zone in model.zones), presets=presets)


def read_scene(path: Path, rules: Mapping[str, AnyRule]) -> Scene:
    """The scene in a TOML file. Raises SceneError."""
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SceneError(f"{path}: {error}") from None
    try:
        return parse_scene(value, rules)
    except SceneError as error:
        raise SceneError(f"{path}: {error}", error.code, zone=error.zone, **error.params) from None


def _fit(model: _GroundModel) -> Ground:
    try:
        return fit_ground(model.points, model.metres)
    except GroundError as error:
        raise SceneError(f"ground: {error}", f"ground_{error.code}", **error.params) from None


def _check_presets(model: SceneModel) -> tuple[Preset, ...]:
    presets: list[Preset] = []
    for preset in model.presets:
        if any(other.name == preset.name for other in presets):
            raise SceneError(f"preset {preset.name!r}: there are two of this name", "double_preset", preset=preset.name)
        try:
            presets.append(Preset(name=preset.name, view=unpack_view(preset.view)))
        except ValueError as error:
            raise SceneError(f"preset {preset.name!r}: {error}", "bad_view", preset=preset.name) from None
    names = {preset.name for preset in presets}
    for zone in model.zones:
        if zone.preset not in (names or {""}):
            why = f"there is no preset {zone.preset!r}" if zone.preset else "it must say to which preset it belongs"
            code = "unknown_preset" if zone.preset else "preset_needed"
            raise SceneError(f"zone {zone.name!r}: {why}", code, zone=zone.name, preset=zone.preset)
    return tuple(presets)


def _check_zone(zone: _ZoneModel, rules: Mapping[str, AnyRule], ground: Ground | None) -> AnyZone:
    rule = rules.get(zone.rule)
    if rule is None:
        known = ", ".join(sorted(rules))
        text = f"zone {zone.name!r}: there is no rule {zone.rule!r} (there are: {known})"
        raise SceneError(text, "unknown_rule", zone=zone.name, rule=zone.rule)
    check_polygon(zone.name, zone.polygon)
    if not rule.on_ground:
        ground = None
    if ground is not None and min(ground.nearness(point) for point in zone.polygon) < MIN_NEARNESS:
        text = f"zone {zone.name!r}: it reaches the horizon of the ground plane: draw it lower"
        raise SceneError(text, "horizon", zone=zone.name)
    try:
        parameters = rule.parameters.model_validate(zone.parameters)
    except ValidationError as error:
        raise _explain(error, f"zone {zone.name!r}: parameters of {zone.rule}", zone=zone.name) from None
    return Zone(
        name=zone.name,
        rule=zone.rule,
        polygon=zone.polygon,
        parameters=parameters,
        lon=zone.lon,
        lat=zone.lat,
        ground=ground,
        preset=zone.preset,
    )


def check_polygon(name: str, polygon: tuple[Point, ...]) -> None:
    """Raise SceneError when the polygon crosses or touches itself, or has no area to speak of."""
    shape = Polygon(polygon)
    if not shape.is_valid:
        code, reason = "not_polygon", explain_validity(shape)
        if reason.startswith("Self-intersection"):
            code, reason = "crosses", f"its outline crosses itself at {reason.partition('[')[2].rstrip(']')}"
        raise SceneError(f"zone {name!r}: not a polygon: {reason}", code, zone=name)
    if shape.area < MIN_AREA:
        raise SceneError(f"zone {name!r}: not a polygon: it has no area", "no_area", zone=name)


_LIMITS = ("gt", "ge", "lt", "le", "min_length", "max_length", "limit")


def _explain(error: ValidationError, where: str, *, zone: str) -> SceneError:
    """The first of what is wrong: which field, and the kind of mistake by pydantic's own word for it or the rule's."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    text = f"{where}: {place}: {first['msg']}" if place else f"{where}: {first['msg']}"
    field = next((str(part) for part in reversed(first["loc"]) if isinstance(part, str)), "")
    context = first.get("ctx", {})
    limit = next((context[name] for name in _LIMITS if name in context), None)
    return SceneError(text, first["type"], zone=zone, field=field, limit=limit)


def _name_zone(error: ValidationError, value: Any) -> str:
    """The name of the zone in which the first mistake is."""
    place = error.errors(include_url=False)[0]["loc"]
    if len(place) < 2 or place[0] != "zones" or not isinstance(place[1], int):
        return ""
    try:
        return str(value["zones"][place[1]]["name"])
    except (KeyError, IndexError, TypeError):
        return ""
