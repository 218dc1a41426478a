"""Routes of the map: what there is to draw, and each layer as GeoJSON, compressed once and answered by its ETag."""

import gzip
import hashlib
import threading
import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel

from dashboard.auth import CurrentUser, CurrentWeb
from dashboard.context import Web
from dashboard.errors import Problem
from dashboard.session import User
from grid.store import UnknownLayer, read_layer_geojson, read_map_summary, read_version

router = APIRouter(tags=["map"])
_CHECK_EVERY_S = 5.0


class District(BaseModel):
    """The area that all lies in."""

    code: str
    name: str


class Layer(BaseModel):
    """A layer that has features."""

    name: str
    url: str
    features: int


class MapSummary(BaseModel):
    """What the map can show; `bounds` is west, south, east, north in CGCS2000 degrees, None before an import."""

    district: District | None
    bounds: tuple[float, float, float, float] | None
    layers: list[Layer]
    version: str
    tiles_url: str


@dataclass(frozen=True, slots=True)
class _Stored:
    version: str
    etag: str
    plain: bytes
    packed: bytes


class LayerCache:
    """Layers as they are sent. An import changes the grid's version, which is asked for every few seconds at most."""

    def __init__(self) -> None:
        self._stored: dict[str, _Stored] = {}
        self._version = ""
        self._checked_s = -1e9
        self._lock = threading.Lock()

    def read(self, web: Web, user: User, layer: str) -> _Stored:
        """The layer. Raises UnknownLayer."""
        with self._lock:  # one builds it, the others wait for that
            with web.transaction(user) as connection:
                if time.monotonic() - self._checked_s > _CHECK_EVERY_S:
                    self._version, self._checked_s = read_version(connection), time.monotonic()
                stored = self._stored.get(layer)
                if stored is not None and stored.version == self._version:
                    return stored
                plain = read_layer_geojson(connection, layer)
            etag = f'"{hashlib.sha256(plain).hexdigest()[:24]}"'
            stored = _Stored(self._version, etag, plain, gzip.compress(plain, 6, mtime=0))
            self._stored[layer] = stored
            return stored


@router.get("/map")
def show_map(user: CurrentUser, web: CurrentWeb) -> MapSummary:
    """What the map can show."""
    with web.transaction(user) as connection:
        summary = read_map_summary(connection)
    layers = [Layer(url=f"/api/v1/map/{layer['name']}.geojson", **layer) for layer in summary["layers"]]
    return MapSummary(
        district=summary["district"],
        bounds=summary["bounds"],
        layers=layers,
        version=summary["version"],
        tiles_url=web.settings.web.map_tiles_url,
    )


@router.get("/map/{layer}.geojson", response_class=Response)
def show_layer(
    layer: str,
    request: Request,
    user: CurrentUser,
    web: CurrentWeb,
    if_none_match: Annotated[str, Header()] = "",
    accept_encoding: Annotated[str, Header()] = "",
) -> Response:
    """A layer: area-district, area-street, area-community, area-grid, cell, or one of the background."""
    cache: LayerCache = request.app.state.layer_cache
    try:
        stored = cache.read(web, user, layer)
    except UnknownLayer:
        raise Problem(404, "unknown_layer", "There is no such layer") from None
    headers = {"ETag": stored.etag, "Cache-Control": "private, no-cache", "Vary": "Accept-Encoding, Cookie"}
    if stored.etag in {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}:
        return Response(status_code=304, headers=headers)
    if "gzip" in accept_encoding:
        return Response(
            stored.packed, media_type="application/geo+json", headers={**headers, "Content-Encoding": "gzip"}
        )
    return Response(stored.plain, media_type="application/geo+json", headers=headers)
