"""Fifty browsers on the live wall, and some that poll instead: `python -m benchmarks._browsers URL COOKIES…`.

Prints "ready" once every socket has its snapshot, then a line {"code", "way", "at_s"} for each arrival of an alarm at each
of them, on the clock that all processes of a machine share. Ends with its standard input.

Fifty browsers are fifty machines; here they are one process beside all the others. So an arrival is when the message's
bytes are in the process, before anything else is done with them, and of telemetry nothing is done but to take it off the
socket. What was seen is told four times a second, not each at once.
"""

import asyncio
import contextlib
import json
import sys
import time
from urllib.parse import urlsplit

import httpx
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

POLLERS, POLL_S, TELL_S = 5, 1.0, 0.25
seen: list[dict[str, object]] = []


class Wall(asyncio.Protocol):
    """One wall: notes of each device when its first alarm arrived."""

    def __init__(self, url: str, cookie: str, ready: asyncio.Semaphore) -> None:
        self._live = ClientProtocol(parse_uri(url.replace("http", "ws", 1) + "/api/v1/live?seat=wall"), max_size=None)
        self._cookie, self._ready = cookie, ready
        self._told: set[str] = set()
        self._text = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        request = self._live.connect()
        request.headers["Cookie"] = f"gw_wall={self._cookie}"
        self._live.send_request(request)
        self._transport.writelines(self._live.data_to_send())

    def data_received(self, data: bytes) -> None:
        at_s = time.monotonic()
        self._live.receive_data(data)
        for event in self._live.events_received():
            if isinstance(event, Response):
                continue
            assert isinstance(event, Frame)
            if event.opcode in (Opcode.TEXT, Opcode.CONT):
                self._text += bytes(event.data)
                if event.fin:
                    self._look(self._text, at_s)
                    self._text = b""
        self._transport.writelines(self._live.data_to_send())

    def _look(self, text: bytes, at_s: float) -> None:
        if text.startswith(b'{"type":"snapshot"'):
            self._ready.release()
        elif text.startswith(b'{"type":"delta"'):
            for change in json.loads(text)["changes"]:
                data = change["data"]
                if change["kind"] == "device" and data and data["alarms"] and data["code"] not in self._told:
                    self._told.add(data["code"])
                    seen.append({"code": data["code"], "way": "live", "at_s": at_s})


async def poll(url: str, cookie: str, delay_s: float) -> None:
    """A page that asks for the smoke alarms once a second, as a program without a live socket would."""
    told: set[str] = set()
    await asyncio.sleep(delay_s)
    async with httpx.AsyncClient(base_url=url, cookies={"gw_wall": cookie}, headers={"X-Seat": "wall"}) as client:
        while True:
            began_s = time.monotonic()
            answer = await client.get("/api/v1/devices", params={"kind": "smoke_alarm", "status": "alarm"})
            at_s = time.monotonic()
            found = answer.json()
            for device in found["items"] if isinstance(found, dict) else found:
                if device["alarms"] and device["code"] not in told:
                    told.add(device["code"])
                    seen.append({"code": device["code"], "way": "poll", "at_s": at_s})
            await asyncio.sleep(max(0.0, began_s + POLL_S - time.monotonic()))


async def tell() -> None:
    """Print what was seen since the last time."""
    while True:
        await asyncio.sleep(TELL_S)
        lines = "".join(json.dumps(one) + "\n" for one in seen)
        seen.clear()
        print(lines, end="", flush=True)


async def main(url: str, cookies: list[str]) -> None:
    """Everybody at once, until standard input ends."""
    ready, address = asyncio.Semaphore(0), urlsplit(url)
    assert address.hostname is not None and address.port is not None
    loop = asyncio.get_running_loop()
    for cookie in cookies:
        await loop.create_connection(lambda c=cookie: Wall(url, c, ready), address.hostname, address.port)  # type: ignore[misc]
    for _ in cookies:
        await ready.acquire()
    tasks = [asyncio.create_task(poll(url, cookies[n], n * POLL_S / POLLERS)) for n in range(POLLERS)]
    print("ready", flush=True)
    tasks.append(asyncio.create_task(tell()))
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
