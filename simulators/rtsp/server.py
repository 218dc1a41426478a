"""An RTSP 1.0 server for simulated cameras (RFC 2326): RTP over TCP interleaved or UDP, many viewers per camera."""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulators.rtsp.camera import Fault, SimCamera
from simulators.rtsp.media import CopiedFile, EncodedFrames, FrameSource, Media
from simulators.rtsp.message import MAX_HEAD_BYTES, Answer, BadRequest, Request, read_message, read_transport
from simulators.rtsp.rtp import PAYLOAD_TYPE

log = logging.getLogger(__name__)

METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER"
SLOW_CLIENT_BYTES = 1_000_000
"""A viewer over TCP with this much unsent is dropped: waiting for it would cost memory and show it the past."""
SEND_BUFFER_BYTES = 262_144
IDLE_CONNECTION_S = 30.0
TRACK = "trackID=0"


@dataclass(eq=False, slots=True)
class Session:
    """One viewer's session; also the way its packets go."""

    id: str
    camera: SimCamera
    transport: str
    header: str
    send_rtp: Callable[[list[bytes]], None]
    send_rtcp: Callable[[bytes], None]
    on_end: Callable[[], None]
    peer: tuple[str, int]
    heard_at_s: float
    playing: bool = False

    def send(self, packets: list[bytes]) -> None:
        """RTP packets of one picture."""
        self.send_rtp(packets)

    def send_report(self, packet: bytes) -> None:
        """An RTCP packet."""
        self.send_rtcp(packet)

    def end(self, reason: str) -> None:
        """Stop playing; over TCP the connection goes too."""
        log.info("session %s ends: %s", self.id, reason)
        self.playing = False
        self.on_end()


class RtspServer:
    """Serves cameras by their paths. Runs its own event loop in a thread; every public function may be called
    from any thread. `session_timeout_s` without a word from a viewer ends its session."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        session_timeout_s: float = 60.0,
        slow_client_bytes: int = SLOW_CLIENT_BYTES,
        rng: random.Random | None = None,
    ) -> None:
        self.host, self.port = host, port
        self.cameras: dict[str, SimCamera] = {}
        self.sessions: dict[str, Session] = {}
        self.dropped_count = 0
        self.redirects: dict[str, str] = {}
        """Paths that are answered with another address (302)."""
        self._timeout_s = session_timeout_s
        self._slow_bytes = slow_client_bytes
        self._rng = rng or random.Random()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rtsp", daemon=True)
        self._server: asyncio.Server | None = None
        self._udp: list[asyncio.DatagramTransport] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[Any]] = set()

    def add_camera(self, path: str, source: FrameSource | Media, fps: float = 5.0,
                   size: tuple[int, int] = (640, 360)) -> SimCamera:  # fmt: skip
        """Serve a camera under `path`. A FrameSource is encoded at `fps` and `size` (even numbers); a Media plays
        as it is. Raises ValueError for a path that is taken."""
        path = path.strip("/")
        if path in self.cameras:
            raise ValueError(f"camera {path} is there already")
        media = source if isinstance(source, (EncodedFrames, CopiedFile)) else EncodedFrames(source, fps, size)
        camera = SimCamera(path, media, self._rng)
        self.cameras[path] = camera
        camera.start(self._loop)
        return camera

    def url_of(self, path: str) -> str:
        """The address of a camera."""
        return f"rtsp://{self.host}:{self.port}/{path.strip('/')}"

    def start(self) -> None:
        """Listen; `port` is the real one afterwards. Raises OSError when it is taken."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(timeout=10)

    def stop(self) -> None:
        """Cut every viewer off, end every camera."""
        for camera in self.cameras.values():
            camera.stop()
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(timeout=10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
        self._loop.close()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=MAX_HEAD_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        for port in await self._find_ports():
            transport, _ = await self._loop.create_datagram_endpoint(
                lambda: _Listener(self._hear), local_addr=(self.host, port)
            )
            self._udp.append(transport)
        self._sweeper = self._loop.create_task(self._sweep())

    async def _find_ports(self) -> tuple[int, int]:
        # RTP on an even port, RTCP on the next (RFC 3550, 11); some viewers insist.
        for _ in range(50):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind((self.host, 0))
                port = probe.getsockname()[1] & ~1
            try:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                    one.bind((self.host, port))
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two:
                        two.bind((self.host, port + 1))
                        return port, port + 1
            except OSError:
                continue
        raise OSError("no two neighbouring UDP ports are free")

    async def _close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for session in list(self.sessions.values()):
            self._end(session, "the server stops")
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        for transport in self._udp:
            transport.close()
        await asyncio.sleep(0)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._timeout_s / 4))
            now_s = time.monotonic()
            for session in list(self.sessions.values()):
                if now_s - session.heard_at_s > self._timeout_s:
                    self._end(session, "nothing heard in time")

    def _end(self, session: Session, reason: str) -> None:
        self.sessions.pop(session.id, None)
        session.camera.unwatch(session)
        session.end(reason)

    def _hear(self, address: tuple[str, int]) -> None:
        # Receiver reports over UDP keep a session alive. They come from the client's port or the one after it.
        for session in self.sessions.values():
            if session.transport == "udp" and session.peer[0] == address[0] and address[1] - session.peer[1] in (0, 1):
                session.heard_at_s = time.monotonic()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        # The system's own buffer would swallow megabytes before a slow viewer is noticed.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        connection = Connection(self, reader, writer)
        try:
            await connection.run()
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            for session in connection.own:
                if session.id in self.sessions:
                    self._end(session, "its connection closed")
            writer.transport.abort()

    def open_session(self, session: Session) -> None:
        """Remember a session that SETUP made."""
        self.sessions[session.id] = session

    @property
    def timeout_s(self) -> float:
        """Seconds of silence after which a session ends."""
        return self._timeout_s

    @property
    def slow_bytes(self) -> int:
        """Unsent bytes at which a viewer is dropped."""
        return self._slow_bytes

    @property
    def udp(self) -> list[asyncio.DatagramTransport]:
        """The sockets for RTP and RTCP."""
        return self._udp

    def end_session(self, session: Session, reason: str) -> None:
        """TEARDOWN, or a viewer that is too slow."""
        self._end(session, reason)


