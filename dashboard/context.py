"""What a request of the web process may use: settings, clock, databases, hub; made once at start."""

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime

from starlette.requests import HTTPConnection

from dashboard.boxes import BoxFeed
from dashboard.camera import LiveCameras
from dashboard.console import Console
from dashboard.hub import Hub
from dashboard.idempotency import claim_request
from dashboard.live_video import LiveVideo
from dashboard.metrics import Metrics
from dashboard.opening import Openings
from dashboard.session import User
from grid.locate import Locator
from grid.store import read_version
from grid.surroundings import Surveyor
from kernel.clock import Clock
from kernel.db import Connection, Database
from kernel.settings import Settings


class Places:
    """The grid's cells in memory, loaded anew after an import."""

    def __init__(self) -> None:
        self._locator: Locator | None = None
        self._surveyor: Surveyor | None = None
        self._lock = threading.Lock()
        self._surveying = threading.Lock()

    def area_code_at(self, connection: Connection, lon: float, lat: float) -> str:
        """12-digit community code at a CGCS2000 position; '' outside the grid."""
        place = self.locator(connection).locate(lon, lat)
        return place.community_code if place else ""

    def locator(self, connection: Connection) -> Locator:
        """The cells as they are now."""
        version = read_version(connection)
        with self._lock:
            if self._locator is None or self._locator.version != version:
                self._locator = Locator.load(connection)
            return self._locator

    def surveyor(self, connection: Connection) -> Surveyor:
        """Cells, components and background as they are now."""
        locator = self.locator(connection)
        with self._surveying:  # reading components takes longer than cells, and who asks for cells need not wait
            if self._surveyor is None or self._surveyor.version != locator.version:
                self._surveyor = Surveyor.load(connection, locator=locator)
            return self._surveyor


@dataclass(frozen=True, kw_only=True, slots=True)
class Web:
    """The web process."""

    settings: Settings
    clock: Clock
    app_database: Database  # sees what a person's scope allows
    worker_database: Database  # numbering of changes, sessions, people: tables without a scope
    hub: Hub
    metrics: Metrics
    cameras: LiveCameras
    console: Console
    video: LiveVideo
    boxes: BoxFeed
    places: Places = field(default_factory=Places)
    openings: Openings = field(default_factory=Openings)

    def now(self) -> datetime:
        """The present instant."""
        return self.clock.now()

    def transaction(self, user: User) -> AbstractContextManager[Connection]:
        """A transaction that sees this person's rows; the first of a request settles its Idempotency-Key."""
        return claim_request(self.app_database.transaction(user.scope), user.id, self.now())


def get_web(connection: HTTPConnection) -> Web:
    """The web process that serves this request or socket."""
    web: Web = connection.app.state.web
    return web
