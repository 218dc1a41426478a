"""What the sockets are told, as JSON text: a snapshot, numbered deltas, telemetry. Read in the reader's scope."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from dashboard.store import (
    JsonObject,
    read_device_changes,
    read_devices,
    read_staff,
    read_staff_changes,
    read_summary,
    write_json,
)
from dashboard.watching import summarise_vision
from devices.command_store import read_command_views
from dispatch.flood import load_json, read_flood
from dispatch.view import read_incidents
from kernel.change import ChangeKind, read_changes, read_last_seq
from kernel.db import Connection

_BATCH = 1_000  # changes in one delta
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Delta:
    """Changes up to and including number `seq`, as the message to send."""

    seq: int
    text: str


@dataclass(frozen=True, slots=True)
class Live:
    """Telemetry and positions to send; `sent` remembers of each object the instant that was sent."""

    devices: list[str]  # as JSON text
    staff: list[JsonObject]
    sent: dict[tuple[str, UUID], datetime]

    def text(self, now: datetime) -> str:
        """The message, '' when there is nothing to say."""
        if not self.devices and not self.staff:
            return ""
        head, staff = write_json({"type": "live", "at": now}), write_json(self.staff)
        return f'{head[:-1]},"devices":[{",".join(self.devices)}],"staff":{staff}}}'


def read_snapshot(
    connection: Connection, sees_staff: bool, now: datetime, model: Path | None = None
) -> tuple[int, str]:
    """Everything open and everybody, with the number up to which it is true: what comes later has a higher one.

    `model`: the detector that watches.
    """
    seq = read_last_seq(connection)  # before the objects: they may be newer than their number, never older
    message = {
        "type": "snapshot",
        "seq": seq,
        "server_at": now,
        "incidents": read_incidents(connection, state="open", now=now),
        "devices": read_devices(connection),
        "staff": read_staff(connection) if sees_staff else [],
        "commands": read_command_views(connection, open_only=True) if sees_staff else [],
        "flood": load_json(read_flood(connection, now, grouped=False)) if sees_staff else None,
        "summary": read_summary(connection) | {"vision": summarise_vision(connection, model, now)},
    }
    return seq, write_json(message)


def read_deltas(connection: Connection, after: int, sees_staff: bool, now: datetime) -> list[Delta]:
    """What changed after number `after`, each object once per message and as it is now; in order."""
    deltas: list[Delta] = []
    while True:
        changes = read_changes(connection, after, _BATCH)
        if not changes:
            return deltas
        after = changes[-1].seq
        ids: dict[ChangeKind, dict[UUID, None]] = {}
        for change in changes:
            ids.setdefault(change.kind, {})[change.object_id] = None
        objects = _read_objects(connection, ids, sees_staff, now)
        if objects:
            deltas.append(Delta(after, write_json({"type": "delta", "seq": after, "changes": objects})))


def _read_objects(
    connection: Connection, ids: dict[ChangeKind, dict[UUID, None]], sees_staff: bool, now: datetime
) -> list[JsonObject]:
    objects: list[JsonObject] = []
    for kind, wanted in ids.items():
        if kind is ChangeKind.INCIDENT:
            found = read_incidents(connection, ids=list(wanted), now=now)
        elif kind is ChangeKind.DEVICE:
            found = read_devices(connection, list(wanted))
        elif kind is ChangeKind.COMMAND:
            if not sees_staff:  # commands are the operators' business
                continue
            found = read_command_views(connection, ids=list(wanted), limit=len(wanted))
        elif sees_staff:
            found = read_staff(connection, list(wanted))
        else:
            continue
        by_id = {str(item["id"]): item for item in found}
        objects += [{"kind": kind, "id": object_id, "data": by_id.get(str(object_id))} for object_id in wanted]
    return objects


def read_live(
    connection: Connection, since: datetime | None, sees_staff: bool, sent: dict[tuple[str, UUID], datetime]
) -> Live:
    """Telemetry and positions written since then that were not sent yet; None: the newest of everything."""
    start = since or _BEGINNING
    devices = read_device_changes(connection, start)
    staff = read_staff_changes(connection, start) if sees_staff else []
    instants = {("device", id_): at for at, id_, _ in devices} | {("staff", item["id"]): at for at, item in staff}
    return Live(
        devices=[text for at, id_, text in devices if sent.get(("device", id_)) != at],
        staff=[item for at, item in staff if sent.get(("staff", item["id"])) != at],
        sent=instants,  # only of the time that is read again: what is older cannot come again
    )
