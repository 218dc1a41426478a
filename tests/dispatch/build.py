"""A small city for the tests of dispatch: two communities of four cells, people, devices, and a clock that obeys."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import shapely

from dispatch import flow
from dispatch.model import Action, Actor, Inputs
from grid.locate import Locator
from grid.model import Area, GridCell, Level
from grid.store import write_areas, write_cells
from kernel.db import Connection, Database
from kernel.ids import new_id
from kernel.report import Report, insert_report
from kernel.settings import Settings
from kernel.types import Role, Source

START = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
STREET, NORTH, SOUTH = "330103001", "330103001001", "330103001002"
WEST_LON, SOUTH_LAT, STEP = 120.170, 30.280, 0.001
CRS = "EPSG:4490"


def cell_centre(column: int, row: int) -> tuple[float, float]:
    """Longitude and latitude of a cell's middle; rows 0 and 1, columns 0 to 3."""
    return WEST_LON + (column + 0.5) * STEP, SOUTH_LAT + (row + 0.5) * STEP


def cell_code(column: int, row: int) -> str:
    """Row 1 is the northern community, row 0 the southern."""
    return f"{NORTH if row else SOUTH}{column + 1:03d}"


def build_grid(connection: Connection) -> None:
    """Street → two communities → a responsibility grid for each two cells."""
    box = shapely.box(WEST_LON, SOUTH_LAT, WEST_LON + 4 * STEP, SOUTH_LAT + 2 * STEP).wkb
    areas = [(Level.STREET, STREET, "天水街道", None)]
    areas += [(Level.COMMUNITY, code, name, STREET) for code, name in ((NORTH, "仓桥社区"), (SOUTH, "环北社区"))]
    areas += [(Level.GRID, f"{c}G{k}", f"网格{k}", c) for c in (NORTH, SOUTH) for k in (0, 1)]
    write_areas(
        connection,
        [
            Area(
                id=new_id(START), level=level, code=code, name=name, parent_code=parent, geom_wkb=box,
                source_crs=CRS, imported_at=START,
            )
            for level, code, name, parent in areas
        ],
    )  # fmt: skip
    cells = []
    for column in range(4):
        for row in range(2):
            lon, lat = cell_centre(column, row)
            shape = shapely.box(lon - STEP / 2, lat - STEP / 2, lon + STEP / 2, lat + STEP / 2)
            cells.append(
                GridCell(
                    id=new_id(START), code=cell_code(column, row),
                    responsibility_grid_code=f"{NORTH if row else SOUTH}G{column // 2}",
                    lon=lon, lat=lat, geom_wkb=shape.wkb, source_crs=CRS, imported_at=START,
                )
            )  # fmt: skip
    write_cells(connection, cells)


