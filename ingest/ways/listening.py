"""Starts and stops the ways in of the ingest role: the bridge to the broker, and a loop with the listeners that are set."""

import asyncio
import contextlib
import logging
import ssl
import threading
from collections.abc import Awaitable, Callable

from ingest.ways.bridge import Bridge
from ingest.ways.station_listener import StationListener
from ingest.ways.taking import Taker
from ingest.ways.thingsboard_listener import ThingsListener
from kernel.clock import Clock
from kernel.db import Database
from kernel.settings import Settings

log = logging.getLogger(__name__)
_BIND_AGAIN_S = 3.0

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def make_tls(cert: str, key: str) -> ssl.SSLContext | None:
    """TLS with this certificate (with its chain) and key, both PEM files; None without one.

    Raises OSError or ssl.SSLError: a listener that was to be secret never starts in the clear.
    """
    if not cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key or None)
    return context


class Ways:
    """All ways in of one ingest process. A port that another process holds is tried again: one takes over from the other."""

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        self._settings = settings
        self._taker = Taker(settings, database, clock)
        self.things = ThingsListener(settings, database, clock, self._taker) if settings.ways.thingsboard_port else None
        self.stations = StationListener(settings, database, clock, self._taker) if settings.ways.sl651_port else None
        self._tls = make_tls(settings.ways.tls_cert, settings.ways.tls_key) if self.things else None
        on_command = self.things.on_command if self.things is not None else None
        self._bridge = Bridge(settings, self._taker, clock, on_command)
        for listener in (self.things, self.stations):
            if listener is not None:
                listener.bridge = self._bridge
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ways-in", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._taker.start()
        self._bridge.start()
        self._thread.start()
        self._ready.wait(5.0)

    def stop(self, timeout_s: float = 4.0) -> None:
        """Close the listeners and their connections, finish the batch in hand."""
        if self._loop is not None and self._leave is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join(timeout_s)
        self._taker.stop(timeout_s)
        self._bridge.stop()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
        ways = self._settings.ways
        self._ready.set()
        tasks = []
        if self.things is not None:
            tasks.append(
                asyncio.create_task(self._listen("ThingsBoard", ways.thingsboard_port, self.things.serve, self._tls))
            )
        if self.stations is not None:
            tasks.append(asyncio.create_task(self._listen("SL 651", ways.sl651_port, self.stations.serve)))
        await self._leave.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, name: str, port: int, serve: Serve, tls: ssl.SSLContext | None = None) -> None:
        said = False
        while True:
            try:
                server = await asyncio.start_server(serve, self._settings.ways.host, port, backlog=512, ssl=tls)
            except OSError as error:
                if not said:
                    log.warning("cannot listen for %s on port %d yet: %s", name, port, error)
                    said = True
                await asyncio.sleep(_BIND_AGAIN_S)
                continue
            log.info("listening for %s", name, extra={"port": port})
            async with server:
                await server.serve_forever()
