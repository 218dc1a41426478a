"""A tiny loopback HTTP server for the demo's buttons: POST /act/<button>, GET /status."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from simulators.account import Refusal

Act = Callable[[str], dict[str, Any]]
Status = Callable[[], dict[str, Any]]


class ControlServer:
    """Answers on 127.0.0.1 only. 404: no such button; 409: nothing is free for it; 503: the platform is away."""

    def __init__(self, act: Act, status: Status, port: int = 0) -> None:
        handler = _make_handler(act, status)
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._http.daemon_threads = True
        self.port = int(self._http.server_address[1])
        self._thread = threading.Thread(target=self._http.serve_forever, name="control", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._http.shutdown()
        self._http.server_close()


def _make_handler(act: Act, status: Status) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/status":
                self._answer(200, status())
            else:
                self._answer(404, {"detail": "there is /status and POST /act/<button>"})

        def do_POST(self) -> None:
            head, _, button = self.path.lstrip("/").partition("/")
            if head != "act":
                self._answer(404, {"detail": "there is POST /act/<button>"})
                return
            try:
                self._answer(200, act(button))
            except LookupError as error:
                unknown = isinstance(error, KeyError)
                self._answer(404 if unknown else 409, {"detail": f"no button {error}" if unknown else str(error)})
            except (TimeoutError, Refusal) as error:
                self._answer(503, {"detail": str(error)})

        def _answer(self, code: int, body: dict[str, Any]) -> None:
            content = json.dumps(body, ensure_ascii=False).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            return

    return Handler
