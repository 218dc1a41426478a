"""A day of a district through the real dispatch: reports, people with shifts, breaks, refusals and dead phones, operators.

The database is real and every step goes through dispatch.flow and dispatch.action; only the instant is the drill's own, so that a day passes in
minutes. What people do is drawn from a seed (dispatch.scenario, and the habits below). Nothing here looks into the plan.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import cv2
import numpy as np
import shapely
from psycopg.errors import LockNotAvailable

from dispatch import flow, store
from dispatch.action import perform
from dispatch.cost import SPEED_M_S
from dispatch.model import Action, ActionRefused, Actor, Inputs
from dispatch.policy import distance_m
from dispatch.scenario import HIGH, SOUTH, WEST, WIDE, make_cases, make_staff, place
from dispatch.whatif import Case, Staff
from grid.locate import Locator
from grid.model import Area, GridCell, Level
from grid.store import write_areas, write_cells
from kernel.db import Connection, Database
from kernel.ids import new_id
from kernel.report import Report, insert_report
from kernel.settings import Settings
from kernel.types import Role, Source, Verdict

DAY = datetime(2026, 11, 19, 16, 0, tzinfo=UTC)  # midnight in Hangzhou
_ROUND_S = 30.0
_TAIL = timedelta(hours=10)  # after the day: what is open may still be finished
_COLUMNS, _ROWS = 40, 20
_REFUSES, _SILENT, _ANSWER_S = 0.05, 0.03, 25.0
_VOIDED, _NOT_CLEAR, _INCONCLUSIVE = 0.1, 0.05, 0.02  # of the public's reports; of closure checks
_CATEGORIES = ("exposed_garbage", "bin_overflow", "illegal_parking", "bikes_misparked", "dirty_road", "unlicensed_vendor",
               "trading_outside_shop", "damaged_road", "heaped_junk", "cable_down")  # fmt: skip
_SOURCES = ((Source.GRID_WORKER, 0.55), (Source.CITIZEN, 0.25), (Source.HOTLINE, 0.1), (Source.OPERATOR, 0.1))
_FREE = "SELECT id FROM incident WHERE state NOT IN ('closed', 'void')"


@dataclass(slots=True)
class Phone:
    """A person of the day: where they are, what they have accepted."""

    staff: Staff
    actor: Actor
    lon: float
    lat: float
    queue: list[UUID] = field(default_factory=list)
    working: UUID | None = None

    def is_dead(self, now: datetime) -> bool:
        return any(began <= now < ended for began, ended in self.staff.dead)


class Day:
    """One simulated day. `figures` counts what happened."""

    def __init__(self, database: Database, settings: Settings, reports: int, people: int, seed: int) -> None:
        self.database, self.settings = database, settings
        self.rng = np.random.default_rng(seed)
        self.cases: list[Case] = make_cases(self.rng, reports, DAY)
        self.places = {case.task.id: case for case in self.cases}
        self.now = DAY
        self.figures: Counter[str] = Counter()
        self._events: list[tuple[datetime, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._asked: set[tuple[UUID, int]] = set()
        self._offers_seen: set[UUID] = set()
        self.phones: dict[UUID, Phone] = {}
        with database.transaction() as connection:
            _make_district(connection)
            self._hire(connection, make_staff(self.rng, people, DAY))
            self.locator = Locator.load(connection)
        for number, case in enumerate(self.cases):
            self._at(case.filed_at, lambda number=number: self._report(number))
        for phone in self.phones.values():
            ((began, ended),) = phone.staff.shifts
            self._at(began, lambda phone=phone: self._set_duty(phone, True))
            self._at(ended, lambda phone=phone: self._set_duty(phone, False))

    def run(self) -> None:
        """The day and its tail; ends early when nothing is open any more."""
        step = timedelta(seconds=_ROUND_S)
        positions_at = DAY
        while self.now < DAY + timedelta(days=1) + _TAIL:
            self.now += step
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            if self.now >= positions_at:
                self._send_positions()
                positions_at = self.now + timedelta(minutes=5)
            self._round()
            if self.now > DAY + timedelta(days=1) and not self._query(f"{_FREE} LIMIT 1"):
                return

    # ------------------------------------------------------------------------------------------------ the system's side

    def _round(self) -> None:
        """One turn of the dispatch role, and then everybody looks at their phone or screen."""
        with self.database.transaction() as connection:
            flow.take_reports(connection, self.now, self.settings, self.locator, 100)
        with self.database.transaction() as connection:
            flow.advance(connection, self.now, self.settings, 100)
        self.figures["rounds"] += 1
        for assignment_id, incident_id, user_id in self._query(
            "SELECT id, incident_id, user_id FROM assignment WHERE outcome IS NULL"
        ):
            if assignment_id not in self._offers_seen:
                self._offers_seen.add(assignment_id)
                self._ring(incident_id, self.phones[user_id])
        for incident_id, version, need in self._query(
            "SELECT id, version, needs_operator FROM incident WHERE needs_operator IS NOT NULL AND state NOT IN ('closed', 'void')"
        ):
            if (incident_id, version) not in self._asked:
                self._asked.add((incident_id, version))
                self._after(float(self.rng.exponential(60)), lambda i=incident_id, n=need: self._decide(i, n))

    def _query(self, text: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        with self.database.transaction() as connection:
            return connection.execute(text, parameters).fetchall()  # type: ignore[arg-type]

    def _at(self, at: datetime, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._order), act))

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._at(self.now + timedelta(seconds=seconds), act)

    def _act(self, incident_id: UUID, action: Action, actor: Actor, **inputs: Any) -> bool:
        """Do it as the web would, but for the JSON of the answer; whether it was allowed. What was overtaken is counted."""
        try:
            with self.database.transaction() as connection:
                incident = store.lock_incident(connection, incident_id)
                assert incident is not None
                perform(connection, incident, action, actor, Inputs(**inputs), self.now)
        except ActionRefused as refused:
            self.figures[f"refused {action}: {refused.code}"] += 1
            return False
        except LockNotAvailable:
            self._after(1.0, lambda: self._act(incident_id, action, actor, **inputs) and None)
            return False
        self.figures[action] += 1
        return True

    # ------------------------------------------------------------------------------------------------ people

    def _report(self, number: int) -> None:
        case = self.cases[number]
        draw = np.random.default_rng((7, number))
        source = draw.choice([name for name, _ in _SOURCES], p=[share for _, share in _SOURCES])
        near = draw.normal(0, 8 / 111_195, 2)
        report = Report(
            id=new_id(self.now), source=Source(str(source)), source_key=f"day-{number}",
            category="fire_lane_blocked" if case.task.severity == 1 else str(draw.choice(_CATEGORIES)),
            lon=float(np.clip(case.task.lon + near[0], WEST, WEST + WIDE * 0.9999)),
            lat=float(np.clip(case.task.lat + near[1], SOUTH, SOUTH + HIGH * 0.9999)),
            occurred_at=self.now, received_at=self.now, severity=case.task.severity, rule="", zone="", device_id=None,
            evidence_ids=(), detail={}, reporter_id=None,
        )  # fmt: skip
        with self.database.transaction() as connection:
            insert_report(connection, report)
        self.figures["reports"] += 1

    def _set_duty(self, phone: Phone, on_duty: bool) -> None:
        self._query("UPDATE app_user SET on_duty = %s WHERE id = %s RETURNING id", (on_duty, phone.actor.user_id))
        if not on_duty:  # what nobody has begun goes to others
            for incident_id in phone.queue:
                self._act(incident_id, Action.SEND_BACK, phone.actor, reason="交班")
            phone.queue.clear()

    def _send_positions(self) -> None:
        there = [one for one in self.phones.values() if not one.is_dead(self.now) and _within(one, self.now)]
        self._query(
            """
            INSERT INTO staff_position (user_id, lon, lat, measured_at, received_at)
            SELECT u, x, y, %(now)s, %(now)s FROM unnest(%(u)s::uuid[], %(x)s::float8[], %(y)s::float8[]) AS t (u, x, y)
            ON CONFLICT (user_id) DO UPDATE SET lon = excluded.lon, lat = excluded.lat,
                measured_at = excluded.measured_at, received_at = excluded.received_at RETURNING 1
            """,
            {
                "now": self.now, "u": [one.actor.user_id for one in there], "x": [one.lon for one in there],
                "y": [one.lat for one in there],
            },
        )  # fmt: skip

    def _ring(self, incident_id: UUID, phone: Phone) -> None:
        """A task is offered: accepted, refused, or nobody answers."""
        if not _within(phone, self.now):
            self.figures["offered off duty"] += 1
        luck = self.rng.random()
        if phone.is_dead(self.now) or luck < _SILENT:
            return
        wait_s = float(self.rng.exponential(_ANSWER_S))
        if luck < _SILENT + _REFUSES:
            self._after(wait_s, lambda: self._act(incident_id, Action.REFUSE, phone.actor, reason="正忙") and None)
        else:
            self._after(wait_s, lambda: self._accept(incident_id, phone))

    def _accept(self, incident_id: UUID, phone: Phone) -> None:
        if _within(phone, self.now) and self._act(incident_id, Action.ACCEPT, phone.actor):
            phone.queue.append(incident_id)
            self._set_out(phone)

    def _set_out(self, phone: Phone) -> None:
        if phone.working is not None or not phone.queue:
            return
        incident_id = phone.working = phone.queue.pop(0)
        ((lon, lat),) = self._query("SELECT lon, lat FROM incident WHERE id = %s", (incident_id,))
        way_s = distance_m(phone.lon, phone.lat, lon, lat) * 1.3 / SPEED_M_S[phone.staff.worker.means]
        phone.lon, phone.lat = lon, lat
        self._after(way_s, lambda: self._arrive(incident_id, phone))

    def _arrive(self, incident_id: UUID, phone: Phone) -> None:
        if self._act(incident_id, Action.ARRIVE, phone.actor, lon=phone.lon, lat=phone.lat):
            work_s = float(np.clip(self.rng.lognormal(np.log(420), 0.6), 60, 5400))
            self._after(work_s, lambda: self._finish(incident_id, phone))
        else:
            self._free(phone)

    def _finish(self, incident_id: UUID, phone: Phone) -> None:
        evidence_id = self._photograph(phone)
        self._act(
            incident_id,
            Action.HANDLE,
            phone.actor,
            evidence_id=evidence_id,
            lon=phone.lon,
            lat=phone.lat,
            accuracy_m=8.0,
        )
        self._free(phone)

    def _free(self, phone: Phone) -> None:
        phone.working = None
        self._set_out(phone)

    def _photograph(self, phone: Phone) -> UUID:
        """A picture of its own, taken now."""
        evidence_id = new_id(self.now)
        blocks = self.rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        picture = cv2.imencode(".jpg", cv2.resize(blocks, (128, 96), interpolation=cv2.INTER_CUBIC))[1].tobytes()
        folder = Path(self.settings.evidence_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{evidence_id}.jpg").write_bytes(picture)
        self._query(
            "INSERT INTO evidence (id, kind, path, sha256, mime, width, height, area_code, lon, lat, taken_at, created_by)"
            " VALUES (%s, 'photo', %s, %s, 'image/jpeg', 128, 96, %s, %s, %s, %s, %s) RETURNING id",
            (
                evidence_id,
                f"{evidence_id}.jpg",
                evidence_id.bytes,
                "330103",
                phone.lon,
                phone.lat,
                self.now,
                phone.actor.user_id,
            ),
        )
        return evidence_id

    # ------------------------------------------------------------------------------------------------ operators

    def _decide(self, incident_id: UUID, need: str) -> None:
        """What an operator does about it a little later, if it is still so."""
        ((state, still, proposal, handled),) = self._query(
            "SELECT state, needs_operator, proposal, handler_id FROM incident WHERE id = %s", (incident_id,)
        )
        if still != need:
            return
        operator = self.operators[0] if handled != self.operators[0].user_id else self.operators[1]
        if state == "handled":
            draw = self.rng.random()
            verdict = (
                Verdict.NOT_CLEAR if draw < _NOT_CLEAR
                else Verdict.INCONCLUSIVE if draw < _NOT_CLEAR + _INCONCLUSIVE
                else Verdict.CLEAR
            )  # fmt: skip
            self._act(
                incident_id,
                Action.CHECK,
                operator,
                verdict=verdict,
                note="现场照片" if verdict != Verdict.CLEAR else "",
            )
            if verdict is Verdict.INCONCLUSIVE:  # looked at again later
                self._after(600, lambda: self._act(incident_id, Action.CHECK, operator, verdict=Verdict.CLEAR) and None)
        elif state == "reported":
            if self.rng.random() < _VOIDED:
                self._act(incident_id, Action.VOID, operator, reason="现场不存在")
            else:
                self._act(incident_id, Action.FILE, operator)
        elif state == "filed" and proposal and proposal.get("user_id"):
            if not self._act(incident_id, Action.DISPATCH, operator, user_id=UUID(proposal["user_id"])):
                self._asked_again(incident_id, need)
        else:
            self._asked_again(incident_id, need)

    def _asked_again(self, incident_id: UUID, need: str) -> None:
        """Nobody can be sent now: in ten minutes whoever is on duty and nearest by the list."""
        self._after(600, lambda: self._send_any(incident_id, need))

    def _send_any(self, incident_id: UUID, need: str) -> None:
        ((state, still),) = self._query("SELECT state, needs_operator FROM incident WHERE id = %s", (incident_id,))
        if state != "filed" or still != need:
            return
        with self.database.transaction() as connection:
            found = flow.candidates(connection, incident_id, self.operators[0], self.now, self.settings)
        there = [one for one in found if one["on_duty"] and "on_break" not in one["reasons"]]
        if not there or not self._act(
            incident_id, Action.DISPATCH, self.operators[0], user_id=UUID(there[0]["user"]["id"])
        ):
            self._asked_again(incident_id, need)

    # ------------------------------------------------------------------------------------------------ the district

    def _hire(self, connection: Connection, staff: list[Staff]) -> None:
        self.operators = [self._add(connection, f"值班长{k}", (Role.OPERATOR,), None, on_duty=True) for k in (1, 2)]
        for one in staff:
            worker = one.worker
            actor = self._add(connection, worker.name, (Role.GRID_WORKER,), worker.responsibility_grid_code)
            assert actor.user_id and worker.lon is not None and worker.lat is not None
            self.phones[actor.user_id] = Phone(staff=one, actor=actor, lon=worker.lon, lat=worker.lat)
            connection.execute(
                "INSERT INTO staff_profile (user_id, means, skills) VALUES (%s, %s, %s)",
                (actor.user_id, worker.means, list(worker.skills)),
            )
            for (starts_at, ends_at), (since, until) in zip(one.shifts, one.breaks, strict=True):
                connection.execute(
                    "INSERT INTO shift (id, user_id, starts_at, ends_at, breaks) VALUES (%s, %s, %s, %s,"
                    " tstzmultirange(tstzrange(%s, %s)))",
                    (new_id(DAY), actor.user_id, starts_at, ends_at, since, until),
                )

    def _add(
        self, connection: Connection, name: str, roles: tuple[Role, ...], grid: str | None, on_duty: bool = False
    ) -> Actor:
        actor = Actor(user_id=new_id(DAY), name=name, roles=frozenset(roles), scope="*")
        connection.execute(
            "INSERT INTO app_user (id, name, display_name, roles, scope, responsibility_grid_code, on_duty, created_at)"
            " VALUES (%s, %s, %s, %s, '*', %s, %s, %s)",
            (actor.user_id, name, name, [role.value for role in roles], grid, on_duty, DAY),
        )
        return actor


def _within(phone: Phone, now: datetime) -> bool:
    return any(began <= now < ended for began, ended in phone.staff.shifts)


def _make_district(connection: Connection) -> None:
    """Cells of about 100 m with the codes of dispatch.scenario."""
    crs = "EPSG:4490"
    areas: dict[str, Area] = {}
    cells, numbers = [], Counter[str]()

    def area(level: Level, code: str, name: str, parent: str | None) -> None:
        whole = shapely.box(WEST, SOUTH, WEST + WIDE, SOUTH + HIGH).wkb
        areas.setdefault(
            code,
            Area(
                id=new_id(DAY), level=level, code=code, name=name, parent_code=parent, geom_wkb=whole, source_crs=crs,
                imported_at=DAY,
            ),
        )  # fmt: skip

    for column in range(_COLUMNS):
        for row in range(_ROWS):
            x, y = (column + 0.5) / _COLUMNS, (row + 0.5) / _ROWS
            lon, lat, community, grid = place(x, y)
            area(Level.STREET, community[:9], f"街道{community[6:9]}", None)
            area(Level.COMMUNITY, community, f"社区{community[6:]}", community[:9])
            area(Level.GRID, grid, f"网格{grid[6:]}", community)
            numbers[community] += 1
            half_x, half_y = WIDE / _COLUMNS / 2, HIGH / _ROWS / 2
            cells.append(
                GridCell(
                    id=new_id(DAY), code=f"{community}{numbers[community]:03d}", responsibility_grid_code=grid, lon=lon,
                    lat=lat, geom_wkb=shapely.box(lon - half_x, lat - half_y, lon + half_x, lat + half_y).wkb,
                    source_crs=crs, imported_at=DAY,
                )
            )  # fmt: skip
    write_areas(connection, list(areas.values()))
    write_cells(connection, cells)