@dataclass
class City:
    """Everything a story needs. `now` stands still until a test moves it."""

    database: Database
    settings: Settings
    now: datetime = START
    people: dict[str, Actor] = field(default_factory=dict)
    devices: dict[str, UUID] = field(default_factory=dict)
    locator: Locator | None = None
    keys: int = 0

    @classmethod
    def build(cls, database: Database, settings: Settings, **dispatch: Any) -> "City":
        changed = settings.dispatch.model_copy(update=dispatch)
        city = cls(database, settings.model_copy(update={"dispatch": changed}))
        with database.transaction() as connection:
            build_grid(connection)
            city.locator = Locator.load(connection)
        return city

    def pass_time(self, **span: float) -> None:
        self.now += timedelta(**span)

    # ---------------------------------------------------------------- nouns

    def add_person(
        self,
        name: str,
        *roles: Role,
        on_duty: bool = True,
        scope: str = "*",
        grid: str | None = None,
        at: tuple[float, float] | None = None,
        logged_in: bool = True,
        language: str = "zh-CN",
    ) -> Actor:
        person = Actor(user_id=new_id(self.now), name=name, roles=frozenset(roles or (Role.GRID_WORKER,)), scope=scope)
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT INTO app_user (id, name, display_name, roles, scope, responsibility_grid_code, on_duty, created_at,"
                " language) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    person.user_id, name, name, [r.value for r in person.roles], scope, grid, on_duty, self.now, language,
                ),
            )  # fmt: skip
            if logged_in:
                connection.execute(
                    "INSERT INTO session (token_hash, user_id, seat, created_at, expires_at, seen_at)"
                    " VALUES (%s, %s, 'phone', %s, %s, %s)",
                    (person.user_id.bytes, person.user_id, self.now, self.now + timedelta(days=1), self.now),
                )
        self.people[name] = person
        if at is not None:
            self.move(person, *at)
        return person

    def move(self, person: Actor, lon: float, lat: float) -> None:
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT INTO staff_position (user_id, lon, lat, measured_at, received_at) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT (user_id) DO UPDATE SET lon = excluded.lon, lat = excluded.lat,"
                " measured_at = excluded.measured_at, received_at = excluded.received_at",
                (person.user_id, lon, lat, self.now, self.now),
            )

    def set_duty(self, person: Actor, on_duty: bool) -> None:
        with self.database.transaction() as connection:
            connection.execute("UPDATE app_user SET on_duty = %s WHERE id = %s", (on_duty, person.user_id))

    def add_device(self, code: str, kind: str = "smoke_alarm", column: int = 0, row: int = 0) -> UUID:
        device_id = new_id(self.now)
        lon, lat = cell_centre(column, row)
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT INTO device (id, code, kind, name, lon, lat, source_crs, cell_code, area_code, created_at, changed_at)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    device_id, code, kind, f"天水-{code}", lon, lat, CRS, cell_code(column, row),
                    NORTH if row else SOUTH, self.now, self.now,
                ),
            )  # fmt: skip
        self.devices[code] = device_id
        return device_id

    def add_photo(self, person: Actor, kind: str = "photo") -> UUID:
        evidence_id = new_id(self.now)
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT INTO evidence (id, kind, path, sha256, mime, width, height, area_code, taken_at, created_by)"
                " VALUES (%s, %s, %s, %s, 'image/jpeg', 640, 360, %s, %s, %s)",
                (evidence_id, kind, f"{evidence_id}.jpg", evidence_id.bytes, SOUTH, self.now, person.user_id),
            )
        return evidence_id

    # ---------------------------------------------------------------- what happens

    def report(
        self,
        category: str = "bin_overflow",
        source: Source = Source.CAMERA,
        *,
        device: str | None = None,
        column: int = 0,
        row: int = 0,
        rule: str = "",
        zone: str = "",
        severity: int | None = None,
        source_key: str | None = None,
        position: tuple[float, float] | None = None,
        occurred_at: datetime | None = None,
        reporter: Actor | None = None,
        evidence_ids: tuple[UUID, ...] = (),
        detail: dict[str, Any] | None = None,
    ) -> UUID:
        self.keys += 1
        lon, lat = position or cell_centre(column, row)
        report = Report(
            id=new_id(self.now), source=source, source_key=source_key or f"key-{self.keys}", category=category, lon=lon,
            lat=lat, occurred_at=occurred_at or self.now, received_at=self.now, severity=severity, rule=rule, zone=zone,
            device_id=self.devices[device] if device else None, evidence_ids=evidence_ids, detail=detail or {},
            reporter_id=reporter.user_id if reporter else None,
        )  # fmt: skip
        with self.database.transaction() as connection:
            insert_report(connection, report)
        return report.id

    def take(self, limit: int = 100) -> int:
        with self.database.transaction() as connection:
            return flow.take_reports(connection, self.now, self.settings, self.locator, limit)

    def advance(self) -> int:
        with self.database.transaction() as connection:
            return flow.advance(connection, self.now, self.settings)

    def turn(self) -> None:
        """One round of the dispatch role."""
        self.take()
        self.advance()

    def act(self, actor: Actor, action: Action, version: int | None = None, **inputs: Any) -> dict[str, Any]:
        """Do something to the only incident, or to `incident_id`; `other` is the second one that it is about."""
        incident_id = inputs.pop("incident_id", None) or UUID(self.incident()["id"])
        if "other" in inputs:
            inputs["incident_id"] = inputs.pop("other")
        with self.database.transaction() as connection:
            return flow.act(connection, incident_id, action, actor, Inputs(**inputs), self.now, version)

    def handle(self, person: Actor) -> dict[str, Any]:
        """Accept, go there, photograph, done."""
        self.act(person, Action.ACCEPT)
        self.act(person, Action.ARRIVE)
        return self.finish(person)

    def finish(self, person: Actor) -> dict[str, Any]:
        lon, lat = cell_centre(0, 0)
        return self.act(person, Action.HANDLE, evidence_id=self.add_photo(person), lon=lon, lat=lat)

    def answer_checks(self, verdict: str, evidence_id: UUID | None = None) -> int:
        """As vision or ingest would."""
        with self.database.transaction() as connection:
            return connection.execute(
                "UPDATE check_request SET answered_at = %s, verdict = %s, evidence_id = %s WHERE answered_at IS NULL",
                (self.now, verdict, evidence_id),
            ).rowcount

    # ---------------------------------------------------------------- what is seen

    def incidents(self, state: str = "all") -> list[dict[str, Any]]:
        from dispatch.store import read_incidents

        with self.database.transaction() as connection:
            return read_incidents(connection, now=self.now, state=state)

    def incident(self, actor: Actor | None = None) -> dict[str, Any]:
        """The only incident, in full."""
        found = self.incidents()
        assert len(found) == 1, [i["number"] for i in found]
        return self.read(UUID(found[0]["id"]), actor)

    def read(self, incident_id: UUID, actor: Actor | None = None) -> dict[str, Any]:
        """An incident in full."""
        from dispatch.store import read_incident

        with self.database.transaction() as connection:
            view = read_incident(connection, incident_id, now=self.now, actor=actor)
        assert view is not None
        return view

    def query(self, text: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.database.transaction() as connection:
            return connection.execute(text, parameters).fetchall()  # type: ignore[arg-type]

    def story(self) -> list[str]:
        """What happened to the only incident, in order."""
        return [event["action"] for event in self.incident()["events"]]
