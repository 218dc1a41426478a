"""Health: is the process alive, is it ready, and numbers for Prometheus."""

import ipaddress
import os
import socket
import time
from collections.abc import Iterable
from typing import Literal

import psycopg
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily
from pydantic import BaseModel

from dashboard.auth import CurrentWeb, find_session
from dashboard.context import Web
from dashboard.errors import Problem
from kernel.db import Connection
from kernel.types import Role

router = APIRouter(tags=["health"])
_HUB_LATE_S = 15.0


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Check(BaseModel):
    """One thing that readiness depends on."""

    ok: bool
    detail: str = ""


class Readiness(BaseModel):
    """Ready when every check is."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, Check]


def _check_database(web: Web) -> Check:
    try:
        with web.worker_database.transaction() as connection:
            connection.execute("SELECT 1 FROM change_counter")
    except psycopg.Error as error:
        return Check(ok=False, detail=type(error).__name__)
    return Check(ok=True)


def _check_broker(web: Web) -> Check:
    mqtt = web.settings.mqtt
    try:
        socket.create_connection((mqtt.host, mqtt.port), timeout=1.0).close()
    except OSError as error:
        return Check(ok=False, detail=type(error).__name__)
    return Check(ok=True)


def _check_evidence(web: Web) -> Check:
    folder = web.settings.evidence_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return Check(ok=False, detail=type(error).__name__)
    return Check(ok=os.access(folder, os.W_OK))


def _check_hub(web: Web) -> Check:
    late_s = time.monotonic() - web.hub.ticked_s
    return Check(ok=late_s < _HUB_LATE_S, detail="" if late_s < _HUB_LATE_S else f"no round for {late_s:.0f} s")


@router.get("/healthz")
def show_alive() -> Alive:
    """The process answers; nothing else is asked."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Readiness}})
def show_ready(web: CurrentWeb, response: Response) -> Readiness:
    """Database, broker, evidence folder and live hub."""
    checks = {
        "database": _check_database(web),
        "broker": _check_broker(web),
        "evidence": _check_evidence(web),
        "hub": _check_hub(web),
    }
    ready = all(check.ok for check in checks.values())
    response.status_code = 200 if ready else 503
    return Readiness(status="ready" if ready else "not_ready", checks=checks)


class StoredNumbers:
    """Numbers that are counted in the database when Prometheus asks, whatever process made them."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Incidents by state, reports and pushes that wait, dead letters of the last hour, devices, change lag."""
        families = {
            "incidents": GaugeMetricFamily("gridwarden_incidents", "Open incidents", labels=["state"]),
            "devices": GaugeMetricFamily("gridwarden_devices", "Devices in use", labels=["kind", "status"]),
            "letters": GaugeMetricFamily(
                "gridwarden_dead_letters_last_hour", "Messages that could not be used", labels=["reason"]
            ),
        }
        try:
            with self._web.worker_database.transaction() as connection:
                yield from self._count(connection, families)
        except psycopg.Error:
            yield GaugeMetricFamily("gridwarden_database_up", "Whether the database answers", value=0)
            return
        yield GaugeMetricFamily("gridwarden_database_up", "Whether the database answers", value=1)
        yield GaugeMetricFamily("gridwarden_cameras_pulled", "Live pictures", value=self._web.cameras.running)

    def _count(self, connection: Connection, families: dict[str, GaugeMetricFamily]) -> Iterable[GaugeMetricFamily]:
        now = self._web.now()
        queries = {
            "incidents": "SELECT state, count(*) FROM incident WHERE state NOT IN ('closed', 'void') GROUP BY 1",
            "devices": "SELECT d.kind, coalesce(s.status, 'unknown'), count(*) FROM device d"
            " LEFT JOIN device_state s ON s.device_id = d.id WHERE d.enabled GROUP BY 1, 2",
            "letters": "SELECT reason, count(*) FROM dead_letter"
            " WHERE received_at > %(now)s::timestamptz - interval '1 hour' GROUP BY 1",
        }
        for name, query in queries.items():
            for *labels, count in connection.execute(query, {"now": now}).fetchall():
                families[name].add_metric([str(label) for label in labels], count)
            yield families[name]
        row = connection.execute(
            """
            SELECT (SELECT count(*) FROM report WHERE taken_at IS NULL),
                   (SELECT coalesce(extract(epoch FROM %(now)s - min(received_at)), 0) FROM report WHERE taken_at IS NULL),
                   (SELECT count(*) FROM push_outbox WHERE sent_at IS NULL),
                   (SELECT count(*) FROM change WHERE seq IS NULL)
            """,
            {"now": now},
        ).fetchone()
        names = (
            ("gridwarden_reports_waiting", "Reports that dispatch has not looked at"),
            ("gridwarden_report_oldest_waiting_seconds", "Age of the oldest of them"),
            ("gridwarden_pushes_waiting", "Pushes that have not been sent"),
            ("gridwarden_changes_unnumbered", "Changes that no socket has been told of"),
        )
        for (name, words), value in zip(names, row or (0, 0, 0, 0), strict=True):
            yield GaugeMetricFamily(name, words, value=float(value))


def _may_see_metrics(request: Request, web: Web) -> bool:
    """Whoever is on this machine (Prometheus, or a proxy that has its own rules), or signed in as engineer or admin."""
    host = request.client.host if request.client else ""
    try:
        if ipaddress.ip_address(host).is_loopback:
            return True
    except ValueError:
        pass
    session = find_session(request, web.worker_database, web.now())
    return session is not None and not session.user.roles.isdisjoint({Role.ENGINEER, Role.ADMIN})


@router.get("/metrics", response_class=Response)
def show_metrics(request: Request, web: CurrentWeb) -> Response:
    """Prometheus text."""
    if not _may_see_metrics(request, web):
        raise Problem(403, "forbidden", "Metrics are for this machine, engineers and administrators")
    return Response(generate_latest(web.metrics.registry), media_type=CONTENT_TYPE_LATEST)
