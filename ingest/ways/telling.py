"""What an engineer who watches a device is shown of messages that came by another way than our own topics."""

import json
import secrets
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from paho.mqtt.client import Client

from devices.model import write_instant
from ingest.client import make_client, start_client
from ingest.decode import DeadLetter, Decoded
from kernel.settings import Settings

_SHOWN_BYTES = 8_000
_SHOWN_MESSAGES = 20


def name_console_topic(code: str) -> str:
    """Where the console listens for this device."""
    return f"gridwarden-console/{code}"


def write_told(
    now: datetime,
    way: str,
    raw: bytes,
    *,
    results: Sequence[Decoded | DeadLetter] = (),
    decoded: Sequence[Any] = (),
    refused: str | None = None,
    detail: str = "",
    is_text: bool = True,
    outward: bool = False,
) -> bytes:
    """What came (or went), by which way, and what became of it: `results` as the console shows messages, or `decoded` in a
    way's own words before them. Long messages are cut."""
    shown = [*decoded, *(describe(one) for one in results[:_SHOWN_MESSAGES] if isinstance(one, Decoded))]
    body: dict[str, Any] = {"at": write_instant(now), "way": way, "decoded": shown[:_SHOWN_MESSAGES]}
    if is_text:
        body["raw"] = raw[:_SHOWN_BYTES].decode("utf-8", "replace")
    else:
        body["raw_hex"] = raw[: _SHOWN_BYTES // 2].hex()
    body |= {"refused": refused, "detail": detail}
    if outward:
        body["direction"] = "out"
    return json.dumps(body, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")


def describe(result: Decoded) -> dict[str, Any]:
    """A decoded message as the console shows it."""
    message = result.message
    return {
        "topic_kind": str(message.topic_kind),
        "id": message.id,
        "seq": message.seq,
        "measured_at": write_instant(message.measured_at),
        "readings": result.kind.readings(message.payload),
        "fields": message.payload.model_dump(mode="json", exclude_none=True),
    }


class Teller:
    """Tells the console from a process that has no connection to the broker: connects with the first message, waits for nothing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._lock = threading.Lock()

    def tell(self, code: str, told: bytes) -> None:
        """Publish; lost while the broker is away."""
        with self._lock:
            client = self._client or self._connect()
        if client.is_connected():
            client.publish(name_console_topic(code), told, qos=0)

    def _connect(self) -> Client:
        client = make_client(self._settings, f"gridwarden-telling-{secrets.token_hex(6)}", most_wait_s=30)
        start_client(client, self._settings)
        self._client = client
        return client

    def close(self) -> None:
        """Disconnect, when there is anything to."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()
