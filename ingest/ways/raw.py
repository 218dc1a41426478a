"""Messages that a vendor wrote in its own JSON: topic gridwarden/<kind>/<device>/raw, read through the device's mapping.

Other ways in hand a vendor's document on under this topic too. So one that could not be read is a dead letter which,
replayed after its mapping was mended, is read again like any other.
"""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from devices.store import is_device_code
from ingest.decode import Address, DeadLetter, Decoded, Raw, Reason, clean_detail, decode, read_json
from ingest.mapping import Mapped, Mapping, apply
from ingest.mapping_store import MappingBook
from kernel.db import Connection
from kernel.settings import IngestSettings

RAW_KIND = "raw"
_LATER_KEY = re.compile(r"@\d{1,9}\Z")


def name_raw_topic(kind: str, code: str) -> str:
    """Where a device's own JSON goes."""
    return f"gridwarden/{kind}/{code}/{RAW_KIND}"


def find_raw_device(topic: str) -> str | None:
    """The device's code when the topic is one for raw messages, else None.

    The kind is not looked at, the mapping says it. A broker that put the log-in's name into the topic may have written a
    later key's, `<code>@<n>`.
    """
    parts = topic.split("/")
    if len(parts) != 4 or parts[0] != "gridwarden" or parts[3] != RAW_KIND:
        return None
    code = _LATER_KEY.sub("", parts[2])
    return code if is_device_code(parts[1]) and is_device_code(code) else None


def has_raw(raws: Sequence[Raw]) -> bool:
    """Whether any of these needs a mapping, and so the database, to be read."""
    return any(find_raw_device(raw.topic) is not None for raw in raws)


def decode_all(connection: Connection, raws: Sequence[Raw], limits: IngestSettings) -> list[Decoded | DeadLetter]:
    """Every message decoded, raw ones through their devices' mappings; a raw one may become several, or a dead letter."""
    codes = {code for raw in raws if (code := find_raw_device(raw.topic)) is not None}
    book = MappingBook.read(connection, codes) if codes else MappingBook({}, {})
    results: list[Decoded | DeadLetter] = []
    for raw in raws:
        code = find_raw_device(raw.topic)
        if code is None:
            results.append(decode(raw, limits))
        else:
            results += decode_raw(raw, code, book, limits)
    return results


def decode_raw(raw: Raw, code: str, book: MappingBook, limits: IngestSettings) -> list[Decoded | DeadLetter]:
    """The messages of one raw message, and a dead letter for what of it could not be mapped."""
    document, letter = read_json(raw, limits)
    if letter is not None:
        return [letter]
    mapping = book.mappings.get(code)
    if mapping is None:
        return [refuse_raw(raw, Reason.NOT_MAPPED, f"{code} has no mapping")]
    messages, problems = apply(
        mapping, document, code, raw.received_at, may_name=lambda other: book.may_name(code, other)
    )
    results = [decode(write_raw(mapping, message, raw.received_at), limits) for message in messages]
    if problems:
        text = "; ".join(str(problem) for problem in problems[:5])
        results.append(refuse_raw(raw, Reason.NOT_MAPPED, f"{mapping.name}: {text}"))
    return results


def write_raw(mapping: Mapping, message: Mapped, received_at: datetime) -> Raw:
    """A mapped message as if the device had sent it itself."""
    topic = f"gridwarden/{mapping.kind}/{message.device}/{message.topic_kind}"
    return write_document(topic, message.payload, received_at)


def write_document(topic: str, document: Any, received_at: datetime) -> Raw:
    """A document on a topic of ours, as if it had come from the broker."""
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return Raw(topic, body, len(body), received_at)


def refuse_raw(raw: Raw, reason: Reason, detail: str, address: Address | None = None) -> DeadLetter:
    """The dead letter of something that never became a message."""
    return DeadLetter(raw=raw, reason=reason, detail=clean_detail(detail), address=address)