class _Listener(asyncio.DatagramProtocol):
    def __init__(self, hear: Callable[[tuple[str, int]], None]) -> None:
        self._hear = hear

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._hear((str(addr[0]), addr[1]))


class Connection:
    """One control connection and what is asked over it."""

    def __init__(self, server: RtspServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self.own: list[Session] = []  # sessions that end with this connection: those over TCP

    async def run(self) -> None:
        """Answer until the other side leaves or talks nonsense."""
        while True:
            waiting = None if self.own else max(IDLE_CONNECTION_S, self._server.timeout_s)
            try:
                message = await asyncio.wait_for(read_message(self._reader), waiting)
            except BadRequest as error:
                self._writer.write(Answer(error.status).bytes_for("0"))
                await self._writer.drain()
                return
            if message is None:
                return
            for session in self.own:
                session.heard_at_s = time.monotonic()
            if isinstance(message, Request):
                camera = self._server.cameras.get(message.path.removesuffix(TRACK).strip("/"))
                if camera is not None and camera.fault is Fault.SILENT:
                    continue
                answer = self._answer(message)
                self._writer.write(answer.bytes_for(message.headers.get("cseq", "0")))
                if message.method == "PLAY" and answer.status == 200:
                    # Only after the answer is on its way, or the first picture would come before it.
                    session = self._server.sessions[message.session]
                    session.playing = True
                    session.camera.watch(session)
                await self._writer.drain()

    def _answer(self, request: Request) -> Answer:
        if "cseq" not in request.headers:
            return Answer(400)
        if "require" in request.headers:
            return Answer(551, {"Unsupported": request.headers["require"]})
        session = self._server.sessions.get(request.session)
        if request.session and session is None:
            return Answer(454)
        if session is not None:
            session.heard_at_s = time.monotonic()
        match request.method:
            case "OPTIONS":
                return Answer(headers={"Public": METHODS})
            case "DESCRIBE":
                return self._describe(request)
            case "SETUP":
                return self._set_up(request, session)
            case "PLAY" | "PAUSE" | "TEARDOWN" if session is None:
                return Answer(454)
            case "PLAY" if session is not None:
                return self._play(request, session)
            case "PAUSE" if session is not None:
                session.playing = False
                session.camera.unwatch(session)
                return Answer(headers={"Session": session.id})
            case "TEARDOWN" if session is not None:
                self.own = [each for each in self.own if each is not session]
                session.on_end = lambda: None  # the connection may be used again
                self._server.end_session(session, "torn down")
                return Answer(headers={"Session": session.id})
            case "GET_PARAMETER" | "SET_PARAMETER":
                return Answer(headers={"Session": session.id} if session else {})
            case "ANNOUNCE" | "RECORD" | "REDIRECT":
                return Answer(405, {"Allow": METHODS})
        return Answer(501)

    def _describe(self, request: Request) -> Answer:
        if request.path in self._server.redirects:
            return Answer(302, {"Location": self._server.redirects[request.path]})
        camera = self._server.cameras.get(request.path)
        if camera is None:
            return Answer(404)
        if camera.fault is Fault.GONE:
            return Answer(503)
        base = request.url.split("?")[0].rstrip("/") + "/"
        headers = {"Content-Base": base, "Content-Type": "application/sdp", "Cache-Control": "no-cache"}
        return Answer(200, headers, describe(camera, self._server.host).encode())

    def _set_up(self, request: Request, session: Session | None) -> Answer:
        path = request.path.removesuffix(TRACK).strip("/")
        camera = self._server.cameras.get(path)
        if camera is None:
            return Answer(404)
        if camera.fault is Fault.GONE:
            return Answer(503)
        if session is not None:
            return Answer(455 if session.playing else 459)
        chosen = read_transport(request.headers.get("transport", ""))
        if chosen is None:
            return Answer(461)
        made = self._make_session(camera, *chosen)
        self._server.open_session(made)
        headers = {"Transport": made.header, "Session": f"{made.id};timeout={int(self._server.timeout_s)}"}
        return Answer(200, headers)

    def _make_session(self, camera: SimCamera, transport: str, pair: tuple[int, int]) -> Session:
        ssrc = f"{camera.packetizer.ssrc:08X}"
        peer = self._writer.get_extra_info("peername")
        host = str(peer[0])
        if transport == "tcp":
            header = f"RTP/AVP/TCP;unicast;interleaved={pair[0]}-{pair[1]};ssrc={ssrc}"
            session = Session(
                secrets.token_hex(8), camera, transport, header, lambda packets: self._send(session, pair[0], packets),
                lambda packet: self._send(session, pair[1], [packet]), self._writer.transport.abort,
                (host, peer[1]), time.monotonic(),
            )  # fmt: skip
            self.own.append(session)
            return session
        # Packets go to the address that asked and to no other, whatever `destination` it names.
        rtp, rtcp = self._server.udp
        ports = f"{rtp.get_extra_info('sockname')[1]}-{rtcp.get_extra_info('sockname')[1]}"
        header = f"RTP/AVP;unicast;client_port={pair[0]}-{pair[1]};server_port={ports};ssrc={ssrc}"

        def send_rtp(packets: list[bytes]) -> None:
            for packet in packets:
                rtp.sendto(packet, (host, pair[0]))

        return Session(
            secrets.token_hex(8), camera, transport, header, send_rtp,
            lambda packet: rtcp.sendto(packet, (host, pair[1])), lambda: None, (host, pair[0]), time.monotonic(),
        )  # fmt: skip

    def _send(self, session: Session, channel: int, packets: list[bytes]) -> None:
        if self._writer.transport.is_closing():
            return
        unsent = self._writer.transport.get_write_buffer_size()
        if unsent > self._server.slow_bytes:
            self._server.dropped_count += 1
            self._server.end_session(session, f"too slow: {unsent} bytes unsent")
            return
        head = bytes((0x24, channel))
        self._writer.write(b"".join(head + len(packet).to_bytes(2, "big") + packet for packet in packets))

    def _play(self, request: Request, session: Session) -> Answer:
        if session.camera.fault is Fault.GONE:
            return Answer(503)
        sequence, timestamp = session.camera.clock()
        url = f"{request.url.rstrip('/').removesuffix('/' + TRACK)}/{TRACK}"
        headers = {
            "Session": session.id,
            "Range": "npt=now-",
            "RTP-Info": f"url={url};seq={sequence};rtptime={timestamp}",
        }
        return Answer(200, headers)


def describe(camera: SimCamera, host: str) -> str:
    """The session description (RFC 4566) with the parameters of H.264 (RFC 6184, 8.1) or H.265 (RFC 7798, 7.1)."""
    sets = [base64.b64encode(each).decode() for each in camera.media.parameter_sets()]
    width, height = camera.media.size
    if camera.media.h265:
        coding, parameters = "H265", f"sprop-vps={sets[0]};sprop-sps={sets[1]};sprop-pps={sets[2]}"
    else:
        profile = camera.media.parameter_sets()[0][1:4].hex().upper()
        coding = "H264"
        parameters = f"packetization-mode=1;profile-level-id={profile};sprop-parameter-sets={','.join(sets)}"
    lines = [
        "v=0",
        f"o=- {camera.packetizer.ssrc} 1 IN IP4 {host}",
        f"s={camera.path}",
        "c=IN IP4 0.0.0.0",
        "t=0 0",
        "a=control:*",
        "a=range:npt=now-",
        f"m=video 0 RTP/AVP {PAYLOAD_TYPE}",
        f"a=rtpmap:{PAYLOAD_TYPE} {coding}/90000",
        f"a=fmtp:{PAYLOAD_TYPE} {parameters}",
        f"a=framerate:{camera.media.fps:g}",
        f"a=framesize:{PAYLOAD_TYPE} {width}-{height}",
        f"a=control:{TRACK}",
    ]
    return "\r\n".join(lines) + "\r\n"
