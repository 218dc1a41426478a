"""The listener for devices that speak ThingsBoard's topics: logs them in, takes what they publish, hands commands to them.

One asyncio loop for all connections; the database is asked in threads. A PUBACK goes out after the commit and, as the
standard wants, in the order in which the messages came.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import psycopg

from devices.credential import may_write_for, verify_key
from devices.model import Device, TopicKind
from ingest.decode import DeadLetter, Raw, Reason, clean_detail, read_json
from ingest.mapping_store import read_device_mapping
from ingest.ways import packet as mqtt
from ingest.ways import thingsboard as things
from ingest.ways.bridge import Bridge
from ingest.ways.limit import Attempts
from ingest.ways.raw import name_raw_topic, write_document
from ingest.ways.taking import Answer, QueueFullError, Taker
from ingest.ways.thingsboard_store import begin_call, end_call, read_attributes, save_attributes
from kernel.clock import Clock
from kernel.db import Connection, Database
from kernel.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")
WAY = "thingsboard"
_IN_FLIGHT = 100
_LOGIN_WITHIN_S = 10.0
_LOOK_AGAIN_S = 60.0
_SEEN_KEPT = 200
_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """What is to be written once `after` is done, in the order of the messages that ask for it."""

    after: Awaitable[bytes]


class _ClosedError(Exception):
    """The connection is to be ended; the reason is for the client where its version has one."""

    def __init__(self, reason: mqtt.Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class ThingsListener:
    """All connections of this way in."""

    def __init__(self, settings: Settings, database: Database, clock: Clock, taker: Taker) -> None:
        self.settings = settings
        self.database = database
        self.clock = clock
        self.taker = taker
        self.bridge: Bridge | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.attempts = Attempts()
        self._sessions: dict[str, Session] = {}  # by the code of every device that can be called, its newest connection
        self._open: set[Session] = set()
        self._turns = asyncio.Semaphore(_AT_ONCE)  # thousands that reconnect leave connections for everybody else

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its beginning to its end."""
        self.loop = asyncio.get_running_loop()
        if len(self._open) >= self.settings.ways.max_connections:
            writer.close()
            return
        session = Session(self, reader, writer)
        self._open.add(session)
        try:
            await session.run()
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            pass
        except Exception:
            log.exception("a connection failed")
        finally:
            self._open.discard(session)
            self._sessions = {code: other for code, other in self._sessions.items() if other is not session}
            writer.close()

    def call_for(self, code: str, session: "Session") -> None:
        """From now on commands for this device go to this connection."""
        self._sessions[code] = session

    def end_calls(self, code: str, session: "Session") -> None:
        """This connection no longer speaks for the device."""
        if self._sessions.get(code) is session:
            del self._sessions[code]

    def on_command(self, kind: str, code: str, command: dict[str, Any]) -> None:
        """A command of ours went over the broker: hand it to its device if that waits here. Called in another thread."""
        del kind
        session, loop = self._sessions.get(code), self.loop
        if session is not None and loop is not None and loop.is_running():
            asyncio.run_coroutine_threadsafe(session.hand_over(code, command), loop)

    async def ask(self, work: Callable[[Connection], T]) -> T:
        """Something of the database, in a thread and a transaction of its own."""

        def transact() -> T:
            with self.database.transaction() as connection:
                return work(connection)

        async with self._turns:
            return await asyncio.to_thread(transact)

    def tell(self, code: str, raw: bytes, answer: Answer | None, **more: Any) -> None:
        """For the console."""
        if self.bridge is not None:
            refused = answer.refused[0] if answer and answer.refused else None
            more.setdefault("refused", refused.reason if refused else None)
            more.setdefault("detail", refused.detail if refused else "")
            more.setdefault("results", answer.results if answer else ())
            self.bridge.tell(code, WAY, raw, **more)


