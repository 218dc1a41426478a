"""Simulated people: field staff with the phone's API, and an operator's desk with the wall's.

A worker answers offers, walks to the place, puts the thing right, takes a photograph and hands it in. The desk does
what only a person may do, and nothing else: it looks before it says that something is clear.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import cv2
import numpy as np

from kernel.types import LonLat
from simulators.account import Account, Refusal
from simulators.district.model import METRES_PER_DEGREE, distance_m

log = logging.getLogger(__name__)

POLL_S = 3.0
STEP_S = 1.0
POSITION_S = 20.0
ARRIVED_M = 6.0
WAIT_AFTER_S = {"crowding": 6.0, "illegal_parking": 5.0, "river_level": 4.0, "camera_fault": 3.0}
"""Seconds a worker stays after putting a thing right: until the people or the car have really gone."""
REFUSAL_REASON = "正在处置另一案件，无法前往 / busy with another case"


class World(Protocol):
    """What workers can change and see: simulators.cause.Causes."""

    def repair(self, device: str, zone: str, category: str) -> None:
        """Put right what is wrong there."""

    def photograph(self, device: str, zone: str, category: str) -> bytes:
        """A JPEG of the place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manners:
    """How a worker behaves: metres per second on the way, seconds before an offer is answered (from, to), whether the
    first offer is refused or not answered at all."""

    speed_m_s: float = 12.0
    thinks_s: tuple[float, float] = (0.6, 2.0)
    refuses_first: bool = False
    ignores_first: bool = False


@dataclass(slots=True)
class Journal:
    """What the staff did: first push of each incident at a phone, and counts."""

    pushed_at: dict[str, datetime] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    handled: int = 0
    checked: int = 0


class Worker:
    """A grid worker on duty."""

    def __init__(
        self, account: Account, start: LonLat, world: World, manners: Manners, journal: Journal, rng: random.Random
    ) -> None:
        self.account, self.position = account, start
        self._world, self._manners, self._journal, self._rng = world, manners, journal, rng
        self._woken = asyncio.Event()
        self._left_alone: set[str] = set()
        self._shown_s = 0.0

    async def run(self) -> None:
        """Go on duty and work until cancelled; the session must be signed in."""
        await self.account.call("PATCH", "/me", body={"on_duty": True})
        await self._show_position(None)
        await together(self._listen(), self._repeat(self._answer_offers), self._repeat(self._work))

    async def _repeat(self, what: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await what()
            except Refusal as refusal:
                log.warning("%s: %s", self.account.name, refusal)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), POLL_S)
            await asyncio.sleep(0.1)
            self._woken.clear()

    async def _listen(self) -> None:
        async for incident_id, at in self.account.tasks():
            self._journal.pushed_at.setdefault(incident_id, at)
            self._woken.set()

    async def _answer_offers(self) -> None:
        for incident in await self.account.incidents("assignee=me&state=open"):
            if incident["state"] != "dispatched" or incident["id"] in self._left_alone:
                continue
            await asyncio.sleep(self._rng.uniform(*self._manners.thinks_s))
            if self._manners.ignores_first and not self._journal.ignored:
                self._journal.ignored.append(incident["id"])
                self._left_alone.add(incident["id"])
            elif self._manners.refuses_first and not self._journal.refused:
                self._journal.refused.append(incident["id"])
                await self.account.act(incident, "refuse", reason=REFUSAL_REASON)
            else:
                await self.account.act(incident, "accept")
                self._woken.set()

    async def _work(self) -> None:
        mine = await self.account.incidents("assignee=me&state=open")
        mine = [incident for incident in mine if incident["state"] in ("accepted", "on_site")]
        if not mine:
            if asyncio.get_running_loop().time() - self._shown_s > POSITION_S:
                await self._show_position(None)
            return
        order = {"on_site": 0, "accepted": 1}
        await self._serve(min(mine, key=lambda i: (order[i["state"]], i["severity"], i["opened_at"])))
        self._woken.set()

    async def _serve(self, incident: dict[str, Any]) -> None:
        place = LonLat(incident["lon"], incident["lat"])
        await self._walk(place)
        if incident["state"] == "accepted":
            done = await self.account.act(incident, "arrive", lon=self.position.lon, lat=self.position.lat)
            if done is None:
                return
        detail = await self.account.incident(incident["id"])
        if detail["state"] != "on_site":
            return
        device, zone = find_cause(detail)
        category = str(detail["category"]["id"])
        await asyncio.sleep(self._rng.uniform(0.8, 1.8))
        self._world.repair(device, zone, category)
        await asyncio.sleep(WAIT_AFTER_S.get(category, 2.0))
        picture = await asyncio.to_thread(self._world.photograph, device, zone, category)
        taken = await self._upload(picture)
        done = await self.account.act(
            detail, "handle", evidence_id=taken, lon=self.position.lon, lat=self.position.lat, accuracy_m=8.0,
            note="已处置，现场恢复 / put right",
        )  # fmt: skip
        self._journal.handled += done is not None

    async def _upload(self, picture: bytes) -> str:
        answer = await self.account.call(
            "POST", "/evidence",
            files={"file": ("photo.jpg", picture, "image/jpeg")},
            form={"taken_at": datetime.now(UTC).isoformat(), "lon": str(self.position.lon), "lat": str(self.position.lat)},
        )  # fmt: skip
        return str(answer["id"])

    async def _walk(self, place: LonLat) -> None:
        while distance_m(self.position, place) > ARRIVED_M:
            heading_deg = heading_between(self.position, place)
            self.position = step_towards(self.position, place, self._manners.speed_m_s * STEP_S)
            await self._show_position(heading_deg)
            await asyncio.sleep(STEP_S)

    async def _show_position(self, heading_deg: float | None) -> None:
        self._shown_s = asyncio.get_running_loop().time()
        await send_position(self.account, self.position, heading_deg)


