"""One person signed in at one seat: the public HTTP API and the live socket, as the wall and the phone use them."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

log = logging.getLogger(__name__)

RETRY_FIRST_S, RETRY_LAST_S = 0.5, 5.0
_PASSING = frozenset({502, 503, 504})


class Refusal(Exception):
    """The platform said no: HTTP status and its stable code (RFC 9457)."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code} {detail}".strip())
        self.status, self.code = status, code


@dataclass(frozen=True, kw_only=True, slots=True)
class Platform:
    """Where the platform is. `ca_file`: the authority of a local certificate, '' for the system's; `verify` False
    takes any certificate, for a demonstration on one machine."""

    url: str
    ca_file: str = ""
    verify: bool = True

    def context(self) -> ssl.SSLContext | None:
        """What to trust; None over plain HTTP."""
        if not self.url.startswith("https:"):
            return None
        context = ssl.create_default_context(cafile=self.ca_file or None)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class Account:
    """A person's session. Calls wait out a platform that is away (each unsafe one carries an idempotency key, so a
    repeat does nothing twice); what the platform refuses is raised as Refusal."""

    def __init__(self, platform: Platform, name: str, seat: str) -> None:
        self.name, self.seat = name, seat
        self._platform = platform
        context = platform.context()
        self._http = httpx.AsyncClient(
            base_url=f"{platform.url.rstrip('/')}/api/v1",
            headers={"X-Seat": seat, "User-Agent": "gridwarden-sim"},
            timeout=15.0,
            trust_env=False,
            verify=context if context is not None else True,
        )

    async def sign_in(self, token: str, cookies: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Take up an earlier session by its `cookies` if it still holds, else use up a one-time link; who it is.

        Raises Refusal.
        """
        if cookies:
            self._http.cookies.update(dict(cookies))
            try:
                return dict(await self.call("GET", "/me"))
            except Refusal:
                self._http.cookies.clear()
        return dict(await self.call("POST", "/login/link", body={"token": token, "seat": self.seat}))

    @property
    def cookies(self) -> dict[str, str]:
        """The session, to take it up again after a restart."""
        return dict(self._http.cookies.items())

    async def close(self) -> None:
        """Leave without signing out."""
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        files: Mapping[str, Any] | None = None,
        form: Mapping[str, Any] | None = None,
        version: int | None = None,
    ) -> Any:
        """One request until it is answered: parsed JSON, or bytes for what is no JSON. Raises Refusal."""
        headers = {} if method == "GET" else {"Idempotency-Key": str(uuid.uuid4())}
        if version is not None:
            headers["If-Match"] = str(version)
        wait_s = RETRY_FIRST_S
        while True:
            try:
                answer = await self._http.request(method, path, json=body, files=files, data=form, headers=headers)
                if answer.status_code not in _PASSING:
                    break
            except httpx.TransportError as error:
                log.info("%s: %s %s waits: %s", self.name, method, path, type(error).__name__)
            await asyncio.sleep(wait_s)
            wait_s = min(RETRY_LAST_S, wait_s * 2)
        if answer.status_code >= 400:
            raise _refusal(answer)
        if not answer.content:
            return None
        if "json" in answer.headers.get("content-type", ""):
            return answer.json()
        return answer.content

    async def incidents(self, query: str) -> list[dict[str, Any]]:
        """Every incident that `GET /incidents?{query}` lists, over all its pages."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = await self.call("GET", f"/incidents?{query}&limit=200" + (f"&cursor={cursor}" if cursor else ""))
            found += page["items"]
            cursor = page.get("next") or ""
            if not cursor:
                return found

    async def incident(self, incident_id: str) -> dict[str, Any]:
        """One incident with its details. Raises Refusal."""
        return dict(await self.call("GET", f"/incidents/{incident_id}"))

    async def act(self, incident: Mapping[str, Any], action: str, **inputs: Any) -> dict[str, Any] | None:
        """Do something to an incident as it was read; None when it changed meanwhile or may not be done any more."""
        try:
            path = f"/incidents/{incident['id']}/actions/{action}"
            return dict(await self.call("POST", path, body=inputs, version=int(incident["version"])))
        except Refusal as refusal:
            if refusal.status in (404, 409, 412):
                log.info("%s: %s of %s: %s", self.name, action, incident.get("number"), refusal)
                return None
            raise

    async def tasks(self) -> AsyncIterator[tuple[str, datetime]]:
        """Pushes as they reach this seat over the live socket: incident id and the instant it came. Never ends by
        itself: the socket is opened again whenever it breaks. Receipts are answered."""
        base = self._platform.url.rstrip("/").replace("http", "ws", 1)
        while True:
            try:
                cookies = "; ".join(f"{name}={value}" for name, value in self._http.cookies.items())
                async with connect(
                    f"{base}/api/v1/live?seat={self.seat}",
                    additional_headers={"Cookie": cookies},
                    ssl=self._platform.context(),
                    proxy=None,
                    max_size=None,
                ) as socket:
                    async for text in socket:
                        message = json.loads(text)
                        if message.get("type") != "task":
                            continue
                        if message.get("push_id"):
                            await socket.send(json.dumps({"type": "receipt", "push_id": message["push_id"]}))
                        yield str(message["incident_id"]), datetime.now(UTC)
            except (OSError, WebSocketException, ValueError) as error:
                log.info("%s: live socket broke: %s", self.name, type(error).__name__)
            await asyncio.sleep(1.0)


def _refusal(answer: httpx.Response) -> Refusal:
    try:
        problem = answer.json()
        return Refusal(answer.status_code, str(problem.get("code", "")), str(problem.get("title", "")))
    except ValueError:
        return Refusal(answer.status_code, "", answer.text[:120])
