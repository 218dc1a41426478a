"""The listener for SL 651's telemetry stations over TCP: frames in, reports to the database, confirmations out after the commit."""

import asyncio
import hmac
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from devices.model import Device
from devices.registry import KINDS
from ingest.decode import DeadLetter, Raw, Reason, clean_detail
from ingest.ways.bridge import Bridge
from ingest.ways.limit import Rate
from ingest.ways.raw import write_document
from ingest.ways.sl651 import (
    ACK,
    ESC,
    ETB,
    KEEP_ALIVE,
    MANUAL,
    NAK,
    PICTURE,
    Assembly,
    Frame,
    FrameReader,
    Junk,
    join_junk,
    write_answer,
)
from ingest.ways.sl651_report import Report, ReportError, StationMessage, decode_report, make_messages
from ingest.ways.station_store import Station, find_station
from ingest.ways.taking import Answer, QueueFullError, Taker
from kernel.clock import Clock
from kernel.db import Database
from kernel.settings import Settings

log = logging.getLogger(__name__)
WAY = "sl651"
_JUNK_MOST_BYTES = 65_536
_BAD_MOST = 20
_STRANGERS_PER_MINUTE = 30
_AT_ONCE = 2


@dataclass(slots=True)
class _Line:
    """What is known of one connection."""

    junk_bytes: int = 0
    bad_frames: int = 0
    answered: int = 0


