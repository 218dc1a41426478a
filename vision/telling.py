"""Tells who watches what a look of the detector saw: `gridwarden-live/<camera code>/boxes`, QoS 0, newest only.

The scheduler's thread puts a look down and goes on; a thread of its own writes and sends it, at most `MOST_PER_S` a second for
each camera. While the broker is away looks are forgotten, not kept.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from paho.mqtt.client import Client

from ingest.client import make_client, start_client
from kernel.settings import Settings
from vision.model import Track

log = logging.getLogger(__name__)
PREFIX = "gridwarden-live/"
MOST_PER_S = 10.0
_MOST_TRACKS = 200


def describe_look(
    *,
    at: datetime,
    seq: int,
    width: int,
    height: int,
    tracks: Sequence[Track],
    zones: Sequence[Mapping[str, Any]],
    skipped_fps: float = 0.0,
    preset: str | None = None,
) -> dict[str, Any]:
    """The message of one look. Boxes are 0..1 of the picture; only what was seen in this very look is in it.

    `preset`: where a camera that turns stands now; None for one that does not, or while it turns.
    """
    seen = [track for track in tracks if track.missed_s == 0.0][:_MOST_TRACKS]
    return {
        "at": at.isoformat(timespec="milliseconds"),
        "seq": seq,
        "width": width,
        "height": height,
        "tracks": [
            {
                "id": track.id,
                "label": track.label.value,
                "box": [round(float(value), 4) for value in track.box],
                "score": round(float(track.score), 2),
                "still_since": track.still_since_at.isoformat(timespec="seconds") if track.still_since_at else None,
            }
            for track in seen
        ],
        "zones": list(zones),
        "skipped_fps": round(skipped_fps, 2),
        "preset": preset,
    }


class Teller:
    """Sends looks to the broker. `tell` may be called from any thread and never waits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._waiting: dict[str, Callable[[], dict[str, Any]]] = {}
        self._sent_s: dict[str, float] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._client: Client | None = None
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vision-telling", daemon=True)

    def start(self) -> None:
        """Connect in the background and send."""
        client = make_client(self._settings, f"gridwarden-vision-{secrets.token_hex(6)}", most_wait_s=10)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        start_client(client, self._settings)
        self._client = client
        self._thread.start()

    def tell(self, code: str, make: Callable[[], dict[str, Any]]) -> None:
        """A look at the camera `code`; `make` writes its message, in the sending thread. An older one unsent is forgotten."""
        if not self._connected.is_set():
            return
        with self._changed:
            self._waiting[code] = make
            self._changed.notify()

    def close(self) -> None:
        """Stop; what waits is forgotten."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(1.0)
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        del client, userdata, flags, properties
        if reason.is_failure:
            log.error("the broker refused the looks' connection: %s", reason)
        else:
            self._connected.set()

    def _on_disconnect(self, *rest: Any) -> None:
        del rest
        self._connected.clear()

    def _run(self) -> None:
        while True:
            with self._changed:
                now_s = time.monotonic()
                due = {code: self._sent_s.get(code, 0.0) + 1 / MOST_PER_S for code in self._waiting}
                ready = {code: self._waiting.pop(code) for code, due_s in due.items() if due_s <= now_s}
                if self._closing:
                    return
                if not ready:
                    left_s = min(due.values()) - now_s if due else None
                    self._changed.wait(left_s)
                    continue
            for code, make in ready.items():
                self._sent_s[code] = now_s
                self._send(code, make)
            if len(self._sent_s) > 10_000:
                self._sent_s.clear()

    def _send(self, code: str, make: Callable[[], dict[str, Any]]) -> None:
        try:
            text = json.dumps(make(), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except Exception:  # boxes beside a picture must not end the watching
            log.exception("camera %s: a look cannot be told", code)
            return
        if self._client is not None:
            self._client.publish(f"{PREFIX}{code}/boxes", text.encode(), qos=0)
