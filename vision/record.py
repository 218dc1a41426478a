"""Writing what the cameras found: in a thread of its own, so that a slow database never delays a look.

Per camera and transaction: evidence, reports and the rules' state together. After a kill, either the report is there
and the state knows it, or neither is and the rule raises again, under the same key.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout

from devices.alarm_store import take_message
from devices.rulebook import BookKeeper
from kernel.db import Connection, Database
from kernel.ids import new_id
from kernel.report import Report, insert_report
from kernel.settings import Settings
from kernel.types import Source, Verdict
from vision.evidence import Caption, draw_snapshot, write_evidence
from vision.lettering import Lettering
from vision.live import Answered, Raised, Writing
from vision.model import TITLES, Box
from vision.store import answer_check, save_states

log = logging.getLogger(__name__)

VERDICT_TITLES = {
    Verdict.CLEAR: ("复查：已消除", "Checked: clear"),
    Verdict.NOT_CLEAR: ("复查：仍存在", "Checked: not clear"),
    Verdict.INCONCLUSIVE: ("复查：无法判断", "Checked: inconclusive"),
}
RETRY_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Studio:
    """What is needed to make a snapshot."""

    settings: Settings
    lettering: Lettering
    rules: BookKeeper = field(default_factory=BookKeeper)  # of the cameras' health

    def draw(self, item: Raised | Answered) -> bytes | None:
        """The snapshot of a finding or of a check; None for a check without a picture."""
        if item.picture is None:
            return None
        boxes: tuple[Box, ...]
        if isinstance(item, Raised):
            titles, boxes, at = TITLES[item.finding.category], (item.finding.box,), item.finding.raised_at
        else:
            titles, boxes, at = VERDICT_TITLES[item.answer.verdict], item.boxes, item.taken_at
        place = " ".join(part for part in (item.device.name, item.zone.name if item.zone else "") if part)
        caption = Caption(
            title_zh=titles[0],
            title_en=titles[1],
            place=place,
            at=at,
            timezone=self.settings.city.timezone,
            language=self.settings.city.language,
        )
        polygon = item.zone.polygon if item.zone else ()
        return draw_snapshot(item.picture, boxes=boxes, polygon=polygon, caption=caption, lettering=self.lettering)


class Recorder:
    """Takes writings from the scheduler and brings them into the database, each camera's in order."""

    def __init__(self, database: Database, studio: Studio, now: Callable[[], datetime]) -> None:
        self._database = database
        self._studio = studio
        self._now = now
        self._waiting: dict[UUID, Writing] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="vision-recorder", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, writing: Writing) -> None:
        """Hand over; returns at once. While the database is away, newest state and health count, and every report."""
        with self._changed:
            self._waiting[writing.device.id] = merge(self._waiting.get(writing.device.id), writing)
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Write what waits, as far as that is possible in `timeout_s`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                batch, self._waiting = list(self._waiting.values()), {}
            failed = [writing for writing in batch if not self._write(writing)]
            if not failed:
                continue
            with self._changed:
                for writing in failed:
                    later = self._waiting.get(writing.device.id)
                    self._waiting[writing.device.id] = merge(writing, later) if later else writing
                if self._closing:
                    return
                self._changed.wait(RETRY_S)

    def _write(self, writing: Writing) -> bool:
        """True when written, or when it never can be."""
        try:
            with self._database.transaction("*") as connection:
                write(connection, writing, self._studio, self._now())
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, OSError) as error:
            log.warning("camera %s: not written yet: %s", writing.device.code, str(error).strip())
            return False
        except (
            Exception
        ):  # a camera removed meanwhile, a scene that dispatch does not know: it must not stop the others
            log.exception("camera %s: cannot be written, given up", writing.device.code)
        return True


def merge(earlier: Writing | None, later: Writing) -> Writing:
    """Both in one: every report and answer, the newest state and health."""
    if earlier is None:
        return later
    return replace(
        later,
        raised=(*earlier.raised, *later.raised),
        answered=(*earlier.answered, *later.answered),
        states=later.states if later.states is not None else earlier.states,
        health=later.health or earlier.health,
    )


def write(connection: Connection, writing: Writing, studio: Studio, now: datetime) -> None:
    """One camera's writing, in the caller's transaction."""
    for item in writing.raised:
        write_report(connection, item, studio, now)
    for answered in writing.answered:
        write_answer(connection, answered, studio, now)
    if writing.states is not None:
        save_states(connection, writing.device.id, writing.states, now)
    if writing.health is not None:
        book = studio.rules.current(connection)
        take_message(connection, writing.device, writing.health, now, studio.settings.city.timezone, book)


def write_report(connection: Connection, item: Raised, studio: Studio, now: datetime) -> bool:
    """Report a finding with its snapshot; False when it was reported before."""
    device, zone, finding = item.device, item.zone, item.finding
    key = f"{device.code}:{zone.name}:{finding.rule}:{finding.key}"
    if connection.execute("SELECT FROM report WHERE source_key = %s", (key,)).fetchone() is not None:
        return False  # spares the picture; the insert below decides in any case
    evidence_id = _keep_picture(connection, item, studio, now, {"rule": finding.rule, "zone": zone.name})
    placed = zone.lon is not None and zone.lat is not None
    report = Report(
        id=new_id(now),
        source=Source.CAMERA,
        source_key=key,
        category=finding.category,
        lon=zone.lon if zone.lon is not None else device.lon,
        lat=zone.lat if zone.lat is not None else device.lat,
        source_crs="EPSG:4490" if placed else device.source_crs,
        device_id=device.id,
        rule=finding.rule,
        zone=zone.name,
        area_code=device.area_code,
        occurred_at=finding.started_at,
        received_at=now,
        evidence_ids=(evidence_id,) if evidence_id else (),
        detail={
            "box": [round(value, 4) for value in finding.box],
            "score": round(finding.score, 3),
            "started_at": finding.started_at.isoformat(),
            "raised_at": finding.raised_at.isoformat(),
        },
    )
    return insert_report(connection, report)


def write_answer(connection: Connection, item: Answered, studio: Studio, now: datetime) -> bool:
    """Answer a closure check with the picture that was looked at; False when it was answered before."""
    detail = {"check": str(item.request.id), "verdict": item.answer.verdict.value}
    evidence_id = _keep_picture(connection, item, studio, now, detail)
    log.info("check answered: %s %s", item.answer.verdict, item.answer.detail, extra={"check_id": str(item.request.id)})
    return answer_check(connection, item.request.id, item.answer.verdict, item.answer.detail, evidence_id, now)


def _keep_picture(
    connection: Connection, item: Raised | Answered, studio: Studio, now: datetime, detail: dict[str, Any]
) -> UUID | None:
    jpeg = studio.draw(item)
    if jpeg is None:
        return None
    evidence_id = new_id(now)
    write_evidence(
        connection,
        jpeg=jpeg,
        evidence_id=evidence_id,
        evidence_dir=studio.settings.evidence_dir,
        area_code=item.device.area_code,
        lon=item.device.lon,
        lat=item.device.lat,
        taken_at=item.finding.raised_at if isinstance(item, Raised) else item.taken_at,
        detail=detail,
    )
    return evidence_id