class StationListener:
    """All connections of this way in. A station that is not registered, or gives a wrong password, is not answered (6.3.1.2)."""

    def __init__(self, settings: Settings, database: Database, clock: Clock, taker: Taker) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._taker = taker
        self._zone = ZoneInfo(settings.city.timezone)
        self._open = 0
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._strangers = Rate(_STRANGERS_PER_MINUTE)
        self.bridge: Bridge | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its beginning to its end. Several stations may share it (a relay, 中继站)."""
        if self._open >= self._settings.ways.max_connections:
            writer.close()
            return
        self._open += 1
        try:
            await self._serve(reader, writer)
        except (ConnectionError, TimeoutError):
            pass
        except Exception:
            log.exception("a station's connection failed")
        finally:
            self._open -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames, assembly, line = FrameReader(), Assembly(), _Line()
        silent_s = 0.0
        while silent_s < self._settings.ways.idle_timeout_s:
            patience_s = self._settings.ways.frame_timeout_s if frames.pending else self._settings.ways.idle_timeout_s
            try:
                data = await asyncio.wait_for(reader.read(8192), patience_s)
            except TimeoutError:
                if not frames.pending:
                    return
                silent_s += patience_s
                items = frames.expire()
            else:
                if not data:
                    return
                silent_s = 0.0
                items = frames.feed(data)
            if not self._note_junk(items, line):
                return
            for item in items:
                if isinstance(item, Frame):
                    answer = await self._take(item, assembly)
                    writer.write(answer)
                    await asyncio.wait_for(writer.drain(), self._settings.ways.frame_timeout_s)

    def _note_junk(self, items: Sequence[Frame | Junk], line: _Line) -> bool:
        """Whether the line may go on: noise is borne, a sender of nothing but noise is not."""
        junk = join_junk(items)
        line.junk_bytes += len(junk)
        line.bad_frames += sum(1 for item in items if isinstance(item, Junk) and item.reason != "no_frame")
        if any(isinstance(item, Frame) for item in items):
            line.junk_bytes = line.bad_frames = 0
        if line.junk_bytes > _JUNK_MOST_BYTES or line.bad_frames > _BAD_MOST:
            log.warning("a line with nothing but noise was closed", extra={"way": WAY})
            return False
        return True

    async def _take(self, frame: Frame, assembly: Assembly) -> bytes:
        """Store what a frame says; the confirmation, or b"" when there is none to give."""
        try:
            async with self._turns:
                found = await asyncio.to_thread(self._find, frame)
        except psycopg.OperationalError:
            return b""  # not confirmed: the station sends it again
        if isinstance(found, DeadLetter):
            if self._strangers.take("") == 0.0:
                await self._submit([], [found])
            return b""
        station, device = found
        if frame.function == KEEP_ALIVE:
            self._tell(device, frame, None, [{"function": "2F"}])
            return b""  # has no answer (6.6.4.2)
        whole = assembly.add(frame)
        if whole is None:
            return b""  # more packets of this report are to come
        body, missing = whole
        if missing:
            return b"".join(self._ask_again(frame, number) for number in missing)
        raws, letters, report = self._read(frame, body, station, device)
        answer = await self._submit(raws, letters)
        if answer is None:
            return b""
        self._tell(device, frame, answer, _describe(report))
        return self._confirm(frame, body, ACK if frame.end == ETB and not frame.multiple else ESC)

    def _find(self, frame: Frame) -> tuple[Station, Device] | DeadLetter:
        with self._database.transaction() as connection:
            found = find_station(connection, frame.station)
        raw = self._write_hex(frame)
        if found is None:
            text = f"no device is bound to station {frame.station}"
            return DeadLetter(raw=raw, reason=Reason.UNKNOWN_DEVICE, detail=text)
        station, device = found
        if not hmac.compare_digest(station.password, frame.password):
            text = f"station {frame.station} ({device.code}) gave a wrong password"
            log.warning(text)
            return DeadLetter(raw=raw, reason=Reason.NOT_ALLOWED, detail=text)
        return station, device

    def _write_hex(self, frame: Frame) -> Raw:
        return Raw(f"{WAY}/{frame.station}", frame.raw, len(frame.raw), self._clock.now())

    def _read(
        self, frame: Frame, body: bytes, station: Station, device: Device
    ) -> tuple[list[Raw], list[DeadLetter], Report | None]:
        now = self._clock.now()
        try:
            report = decode_report(frame, body)
        except ReportError as error:
            letter = DeadLetter(raw=self._write_hex(frame), reason=Reason.BAD_PAYLOAD, detail=clean_detail(str(error)))
            return [], [letter], None
        kind = KINDS.get(device.kind)
        messages = make_messages(report, kind, self._zone, station.level_base_m) if kind else []
        raws = [_write_message(device, message, now) for message in messages]
        if raws:
            return raws, [], report
        what = (
            "a report put in by hand or a picture, which is not taken apart"
            if report.function in (MANUAL, PICTURE)
            else (f"a {device.kind} has none of the elements of this report")
        )
        letter = DeadLetter(
            raw=self._write_hex(frame), reason=Reason.NOT_MAPPED, detail=clean_detail(f"{what} {report.text}")
        )
        return [], [letter], report

    async def _submit(self, raws: Sequence[Raw], letters: Sequence[DeadLetter]) -> Answer | None:
        try:
            return await asyncio.wrap_future(self._taker.submit(raws, letters))
        except QueueFullError:
            return None

    def _local(self) -> datetime:
        return self._clock.now().astimezone(self._zone)

    def _confirm(self, frame: Frame, body: bytes, end: int) -> bytes:
        return write_answer(frame, _read_serial(frame, body), self._local(), end)

    def _ask_again(self, frame: Frame, number: int) -> bytes:
        return write_answer(frame, 0, self._local(), NAK, number=number)

    def _tell(self, device: Device, frame: Frame, answer: Answer | None, decoded: Sequence[Any]) -> None:
        if self.bridge is not None:
            refused = answer.refused[0] if answer and answer.refused else None
            self.bridge.tell(
                device.code,
                WAY,
                frame.raw,
                decoded=decoded,
                results=answer.results if answer else (),
                refused=refused.reason if refused else None,
                detail=refused.detail if refused else "",
                is_text=False,
            )


def _read_serial(frame: Frame, body: bytes) -> int:
    try:
        return int(body[:4], 16) if frame.encoding == "ascii" else int.from_bytes(body[:2])
    except ValueError:
        return 0


def _write_message(device: Device, message: StationMessage, received_at: datetime) -> Raw:
    return write_document(f"gridwarden/{device.kind}/{device.code}/{message.topic_kind}", message.payload, received_at)


def _describe(report: Report | None) -> list[dict[str, Any]]:
    if report is None:
        return []
    return [
        {
            "function": f"{report.function:02X}",
            "serial": report.serial,
            "observed_at": one.observed_at.isoformat(),
            **one.values,
        }
        for one in report.observations
    ]