class Shadow:
    """What surrounds a worker who is played by hand: on duty, on the way to whatever was accepted, and a street that is
    put right a few seconds after the arrival was said."""

    def __init__(self, account: Account, start: LonLat, world: World, speed_m_s: float) -> None:
        self.account, self.position = account, start
        self._world, self._speed_m_s = world, speed_m_s
        self._put_right: set[str] = set()

    async def run(self) -> None:
        """Follow until cancelled; the session must be signed in."""
        await self.account.call("PATCH", "/me", body={"on_duty": True})
        while True:
            try:
                await self._follow(await self.account.incidents("assignee=me&state=open"))
            except Refusal as refusal:
                log.info("%s: %s", self.account.name, refusal)
            await asyncio.sleep(2 * STEP_S)

    async def _follow(self, mine: list[dict[str, Any]]) -> None:
        heading_deg = None
        places = [LonLat(i["lon"], i["lat"]) for i in mine if i["state"] in ("accepted", "on_site")]
        if places and distance_m(self.position, places[0]) > ARRIVED_M:
            heading_deg = heading_between(self.position, places[0])
            self.position = step_towards(self.position, places[0], self._speed_m_s * 2 * STEP_S)
        await send_position(self.account, self.position, heading_deg)
        for incident in mine:
            visit = f"{incident['id']}/{incident['version']}"
            if incident["state"] == "on_site" and visit not in self._put_right:
                self._put_right.add(visit)
                detail = await self.account.incident(incident["id"])
                self._world.repair(*find_cause(detail), str(detail["category"]["id"]))


