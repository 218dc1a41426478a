"""What interlocks are told of the world: people that vision saw, related devices, locks; read from a real database."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from devices.command_lock import add_lock, release_lock
from devices.command_model import CommandActor
from devices.commands import find_command_type, judge_command
from devices.model import Device, Relation
from devices.situation import read_situation
from devices.store import DeviceRecord, add_camera, add_device, read_device
from kernel.db import Connection, Database
from kernel.ids import new_id
from kernel.report import Report, insert_report
from kernel.types import Source
from vision.rules.crowding import RULE, Count, CrowdingState

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)


def record(code: str, kind: str, **settings: Any) -> DeviceRecord:
    return DeviceRecord(code=code, kind=kind, name=code, lon=120.17, lat=30.28, settings=settings)


@pytest.fixture
def gate(database: Database) -> Device:
    """A sluice watched by a camera that works."""
    with database.transaction() as connection:
        camera = add_camera(connection, record("CAM-1", "camera"), "rtsp://127.0.0.1/x", NOW)
        connection.execute(
            "UPDATE device_state SET status = 'ok', last_seen_at = %s WHERE device_id = %s", (NOW, camera.id)
        )
        return add_device(connection, record("SL-1", "river_sluice", related={"camera": ["CAM-1"]}), NOW)


def remember(connection: Connection, state: CrowdingState, saved_at: datetime = NOW) -> None:
    """Write what vision remembers of the zone, in vision's own form."""
    camera = read_device(connection, "CAM-1")
    connection.execute(
        "INSERT INTO vision_state (device_id, zone, rule, state, saved_at) VALUES (%s, '闸前', 'crowding', %s, %s)"
        " ON CONFLICT (device_id, zone, rule) DO UPDATE SET state = EXCLUDED.state, saved_at = EXCLUDED.saved_at",
        (camera.id, Jsonb({"zone": "f", "state": RULE.dump(state)}), saved_at),
    )


def zone_of(connection: Connection, gate: Device, now: datetime = NOW) -> tuple[str, bool]:
    found = judge_command(connection, gate, find_command_type(gate, "set_gate_opening"), None, now)
    return next((i.code, i.ok) for i in found if i.code in ("zone_watched", "nobody_in_zone"))


def test_a_camera_that_never_looked_for_people_does_not_watch(database: Database, gate: Device) -> None:
    with database.transaction() as connection:
        assert zone_of(connection, gate) == ("zone_watched", False)


@pytest.mark.parametrize(
    ("state", "ok"),
    [
        (CrowdingState(counts=(Count(at_s=1.0, people=0),)), True),
        (CrowdingState(), True),
        (CrowdingState(counts=(Count(at_s=1.0, people=0), Count(at_s=2.0, people=1))), False),
        (CrowdingState(counts=(Count(at_s=2.0, people=0),), raised_s=1.0), False),
    ],
)
def test_people_whom_vision_counts_stand_in_the_way(
    database: Database, gate: Device, state: CrowdingState, ok: bool
) -> None:
    with database.transaction() as connection:
        remember(connection, state)
        assert zone_of(connection, gate) == ("nobody_in_zone", ok)


def test_what_vision_remembered_long_ago_is_no_watching(database: Database, gate: Device) -> None:
    with database.transaction() as connection:
        remember(connection, CrowdingState(counts=(Count(at_s=1.0, people=0),)), NOW - timedelta(seconds=61))
        assert zone_of(connection, gate) == ("zone_watched", False)


def test_a_report_of_people_counts_for_a_while(database: Database, gate: Device) -> None:
    with database.transaction() as connection:
        remember(connection, CrowdingState(counts=(Count(at_s=1.0, people=0),)))
        insert_report(
            connection,
            Report(
                id=new_id(NOW), source=Source.CAMERA, source_key="CAM-1:x", category="crowding", lon=120.17, lat=30.28,
                occurred_at=NOW, received_at=NOW, device_id=read_device(connection, "CAM-1").id, rule="crowding",
            ),
        )  # fmt: skip
        assert zone_of(connection, gate) == ("nobody_in_zone", False)
        assert zone_of(connection, gate, NOW + timedelta(seconds=31)) == ("nobody_in_zone", True)


def test_a_related_device_that_does_not_exist_is_not_known(database: Database) -> None:
    with database.transaction() as connection:
        gate = add_device(connection, record("SL-2", "river_sluice", related={"upstream_gate": ["NONE"]}), NOW)
        assert read_situation(connection, gate, NOW).related == {Relation.UPSTREAM_GATE: {"NONE": None}}
        found = judge_command(connection, gate, find_command_type(gate, "set_gate_opening"), None, NOW)
        assert [i.ok for i in found if i.code == "upstream_gate_closed"] == [False]


def test_every_lock_holds_until_it_is_taken_off(database: Database, gate: Device) -> None:
    actor = CommandActor(name="chen")
    with database.transaction() as connection:
        locks = [add_lock(connection, gate, actor, reason, NOW) for reason in ("清淤", "电气检修")]
        release_lock(connection, gate, locks[0].id, actor, NOW, anybodys=False)
        assert [lock.reason for lock in read_situation(connection, gate, NOW).locks] == ["电气检修"]
        release_lock(connection, gate, locks[1].id, actor, NOW, anybodys=False)
        assert read_situation(connection, gate, NOW).locks == ()
