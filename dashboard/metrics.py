"""What the web process counts, in a registry of its own (two apps in one test run must not meet)."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/api/v1"


class Metrics:
    """Counters of one web process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "gridwarden_http_requests", "HTTP requests", ["method", "route", "status"], registry=self.registry
        )
        self.request_s = Histogram(
            "gridwarden_http_request_seconds",
            "Time from a request to the end of its answer, streams left out",
            ["route"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.sockets = Gauge("gridwarden_sockets", "Open live sockets", registry=self.registry)
        self.dropped = Counter(
            "gridwarden_sockets_dropped", "Sockets closed because their browser was too slow", registry=self.registry
        )
        self.deltas = Counter(
            "gridwarden_changes_sent", "Changes read for the sockets, per scope", registry=self.registry
        )
        self.change_lag_s = Gauge(
            "gridwarden_change_tick_seconds",
            "Time the newest round of numbering and reading took",
            registry=self.registry,
        )


class MeasureRequests:
    """Counts requests by their route's template, never by their address, which has ids in it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve and count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s, status, streamed = time.monotonic(), 500, False

        async def watch(message: Message) -> None:
            nonlocal status, streamed
            if message["type"] == "http.response.start":
                status = message["status"]
                streamed = any(
                    name == b"content-type" and value.startswith(b"multipart/") for name, value in message["headers"]
                )
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            metrics: Metrics = scope["app"].state.web.metrics
            route = _template(scope)
            metrics.requests.labels(scope["method"], route, str(status)).inc()
            if not streamed:
                metrics.request_s.labels(route).observe(time.monotonic() - began_s)


def _template(scope: Scope) -> str:
    """The route's template; an included router's routes do not know their prefix, which is this one's or none."""
    path: str | None = getattr(scope.get("route"), "path", None)
    if path is None:
        return "(none)"
    return API + path if scope["path"].startswith(f"{API}/") and not path.startswith(f"{API}/") else path
