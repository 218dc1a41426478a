"""Coordinate systems: CGCS2000 degrees inside, and whatever a file, a device or a map service speaks outside.

Named systems: "EPSG:<n>" (anything pyproj knows), "gcj02" (Amap, Tencent) and "bd09" (Baidu). CGCS2000 (EPSG:4490) and
WGS 84 differ by centimetres and are taken as one. Longitude always comes first.

gcj02 and bd09 are not coordinate reference systems but published-by-practice obfuscations of WGS 84; the formulas here
are the ones in general use (eviltransform and its many descendants). Outside mainland China's bounding box, 72.004 to
137.8347° E and 0.8293 to 55.8271° N, map services do not apply them, and neither do we.
"""

import re
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

Floats = NDArray[np.float64]
_Shift = Callable[[Floats, Floats], tuple[Floats, Floats]]
CGCS2000 = "EPSG:4490"
GCJ02, BD09 = "gcj02", "bd09"

_SAME = {"EPSG:4490", "EPSG:4326"}
_EPSG = re.compile(r"EPSG:([0-9]{1,6})")
_CHINA = (72.004, 0.8293, 137.8347, 55.8271)  # west, south, east, north
_KRASOVSKY_M, _ECCENTRICITY_2 = 6378245.0, 0.00669342162296594323
_BAIDU_TURN = np.pi * 3000.0 / 180.0
_MARGIN_DEG = 0.02  # more than any shift
_ROUNDS = 12  # the inverse gains about two digits a round; 1e-11 degrees is reached in five or six


class CrsError(ValueError):
    """The named coordinate system is not known; the text says what is."""


class CoordinateError(ValueError):
    """A coordinate that is not finite, or that the named system cannot hold."""


def check_crs(crs: str) -> str:
    """The name in its usual writing ("EPSG:4549", "gcj02", "bd09").

    Raises CrsError for anything else.
    """
    text = crs.strip()
    if text.lower().replace("-", "") in (GCJ02, BD09):
        return text.lower().replace("-", "")
    match = _EPSG.fullmatch(text.upper())
    if match is None:
        raise CrsError(f"unknown coordinate system {crs!r}: give EPSG:<number>, gcj02 or bd09")
    name = f"EPSG:{int(match[1])}"
    _transformer(name, CGCS2000)
    return name


def to_cgcs2000(lon: float, lat: float, crs: str) -> tuple[float, float]:
    """One position of `crs` (easting or longitude first) as CGCS2000 longitude and latitude in degrees.

    Raises CrsError for an unknown system, CoordinateError for values it cannot hold.
    """
    lons, lats = to_cgcs2000_many([lon], [lat], crs)
    return float(lons[0]), float(lats[0])


def from_cgcs2000(lon: float, lat: float, crs: str) -> tuple[float, float]:
    """One CGCS2000 position in `crs`: easting or longitude first.

    Raises CrsError for an unknown system, CoordinateError for values it cannot hold.
    """
    xs, ys = from_cgcs2000_many([lon], [lat], crs)
    return float(xs[0]), float(ys[0])


def to_cgcs2000_many(xs: ArrayLike, ys: ArrayLike, crs: str) -> tuple[Floats, Floats]:
    """Positions of `crs`, (n,) and (n,), as CGCS2000 longitudes and latitudes in degrees. Raises like to_cgcs2000."""
    name, x, y = check_crs(crs), _finite(xs), _finite(ys)
    if name == GCJ02:
        return _undo_in_china(_to_gcj02, *_degrees(x, y))
    if name == BD09:
        return _undo_in_china(_to_bd09, *_degrees(x, y))
    if name in _SAME:
        return _degrees(x, y)
    return _degrees(*_project(name, CGCS2000, x, y))


def from_cgcs2000_many(lons: ArrayLike, lats: ArrayLike, crs: str) -> tuple[Floats, Floats]:
    """CGCS2000 positions, (n,) and (n,) degrees, in `crs`. Raises like from_cgcs2000."""
    name = check_crs(crs)
    lon, lat = _degrees(_finite(lons), _finite(lats))
    if name == GCJ02:
        return _do_in_china(_to_gcj02, lon, lat)
    if name == BD09:
        return _do_in_china(_to_bd09, lon, lat)
    if name in _SAME:
        return lon, lat
    return _project(CGCS2000, name, lon, lat)