class Desk:
    """An operator who makes the decisions that wait for a person, where no person is there to make them."""

    def __init__(self, account: Account, journal: Journal) -> None:
        self.account, self._journal = account, journal

    async def run(self) -> None:
        """Work until cancelled; the session must be signed in."""
        while True:
            for incident in await self.account.incidents("state=open"):
                try:
                    await self._decide(incident)
                except Refusal as refusal:
                    log.warning("%s: %s: %s", self.account.name, incident["number"], refusal)
            await asyncio.sleep(2.0)

    async def _decide(self, incident: dict[str, Any]) -> None:
        need = incident.get("needs_operator")
        if incident["severity"] == 1 and incident.get("acknowledged_at") is None:
            incident = await self.account.act(incident, "acknowledge") or incident
        if incident["state"] == "reported":
            await self.account.act(incident, "file")
        elif incident["state"] == "filed" and need:
            await self._send_somebody(incident)
        elif incident["state"] == "handled" and need:
            await self._check(incident)

    async def _send_somebody(self, incident: dict[str, Any]) -> None:
        candidates = await self.account.call("GET", f"/incidents/{incident['id']}/candidates")
        fit = [candidate for candidate in candidates if candidate.get("on_duty")]
        if fit:
            best = next((c for c in fit if c.get("chosen")), None) or min(fit, key=lambda c: c.get("distance_m") or 0.0)
            await self.account.act(incident, "dispatch", user_id=best["user"]["id"])

    async def _check(self, incident: dict[str, Any]) -> None:
        """Clear only when the handler's photograph of this round is there and shows something."""
        detail = await self.account.incident(incident["id"])
        photos = find_photos(detail)
        seen = [picture for photo in photos if (picture := await self._fetch(str(photo["id"]))) is not None]
        if any(shows_something(picture) for picture in seen):
            verdict, note = "clear", "已查看现场照片，情况消除 / photograph seen, put right"
        else:
            verdict, note = "not_clear", "没有可用的现场照片 / no usable photograph"
        done = await self.account.act(detail, "check", verdict=verdict, note=note, reason=note)
        self._journal.checked += done is not None and verdict == "clear"

    async def _fetch(self, evidence_id: str) -> bytes | None:
        answer = await self.account.call("GET", f"/evidence/{evidence_id}?w=480")
        return answer if isinstance(answer, bytes) else None


def find_cause(detail: Mapping[str, Any]) -> tuple[str, str]:
    """Device code and zone of the newest report that names a device; empty texts when none does."""
    for report in reversed(detail.get("reports") or []):
        if report.get("device"):
            return str(report["device"]["code"]), str(report.get("zone") or "")
    return "", ""


def find_photos(detail: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Photographs taken since the task was offered last: earlier ones belong to work that was sent back."""
    offered = [datetime.fromisoformat(a["offered_at"]) for a in detail.get("assignments") or []]
    since = max(offered, default=datetime.fromisoformat(detail["opened_at"]))
    photos = [e for e in detail.get("evidence") or [] if e["kind"] == "photo"]
    return [photo for photo in photos if datetime.fromisoformat(photo["taken_at"]) >= since]


def shows_something(picture: bytes) -> bool:
    """Whether it is a picture with content: neither broken nor of one colour."""
    decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    return decoded is not None and float(np.std(np.asarray(decoded))) > 6.0


def step_towards(position: LonLat, place: LonLat, step_m: float) -> LonLat:
    """So many metres nearer to the place, and no nearer than half of ARRIVED_M."""
    left_m = distance_m(position, place)
    share = max(0.0, min(left_m - ARRIVED_M / 2, step_m)) / max(left_m, 1e-6)
    return LonLat(
        round(position.lon + (place.lon - position.lon) * share, 7),
        round(position.lat + (place.lat - position.lat) * share, 7),
    )


async def send_position(account: Account, position: LonLat, heading_deg: float | None) -> None:
    """Say where the phone is. Raises Refusal."""
    body = {"lon": position.lon, "lat": position.lat, "accuracy_m": 8.0, "measured_at": datetime.now(UTC).isoformat()}
    if heading_deg is not None:
        body["heading_deg"] = round(heading_deg, 1)
    await account.call("POST", "/me/position", body=body)


def heading_between(start: LonLat, end: LonLat) -> float:
    """Degrees clockwise from north, 0 to 360."""
    east_m = (end.lon - start.lon) * METRES_PER_DEGREE[0]
    north_m = (end.lat - start.lat) * METRES_PER_DEGREE[1]
    return math.degrees(math.atan2(east_m, north_m)) % 360.0


async def together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until one fails or all are cancelled, and leave none behind."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
