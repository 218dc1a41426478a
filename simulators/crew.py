"""All simulated people of a city in one thread: signed in, at work, and asked by the stage for what the API says."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import random
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kernel.types import LonLat
from simulators.account import Account, Platform, Refusal
from simulators.city import City, Person
from simulators.staff import Desk, Journal, Manners, Shadow, Worker, World, together

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class CrewPlan:
    """How the crew works. `alone`: nobody is there to decide, so the desk does, and nobody looks on, so offers are
    answered at once.

    `sessions` keeps the log-ins over a restart, since each link works once.
    """

    tokens: Mapping[str, Mapping[str, str]]  # person -> seat -> one-time token
    alone: bool
    speed_m_s: float
    sessions: Path


class Crew:
    """Workers, the desk, and what surrounds a worker who is played by hand."""

    def __init__(self, city: City, world: World, platform: Platform, plan: CrewPlan) -> None:
        self.journal = Journal()
        self.failure: BaseException | None = None
        self.ready = threading.Event()
        self._city, self._world, self._platform, self._plan = city, world, platform, plan
        self._rng = random.Random(f"{city.seed}/staff")
        self._accounts: dict[str, Account] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="crew", daemon=True)
        self._main: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sign everybody in and let them work."""
        self._thread.start()

    def stop(self) -> None:
        """Let everybody go."""
        if self._main is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(timeout=10)

    def ask(self, question: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run something in the crew's thread and wait for it. Raises TimeoutError and whatever it raises."""
        future = asyncio.run_coroutine_threadsafe(question, self._loop)
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise TimeoutError(f"the platform gave no answer in {timeout_s:.0f} s") from error

    @property
    def desk(self) -> Account:
        """The desk's session. Raises TimeoutError before it is signed in."""
        for account in self._accounts.values():
            if account.seat == "wall":
                return account
        raise TimeoutError("the staff are not signed in yet")

    def read_incidents(self, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """Every incident with its details, as the public API tells them to the desk."""

        async def read() -> list[dict[str, Any]]:
            found = await self.desk.incidents("state=all")
            return [await self.desk.incident(incident["id"]) for incident in found]

        return self.ask(read(), timeout_s)

    def read_open(self, timeout_s: float = 10.0) -> list[dict[str, Any]]:
        """Open incidents with their details."""

        async def read() -> list[dict[str, Any]]:
            found = await self.desk.incidents("state=open")
            return [await self.desk.incident(incident["id"]) for incident in found]

        return self.ask(read(), timeout_s)

    def report(self, body: Mapping[str, Any], timeout_s: float = 15.0) -> dict[str, Any]:
        """Let the desk report something."""
        return dict(self.ask(self.desk.call("POST", "/reports", body=body), timeout_s))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._main = self._loop.create_task(self._work())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except Exception as error:
            log.exception("the crew cannot work")
            self.failure = error
            self.ready.set()
        finally:
            rest = asyncio.all_tasks(self._loop)
            for task in rest:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _work(self) -> None:
        people = [p for p in self._city.people if not (p.by_hand and self._plan.alone)]
        await asyncio.gather(*(self._sign_in(person) for person in people))
        self._keep_sessions()
        manners = self._draw_manners()
        parts: list[Coroutine[Any, Any, None]] = []
        for person in people:
            account = self._accounts[person.name]
            start = LonLat(person.lon, person.lat)
            rng = random.Random(self._rng.getrandbits(64))
            if person.by_hand:
                parts.append(Shadow(account, start, self._world, self._plan.speed_m_s).run())
            elif "grid_worker" in person.roles:
                parts.append(Worker(account, start, self._world, manners, self.journal, rng).run())
            elif self._plan.alone:
                parts.append(Desk(account, self.journal).run())
        self.ready.set()
        try:
            await together(*parts)
        finally:
            for account in self._accounts.values():
                await account.close()

    def _draw_manners(self) -> Manners:
        """Everybody's. Alone, the very first offer may be refused and another one not answered, as the seed has it."""
        refuses, ignores = self._rng.random() < 0.7, self._rng.random() < 0.5
        return Manners(
            speed_m_s=self._plan.speed_m_s,
            thinks_s=(0.6, 2.0) if self._plan.alone else (3.0, 5.0),
            refuses_first=self._plan.alone and refuses,
            ignores_first=self._plan.alone and ignores,
        )

    async def _sign_in(self, person: Person) -> None:
        seat = "phone" if "grid_worker" in person.roles else "wall"
        account = Account(self._platform, person.name, seat)
        kept = self._read_sessions().get(person.name)
        try:
            await account.sign_in(self._plan.tokens[person.name][seat], kept)
        except Refusal as refusal:
            await account.close()
            raise RuntimeError(f"{person.name} cannot sign in at the {seat}: {refusal}") from refusal
        self._accounts[person.name] = account

    def _read_sessions(self) -> dict[str, dict[str, str]]:
        try:
            return dict(json.loads(self._plan.sessions.read_text("utf-8")))
        except (OSError, ValueError):
            return {}

    def _keep_sessions(self) -> None:
        self._plan.sessions.touch(mode=0o600)
        self._plan.sessions.write_text(json.dumps({name: a.cookies for name, a in self._accounts.items()}), "utf-8")
