"""Rows in the binary form of COPY, put together from pieces that many rows share.

The layout is PostgreSQL's own (COPY, "Binary Format"): per row the number of fields, per field its length in bytes and the
bytes, all big-endian; an instant is microseconds since 2000 as int8. A test compares what comes out of the database.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from struct import Struct, pack
from uuid import UUID

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_LENGTHS = tuple(pack(">i", length) for length in range(65))  # of a message's id
_VALUE_AND_TIMES = Struct(">diqiq").pack


def count_microseconds(instant: datetime) -> int:
    """`instant` as PostgreSQL stores a timestamptz: microseconds since 2000."""
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def write_message_rows(device_id: UUID, messages: Mapping[str, str], received_at: datetime) -> list[bytes]:
    """Rows (device_id, message_id, topic_kind, received_at) of one device's {message id: topic kind}, in order of their ids.

    A message's id is ASCII, 64 characters at most.
    """
    start = pack(">hi", 4, 16) + device_id.bytes
    received = pack(">iq", 8, count_microseconds(received_at))
    ends = {kind: pack(">i", len(kind)) + kind.encode() + received for kind in set(messages.values())}
    return [
        start + _LENGTHS[len(message_id)] + message_id.encode() + ends[messages[message_id]]
        for message_id in sorted(messages)
    ]


def write_reading_rows(
    device_id: UUID, readings: Sequence[tuple[Mapping[str, float], datetime, datetime]]
) -> list[bytes]:
    """Rows (device_id, metric, value, measured_at, received_at) of one device: per message its values and two instants."""
    rows: list[bytes] = []
    start = pack(">hi", 5, 16) + device_id.bytes
    starts: dict[str, bytes] = {}
    last_at, received = _EPOCH, 0
    for values, measured_at, received_at in readings:
        measured = count_microseconds(measured_at)
        if received_at is not last_at:  # many come in one piece
            last_at, received = received_at, count_microseconds(received_at)
        for metric, value in values.items():
            head = starts.get(metric)
            if head is None:
                head = starts[metric] = start + _name_field(metric)
            rows.append(head + _VALUE_AND_TIMES(value, 8, measured, 8, received))
    return rows


@lru_cache(maxsize=1000)
def _name_field(metric: str) -> bytes:
    """The metric's field, and the length of the value's behind it."""
    name = metric.encode()
    return pack(">i", len(name)) + name + pack(">i", 8)
