"""Thousands of MQTT 3.1.1 connections in one process, as small as they can be: only what the reconnect drill needs."""

import asyncio
import json
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Connected:
    """What came of it: connections at first, codes without a receipt, seconds until all were back and all were answered."""

    connected: int
    unanswered: list[str]
    again_s: float
    back_s: float


def _packet(kind: int, body: bytes) -> bytes:
    length, size = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        size += bytes([digit | (0x80 if length else 0)])
        if not length:
            return bytes([kind]) + size + body


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("!H", len(data)) + data


class Socket:
    """One device's connection."""

    def __init__(self, address: tuple[str, int], login: tuple[str, str], code: str) -> None:
        self.address, self.login, self.code = address, login, code
        self.answered = False
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listener: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """CONNECT and SUBSCRIBE to the own receipts; raises OSError when the broker does not let it in."""
        await self.close()
        self._reader, self._writer = await asyncio.open_connection(*self.address)
        head = _text("MQTT") + bytes([4, 0b1100_0010]) + struct.pack("!H", 60)
        self._writer.write(_packet(0x10, head + _text(self.code) + _text(self.login[0]) + _text(self.login[1])))
        kind, body = await self._read()
        if kind >> 4 != 2 or body[1] != 0:
            raise OSError(f"refused: {body!r}")
        topic = _text(f"gridwarden/smoke_alarm/{self.code}/receipt") + b"\x01"
        self._writer.write(_packet(0x82, struct.pack("!H", 1) + topic))
        kind, body = await self._read()
        if kind >> 4 != 9 or body[2] > 1:
            raise OSError(f"not subscribed: {body!r}")
        self._listener = asyncio.create_task(self._listen())

    async def _read(self) -> tuple[int, bytes]:
        assert self._reader is not None
        kind = (await self._reader.readexactly(1))[0]
        length, shift = 0, 0
        while True:
            digit = (await self._reader.readexactly(1))[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return kind, await self._reader.readexactly(length)

    async def _listen(self) -> None:
        try:
            while True:
                kind, body = await self._read()
                if kind >> 4 == 3:
                    self.answered = True
                    length = struct.unpack("!H", body[:2])[0]
                    if kind & 0b110:
                        assert self._writer is not None
                        self._writer.write(_packet(0x40, body[2 + length : 4 + length]))
        except (OSError, asyncio.IncompleteReadError):
            return

    def tell(self) -> None:
        """A self-test, which opens no incident; the same message each time it is called."""
        assert self._writer is not None
        event = {
            "v": 1,
            "id": f"{self.code}-back",
            "seq": 1,
            "at": datetime.now(UTC).isoformat(),
            "status": "self_test",
        }
        topic = _text(f"gridwarden/smoke_alarm/{self.code}/event") + struct.pack("!H", 2)
        self._writer.write(_packet(0x32, topic + json.dumps(event).encode()))

    async def close(self) -> None:
        """Drop the connection."""
        if self._listener is not None:
            self._listener.cancel()
        if self._writer is not None:
            self._writer.close()


class Fleet:
    """All of them."""

    def __init__(self, sockets: Sequence[Socket]) -> None:
        self.sockets = sockets
        self.count = 0

    async def reconnect_all(self, timeout_s: float) -> None:
        """Everybody connects at once and tries again every second until it is let in."""
        deadline = time.monotonic() + timeout_s
        gate = asyncio.Semaphore(500)  # SYNs at a time; real devices are spread by their networks too

        async def come_back(socket: Socket) -> None:
            while True:
                try:
                    async with gate:
                        await asyncio.wait_for(socket.connect(), 20)
                    self.count += 1
                    return
                except (OSError, TimeoutError, asyncio.IncompleteReadError):
                    if time.monotonic() > deadline:
                        return
                    await asyncio.sleep(1)

        self.count = 0
        await asyncio.gather(*(come_back(socket) for socket in self.sockets))

    async def tell_all(self, timeout_s: float) -> list[str]:
        """Everybody tells its event until it has the receipt; codes of those that never got one."""
        deadline, wait_s = time.monotonic() + timeout_s, 1.0
        while (waiting := [s for s in self.sockets if not s.answered]) and time.monotonic() < deadline:
            for socket in waiting:
                socket.tell()
            until = time.monotonic() + wait_s
            while time.monotonic() < until and any(not s.answered for s in waiting):
                await asyncio.sleep(0.05)
            wait_s = min(30.0, wait_s * 2)
        return [socket.code for socket in self.sockets if not socket.answered]

    async def close(self) -> None:
        """Everybody leaves."""
        for socket in self.sockets:
            await socket.close()


async def connect_many(address: tuple[str, int], login: tuple[str, str], codes: Sequence[str]) -> Fleet:
    """One connection for each code, all with one gateway's log-in."""
    fleet = Fleet([Socket(address, login, code) for code in codes])
    await fleet.reconnect_all(timeout_s=60)
    return fleet