def in_china(lons: ArrayLike, lats: ArrayLike) -> NDArray[np.bool_]:
    """Which positions lie in the bounding box where gcj02 and bd09 apply."""
    lon, lat = np.asarray(lons, dtype=np.float64), np.asarray(lats, dtype=np.float64)
    west, south, east, north = _CHINA
    return (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)


def _to_gcj02(lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
    x, y = lon - 105.0, lat - 35.0
    root = np.sqrt(np.abs(x))
    ripple = 20.0 * np.sin(6.0 * x * np.pi) + 20.0 * np.sin(2.0 * x * np.pi)
    north = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * root
    north += (ripple + 20.0 * np.sin(y * np.pi) + 40.0 * np.sin(y / 3.0 * np.pi)) * 2.0 / 3.0
    north += (160.0 * np.sin(y / 12.0 * np.pi) + 320.0 * np.sin(y * np.pi / 30.0)) * 2.0 / 3.0
    east = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * root
    east += (ripple + 20.0 * np.sin(x * np.pi) + 40.0 * np.sin(x / 3.0 * np.pi)) * 2.0 / 3.0
    east += (150.0 * np.sin(x / 12.0 * np.pi) + 300.0 * np.sin(x / 30.0 * np.pi)) * 2.0 / 3.0
    phi = np.radians(lat)
    magic = 1.0 - _ECCENTRICITY_2 * np.sin(phi) ** 2
    meridian_m = _KRASOVSKY_M * (1.0 - _ECCENTRICITY_2) / (magic * np.sqrt(magic))
    parallel_m = _KRASOVSKY_M / np.sqrt(magic) * np.cos(phi)
    return lon + np.degrees(east / parallel_m), lat + np.degrees(north / meridian_m)


def _to_bd09(lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
    x, y = _to_gcj02(lon, lat)
    radius = np.hypot(x, y) + 0.00002 * np.sin(y * _BAIDU_TURN)
    angle = np.arctan2(y, x) + 0.000003 * np.cos(x * _BAIDU_TURN)
    return radius * np.cos(angle) + 0.0065, radius * np.sin(angle) + 0.006


def _do_in_china(shift: _Shift, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
    x, y = lon.copy(), lat.copy()
    inside = in_china(lon, lat)
    x[inside], y[inside] = shift(lon[inside], lat[inside])
    return x, y


def _undo_in_china(shift: _Shift, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Fixed-point inverse. In the strip of a kilometre along the box two answers may exist; the inner one is given."""
    lon, lat = x.copy(), y.copy()
    near = in_china(x, y) | in_china(x - _MARGIN_DEG, y - _MARGIN_DEG) | in_china(x + _MARGIN_DEG, y + _MARGIN_DEG)
    for _ in range(_ROUNDS):
        shifted_lon, shifted_lat = shift(lon[near], lat[near])
        lon[near] += x[near] - shifted_lon
        lat[near] += y[near] - shifted_lat
    inside = near & in_china(lon, lat)
    return np.where(inside, lon, x), np.where(inside, lat, y)


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Transformer:
    try:
        return Transformer.from_crs(CRS.from_user_input(source), CRS.from_user_input(target), always_xy=True)
    except (CRSError, ProjError) as error:
        unknown = source if target == CGCS2000 else target
        raise CrsError(f"unknown coordinate system {unknown!r}: give EPSG:<number>, gcj02 or bd09") from error


def _project(source: str, target: str, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    try:
        u, v = _transformer(source, target).transform(x, y, errcheck=True)
    except ProjError as error:
        raise CoordinateError(f"{source} cannot hold these coordinates: {error}") from error
    return _finite(u), _finite(v)


def _finite(values: ArrayLike) -> Floats:
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if not np.isfinite(array).all():
        raise CoordinateError("a coordinate is not a finite number")
    return array


def _degrees(lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
    wrong = (np.abs(lon) > 180.0) | (np.abs(lat) > 90.0)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise CoordinateError(f"longitude {lon[at]:.7g}, latitude {lat[at]:.7g} are not degrees of a place on Earth")
    return lon, lat
