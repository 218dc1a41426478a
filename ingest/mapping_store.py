"""The SQL of mappings: their versions, and which device uses which."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from devices.model import Device
from ingest.mapping import Mapping
from kernel.db import Connection
from kernel.ids import new_id


class MappingError(ValueError):
    """A mapping cannot be kept or used as asked; `code` is stable."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredMapping:
    """A version of a mapping; `document` is the JSON of ingest.mapping.Mapping."""

    id: UUID
    version: int
    name: str
    kind: str
    document: dict[str, Any]
    created_at: datetime
    created_by: str


_COLUMNS = "m.id, m.version, m.name, m.kind, m.document, m.created_at, m.created_by"
_CURRENT = "m.version = (SELECT max(n.version) FROM mapping n WHERE n.id = m.id)"


def read_mappings(connection: Connection) -> list[StoredMapping]:
    """The versions in force, by name."""
    with connection.cursor(row_factory=class_row(StoredMapping)) as cursor:
        return cursor.execute(f"SELECT {_COLUMNS} FROM mapping m WHERE {_CURRENT} ORDER BY m.name").fetchall()


def read_versions(connection: Connection, mapping_id: UUID) -> list[StoredMapping]:
    """Every version of one mapping, newest first; none when there is no such mapping."""
    with connection.cursor(row_factory=class_row(StoredMapping)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM mapping m WHERE m.id = %s ORDER BY m.version DESC", (mapping_id,)
        ).fetchall()


def add_mapping(connection: Connection, mapping: Mapping, author: str, now: datetime) -> StoredMapping:
    """Keep a new mapping.

    Raises MappingError (name_taken).
    """
    mapping_id = new_id(now)
    row = connection.execute(
        "INSERT INTO mapping (id, version, name, kind, document, created_at, created_by) VALUES (%s, 1, %s, %s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING RETURNING id",
        (mapping_id, mapping.name, mapping.kind, _write(mapping), now, author),
    ).fetchone()
    if row is None:
        raise MappingError("name_taken", f"a mapping {mapping.name!r} exists already")
    return read_versions(connection, mapping_id)[0]


def change_mapping(
    connection: Connection, mapping_id: UUID, mapping: Mapping, author: str, now: datetime
) -> StoredMapping:
    """Keep a new version; it is in force at once for every device that uses the mapping.

    Raises MappingError (unknown_mapping, name_changed, kind_changed, version_conflict).
    """
    versions = read_versions(connection, mapping_id)
    if not versions:
        raise MappingError("unknown_mapping", "there is no such mapping")
    if mapping.name != versions[0].name:
        raise MappingError("name_changed", "a new version keeps the name")
    if mapping.kind != versions[0].kind:
        raise MappingError("kind_changed", "a new version keeps the kind of device")
    row = connection.execute(
        "INSERT INTO mapping (id, version, name, kind, document, created_at, created_by) VALUES (%s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING RETURNING id",
        (mapping_id, versions[0].version + 1, mapping.name, mapping.kind, _write(mapping), now, author),
    ).fetchone()
    if row is None:
        raise MappingError("version_conflict", "somebody else has just written this version")
    return read_versions(connection, mapping_id)[0]


def _write(mapping: Mapping) -> Jsonb:
    return Jsonb(mapping.model_dump(mode="json", by_alias=True))


def use_mapping(connection: Connection, device: Device, mapping_id: UUID | None, now: datetime) -> None:
    """From now on the device's raw messages go through this mapping; None: through none.

    Raises MappingError (unknown_mapping).
    """
    if mapping_id is None:
        connection.execute("DELETE FROM device_mapping WHERE device_id = %s", (device.id,))
        return
    if not read_versions(connection, mapping_id):
        raise MappingError("unknown_mapping", "there is no such mapping")
    connection.execute(
        "INSERT INTO device_mapping (device_id, mapping_id, changed_at) VALUES (%s, %s, %s)"
        " ON CONFLICT (device_id) DO UPDATE SET mapping_id = EXCLUDED.mapping_id, changed_at = EXCLUDED.changed_at",
        (device.id, mapping_id, now),
    )


def read_device_mapping(connection: Connection, device_id: UUID) -> UUID | None:
    """Which mapping the device uses."""
    row = connection.execute("SELECT mapping_id FROM device_mapping WHERE device_id = %s", (device_id,)).fetchone()
    return row[0] if row else None


@lru_cache(maxsize=1000)
def _parse(text: str) -> Mapping:
    return Mapping.model_validate_json(text)


@dataclass(frozen=True, slots=True)
class MappingBook:
    """What is needed to read the raw messages of some devices: their mappings, and which children they may speak for."""

    mappings: dict[str, Mapping]  # by device code
    children: dict[str, frozenset[str]]  # gateway's code -> its children's codes

    @classmethod
    def read(cls, connection: Connection, codes: Iterable[str]) -> "MappingBook":
        """Of these devices; one that has no mapping is not in it."""
        rows = connection.execute(
            "SELECT d.code, m.document::text, ARRAY(SELECT c.code FROM device c WHERE c.parent_id = d.id"
            " AND m.document ->> 'device' IS NOT NULL)"
            " FROM device d JOIN device_mapping u ON u.device_id = d.id JOIN mapping m ON m.id = u.mapping_id"
            f" WHERE d.code = ANY (%s) AND {_CURRENT}",
            (sorted(set(codes)),),
        ).fetchall()
        mappings = {code: _parse(text) for code, text, _ in rows}
        return cls(mappings, {code: frozenset(children) for code, _, children in rows})

    def may_name(self, gateway: str, code: str) -> bool:
        """Whether `gateway` may speak for `code`."""
        return code in self.children.get(gateway, frozenset())
