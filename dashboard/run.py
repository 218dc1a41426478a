"""The role `web`: uvicorn in this process until `stop` is set."""

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import Generator, Sequence

import uvicorn
from fastapi import APIRouter

from dashboard.app import create_app
from kernel.settings import Settings

log = logging.getLogger(__name__)
_LEAVE_S = 5


class _Server(uvicorn.Server):
    """uvicorn that ends when `stop` is set and leaves the signals to whoever runs it."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event) -> None:
        super().__init__(config)
        self._told = stop

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        if self._told.is_set():
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        # Streams and sockets first: uvicorn waits for open connections before the application hears of the end.
        app = self.config.app
        web = getattr(getattr(app, "state", None), "web", None)
        if web is not None:
            web.cameras.close()
            web.video.close()
            web.console.close()
            web.hub.stop()
            await asyncio.sleep(0.1)
        await super().shutdown(sockets)  # type: ignore[arg-type]


def make_server(
    settings: Settings, stop: threading.Event, *, extra_routers: Sequence[APIRouter] = ()
) -> uvicorn.Server:
    """A server that is ready to run; port 0 takes a free one."""
    config = uvicorn.Config(
        create_app(settings, extra_routers=extra_routers),
        host=settings.web.host,
        port=settings.web.port,
        ssl_certfile=settings.web.tls_cert or None,
        ssl_keyfile=settings.web.tls_key or None,
        log_config=None,
        access_log=False,
        server_header=False,
        ws_per_message_deflate=False,  # halves the sends and quadruples the memory
        ws_max_size=16_384,
        timeout_graceful_shutdown=_LEAVE_S,
        timeout_keep_alive=30,
    )
    return _Server(config, stop)


def run(settings: Settings, stop: threading.Event, *, extra_routers: Sequence[APIRouter] = ()) -> None:
    """Serve until `stop` is set; returns within ten seconds of it."""
    sys.setswitchinterval(
        0.001
    )  # a change on its way to a screen must not wait 5 ms for each thread that reads or writes
    log.info("web at %s", settings.public_url)
    make_server(settings, stop, extra_routers=extra_routers).run()