class Session:
    """One device's connection."""

    def __init__(self, listener: ThingsListener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._listener, self._in, self._out = listener, reader, writer
        self._packets = mqtt.PacketReader(listener.settings.ways.max_packet_bytes)
        self._order: asyncio.Queue[_Outgoing | None] = asyncio.Queue(_IN_FLIGHT)
        self._device: Device | None = None
        self._login = ("", "")
        self._version = 4
        self._patience_s = _LOGIN_WITHIN_S
        self._looked_s = 0.0
        self._children: dict[str, Device | None] = {}
        self._mapped: dict[str, bool] = {}
        self._granted: dict[str, int] = {}
        self._seen: OrderedDict[tuple[int, bytes], datetime] = OrderedDict()
        self._next_mid = 0

    # ---------------------------------------------------------------- life

    async def run(self) -> None:
        """Log in, then read until the client leaves, is silent for too long, or says nonsense."""
        answering = asyncio.create_task(self._answer_in_order())
        reading = asyncio.create_task(self._read())
        try:
            await asyncio.wait({answering, reading}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and reading.exception() is None:  # it left: what is in hand is still answered
                await asyncio.wait({answering}, timeout=_LOGIN_WITHIN_S)
            reason = next((t.exception() for t in (reading, answering) if t.done() and t.exception()), None)
            await self._say_why(reason)
        finally:
            for task in (answering, reading):
                task.cancel()
            await asyncio.gather(answering, reading, return_exceptions=True)

    async def _say_why(self, reason: BaseException | None) -> None:
        if isinstance(reason, psycopg.OperationalError):
            reason = _ClosedError(mqtt.Reason.UNAVAILABLE)
        if isinstance(reason, _ClosedError | mqtt.PacketError):
            if self._device is not None:
                self._write(mqtt.write_disconnect(self._version, reason.reason))
            elif self._packets.version or reason.reason is mqtt.Reason.UNSUPPORTED_VERSION:
                self._write(mqtt.write_connack(self._packets.version, reason.reason, 0))
            await asyncio.wait_for(self._out.drain(), 2.0)
        elif reason is not None and not isinstance(reason, ConnectionError | TimeoutError):
            raise reason

    async def _read(self) -> None:
        while True:
            data = await asyncio.wait_for(self._in.read(65_536), self._patience_s)
            if not data:
                break
            for packet in self._packets.feed(data):
                if isinstance(packet, mqtt.Signal) and packet.type == mqtt.DISCONNECT:
                    await self._order.put(None)
                    return
                await self._take(packet)
            await self._look_again()
        await self._order.put(None)

    async def _answer_in_order(self) -> None:
        while (item := await self._order.get()) is not None:
            self._write(await item.after)
            await self._out.drain()

    def _write(self, data: bytes) -> None:
        if data and not self._out.is_closing():
            self._out.write(data)

    async def _later(self, after: Awaitable[bytes]) -> None:
        await self._order.put(_Outgoing(asyncio.ensure_future(after)))

    async def _look_again(self) -> None:
        """A key may have ended meanwhile, a child or a mapping come or gone."""
        if self._device is None or time.monotonic() - self._looked_s < _LOOK_AGAIN_S:
            return
        self._looked_s = time.monotonic()
        user, key = self._login
        with contextlib.suppress(psycopg.OperationalError):
            device = await self._listener.ask(lambda c: verify_key(c, user, key, self._listener.clock.now()))
            if device is None or not device.enabled:
                raise _ClosedError(mqtt.Reason.NOT_AUTHORIZED)
            self._device = device
            self._children.clear()
            self._mapped.clear()

    # ---------------------------------------------------------------- packets

    async def _take(self, packet: mqtt.Packet) -> None:
        if isinstance(packet, mqtt.Connect):
            await self._log_in(packet)
        elif isinstance(packet, mqtt.Publish):
            await self._take_publication(packet)
        elif isinstance(packet, mqtt.Subscribe):
            await self._subscribe(packet)
        elif isinstance(packet, mqtt.Unsubscribe):
            for name in packet.filters:
                self._granted.pop(name, None)
            await self._later(_ready(mqtt.write_unsuback(self._version, packet.mid, len(packet.filters))))
        elif packet.type == mqtt.PINGREQ:
            self._write(mqtt.PINGRESP)
        elif packet.type == mqtt.PUBREL:
            await self._later(_ready(mqtt.write_ack(mqtt.PUBCOMP, packet.mid)))

    async def _log_in(self, packet: mqtt.Connect) -> None:
        """User name alone: an access token. User and password: the device's log-in and its key."""
        self._version = packet.version
        listener = self._listener
        address = str((self._out.get_extra_info("peername") or ("?",))[0])
        if not listener.attempts.may_try(address):
            raise _ClosedError(mqtt.Reason.BUSY)
        user, key = (packet.user, packet.password) if packet.password else ("", packet.user)
        try:
            device = await listener.ask(lambda c: verify_key(c, user, key, listener.clock.now())) if key else None
        except psycopg.OperationalError:
            raise _ClosedError(mqtt.Reason.UNAVAILABLE) from None
        if device is None:
            listener.attempts.note_failure(address)
            log.warning("a log-in was refused", extra={"address": address, "way": WAY})
            raise _ClosedError(mqtt.Reason.BAD_CREDENTIALS)
        if not device.enabled:
            raise _ClosedError(mqtt.Reason.NOT_AUTHORIZED)
        self._device, self._login, self._looked_s = device, (user, key), time.monotonic()
        limit_s = listener.settings.ways.idle_timeout_s
        self._patience_s = min(packet.keep_alive_s * 1.5, limit_s) if packet.keep_alive_s else limit_s
        self._write(mqtt.write_connack(packet.version, mqtt.Reason.SUCCESS, listener.settings.ways.max_packet_bytes))

    async def _subscribe(self, packet: mqtt.Subscribe) -> None:
        device = self._own()
        granted: list[int] = []
        for name, qos in packet.filters:
            if name not in things.SUBSCRIPTIONS:
                granted.append(mqtt.Reason.NOT_AUTHORIZED)
                continue
            self._granted[name] = min(qos, 1)
            granted.append(self._granted[name])
            if name == things.RPC_REQUEST + "+":
                self._listener.call_for(device.code, self)
            elif name == things.GATEWAY_RPC:
                for code, child in self._children.items():
                    if child is not None:
                        self._listener.call_for(code, self)
        await self._later(_ready(mqtt.write_suback(self._version, packet.mid, granted)))

    def _own(self) -> Device:
        assert self._device is not None  # CONNECT comes first: PacketReader sees to it
        return self._device

    # ---------------------------------------------------------------- publications

    async def _take_publication(self, packet: mqtt.Publish) -> None:
        received_at = self._first_received_at(packet)
        limit = self._listener.settings.ingest.max_payload_bytes
        own = self._own()
        raw = Raw(f"{WAY}/{own.code}/{packet.topic}"[:1000], packet.payload[:limit], len(packet.payload), received_at)
        document, letter = read_json(raw, self._listener.settings.ingest)
        raws, letters = ([], [letter]) if letter is not None else await self._read_document(packet, raw, document)
        # Handed in here and awaited later: messages reach the database in the order in which they came.
        await self._later(self._acknowledge(packet, self._submit(raws, letters)))

    def _first_received_at(self, packet: mqtt.Publish) -> datetime:
        """When this came; for one that is sent again on the same connection, when it came first, so that it is the same message."""
        now = self._listener.clock.now()
        if not packet.qos:
            return now
        key = (packet.mid, packet.payload)
        if packet.duplicate and key in self._seen:
            return self._seen[key]
        self._seen[key] = now
        if len(self._seen) > _SEEN_KEPT:
            self._seen.popitem(last=False)
        return now

    async def _acknowledge(self, packet: mqtt.Publish, work: "asyncio.Future[Answer] | None") -> bytes:
        answer = await work if work is not None else None
        self._listener.tell(self._own().code, packet.payload, answer)
        if packet.qos == 0:
            return b""
        refused = answer is not None and answer.refused and not answer.taken and self._version == 5
        kind = mqtt.PUBACK if packet.qos == 1 else mqtt.PUBREC
        return mqtt.write_ack(kind, packet.mid, mqtt.Reason.PAYLOAD_INVALID if refused else mqtt.Reason.SUCCESS)

    async def _read_document(self, packet: mqtt.Publish, raw: Raw, document: Any) -> tuple[list[Raw], list[DeadLetter]]:
        try:
            items = things.read_publication(packet.topic, document)
        except KeyError:
            return [], [_refuse(raw, Reason.BAD_TOPIC, f"no topic of this way in: {packet.topic}")]
        except things.DocumentError as error:
            return [], [_refuse(raw, Reason.BAD_PAYLOAD, f"{packet.topic}: {error}")]
        raws: list[Raw] = []
        letters: list[DeadLetter] = []
        handed_on: set[str] = set()
        for item in items:
            device = self._own() if isinstance(item, things.Question) else await self._find(item.child)
            if device is None:
                name = getattr(item, "child", None)
                letters.append(_refuse(raw, Reason.NOT_ALLOWED, f"{self._own().code} is not the gateway of {name}"))
            elif isinstance(item, things.Telemetry):
                if await self._is_mapped(device):
                    if device.code not in handed_on:  # its mapping reads the whole document
                        handed_on.add(device.code)
                        part = things.find_document(packet.topic, document, item.child)
                        raws.append(write_document(name_raw_topic(device.kind, device.code), part, raw.received_at))
                else:
                    message = things.write_message(device.code, item, raw.received_at)
                    raws.append(write_document(_topic(device, TopicKind.TELEMETRY), message, raw.received_at))
            else:
                raws += await self._take_other(item, device, raw.received_at)
        return raws, letters

    async def _take_other(
        self,
        item: things.Attributes | things.Presence | things.CallAnswer | things.Question,
        device: Device,
        now: datetime,
    ) -> list[Raw]:
        listener = self._listener
        if isinstance(item, things.Attributes):
            await listener.ask(lambda c: save_attributes(c, device, item.values, now))
        elif isinstance(item, things.Presence):
            if item.present and things.GATEWAY_RPC in self._granted:
                listener.call_for(device.code, self)
            elif not item.present:
                listener.end_calls(device.code, self)
        elif isinstance(item, things.Question):
            if item.topic == things.ATTRIBUTES_RESPONSE:
                values = await listener.ask(lambda c: read_attributes(c, device.id, item.keys))
                self._publish(f"{item.topic}{item.number}", {"client": values, "shared": {}})
            else:
                self._publish(f"{item.topic}{item.number}", {"error": "not supported"})
        else:
            call = await listener.ask(lambda c: end_call(c, device.id, item.number, now))
            if call is not None:
                reply = things.write_reply(call.command_id, call.nonce, call.number, item.body, now)
                return [write_document(_topic(device, TopicKind.REPLY), reply, now)]
        return []

    def _submit(self, raws: Sequence[Raw], letters: Sequence[DeadLetter]) -> "asyncio.Future[Answer] | None":
        if not raws and not letters:
            return None
        try:
            return asyncio.wrap_future(self._listener.taker.submit(raws, letters))
        except QueueFullError:
            raise _ClosedError(mqtt.Reason.BUSY) from None

    async def _find(self, child: str | None) -> Device | None:
        """The device itself, or a child that hangs on it."""
        own = self._own()
        if child is None:
            return own
        if child not in self._children:
            if len(self._children) > 10_000:
                self._children.clear()
            self._children[child] = await self._listener.ask(lambda c: may_write_for(c, own, child))
            if self._children[child] is not None and things.GATEWAY_RPC in self._granted:
                self._listener.call_for(child, self)
        return self._children[child]

    async def _is_mapped(self, device: Device) -> bool:
        if device.code not in self._mapped:
            found = await self._listener.ask(lambda c: read_device_mapping(c, device.id))
            self._mapped[device.code] = found is not None
        return self._mapped[device.code]

    # ---------------------------------------------------------------- commands

    async def hand_over(self, code: str, command: dict[str, Any]) -> None:
        """A command of ours as a call, once: it cannot tell a repeat, so the call is on record before it is made."""
        device = await self._find(None if code == self._own().code else code)
        command_id, now = command.get("id"), self._listener.clock.now()
        is_own = code == self._own().code
        if self._grant_of(things.RPC_REQUEST + "+" if is_own else things.GATEWAY_RPC) is None:
            return
        if device is None or not isinstance(command_id, str) or _has_expired(command, now):
            return
        nonce = str(command.get("nonce", ""))
        number = await self._listener.ask(lambda c: begin_call(c, device, command_id, nonce, now))
        if number is None:
            return
        topic, payload = things.write_call(number, command, None if is_own else device.code)
        self._publish_bytes(topic, payload)
        self._listener.tell(device.code, payload, None, outward=True)

    def _grant_of(self, topic: str) -> int | None:
        """The QoS at which the client wants this topic; None: not at all."""
        return self._granted.get(topic, self._granted.get(topic.rsplit("/", 1)[0] + "/+"))

    def _publish(self, topic: str, body: dict[str, Any]) -> None:
        self._publish_bytes(topic, json.dumps(body, ensure_ascii=False).encode())

    def _publish_bytes(self, topic: str, payload: bytes) -> None:
        qos = self._grant_of(topic)
        if qos is None:
            return  # not asked for
        self._next_mid = self._next_mid % 65_535 + 1
        self._write(mqtt.write_publish(self._version, topic, payload, qos, self._next_mid))


async def _ready(data: bytes) -> bytes:
    return data


def _topic(device: Device, topic_kind: TopicKind) -> str:
    return things.name_topic(device.kind, device.code, topic_kind)


def _refuse(raw: Raw, reason: Reason, detail: str) -> DeadLetter:
    return DeadLetter(raw=raw, reason=reason, detail=clean_detail(detail))


def _has_expired(command: dict[str, Any], now: datetime) -> bool:
    try:
        return now >= datetime.fromisoformat(str(command.get("expires_at")))
    except (ValueError, TypeError):
        return True
