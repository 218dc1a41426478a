"""Homes: who may be watched, for how long, and what is kept of whom to call."""

from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest

from devices.alarms import advance_device, advance_time, has_consent
from devices.homes import (
    Consent,
    ConsentState,
    Contact,
    ContactRecord,
    ContactRole,
    consent_state,
    mask_name,
    mask_phone,
    read_consent_history,
    read_contacts,
    read_ending_consents,
    read_home,
    write_home,
)
from devices.model import Device, DeviceState, Message, TopicKind, write_instant
from devices.registry import KINDS
from devices.seal import Seal, SealError
from devices.store import DeviceError, DeviceRecord, add_device, read_device
from kernel.db import Connection, Database
from kernel.settings import Settings

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
SEAL = Seal("a key")
CONSENT = Consent(
    given_by="王阿姨", given_at=NOW - timedelta(days=1), ends_at=NOW + timedelta(days=200), purpose="独居照看"
)
RESIDENT = ContactRecord(position=1, role=ContactRole.RESIDENT, name="王阿姨", phone="13812345678")
SON = ContactRecord(position=2, role=ContactRole.NEIGHBOUR, name="李强", phone="+86 139-8765-4321")


@pytest.fixture
def door(database: Database) -> Device:
    with database.transaction() as connection:
        record = DeviceRecord(
            code="door-1", kind="door_sensor", name="门磁", lon=120.17, lat=30.28, area_code="330105012001",
            settings={"care": True},
        )  # fmt: skip
        return add_device(connection, record, NOW)


def keep(connection: Connection, device: Device, now: datetime = NOW, **change: Any) -> Device:
    home: dict[str, Any] = {
        "building": "3 幢", "floor": "5", "household": "502", "consent": CONSENT, "contacts": [RESIDENT, SON], **change
    }  # fmt: skip
    write_home(connection, device, seal=SEAL, actor="lin", now=now, **home)
    return read_device(connection, device.code)


def heard(at: datetime, **fields: Any) -> Message:
    kind = KINDS["door_sensor"]
    event = "open" in fields
    topic = TopicKind.EVENT if event else TopicKind.TELEMETRY
    body = {"v": 1, "id": f"{at.timestamp():.0f}", "at": write_instant(at), "open": False, **fields}
    payload = kind.payloads[topic].model_validate(body)
    return Message(topic_kind=topic, id=body["id"], seq=None, measured_at=at, received_at=at, payload=payload)


# ---------------------------------------------------------------- what is judged


def watched(device: Device) -> list[str]:
    """Alarms of a day in which the door stays shut and the sensor is heard."""
    kind = KINDS["door_sensor"]
    began = datetime(2026, 11, 20, 22, 0, tzinfo=UTC)  # six in the morning in Hangzhou
    state, raised = DeviceState(), []
    for hour in range(14):
        now = began + timedelta(hours=hour)
        step = advance_device(kind, device, state, [heard(now)], now, "Asia/Shanghai")
        passing = advance_time(kind, device, step.state, now, "Asia/Shanghai")
        raised += [alarm.rule for alarm in step.alarms + passing.alarms if alarm.raised]
        state = passing.state
    return raised


def test_a_person_at_home_is_judged_with_a_consent_on_record_and_not_without(database: Database, door: Device) -> None:
    assert watched(door) == ["door_silent"], "no household: as its settings say"
    with database.transaction() as connection:
        assert watched(keep(connection, door)) == ["door_silent"]
        assert watched(keep(connection, door, consent=None)) == []


def test_when_the_consent_ends_what_was_remembered_and_what_was_raised_go_with_it(
    database: Database, door: Device
) -> None:
    kind = KINDS["door_sensor"]
    ends_at = NOW + timedelta(hours=1)
    with database.transaction() as connection:
        device = keep(connection, door, consent=Consent(given_by="a", given_at=NOW, ends_at=ends_at, purpose="b"))
    night = {"night_start": time(0).isoformat(), "night_end": time(0).isoformat(), "night_openings": 1, "care": True}
    device = Device(**{n: getattr(device, n) for n in Device.__slots__} | {"settings": night})
    step = advance_device(kind, device, DeviceState(), [heard(NOW, open=True)], NOW, "Asia/Shanghai")
    assert "door_night" in step.state.alarms and "openings" in step.state.rule_state["door_night"]
    after = advance_time(kind, device, step.state, ends_at, "Asia/Shanghai").state
    assert after.alarms == {} and "door_night" not in after.rule_state


def test_a_smoke_alarm_needs_nobodys_consent() -> None:
    smoke = KINDS["smoke_alarm"]
    device = Device(id=UUID(int=1), code="s", kind="smoke_alarm", name="s", lon=0, lat=0, in_home=True)
    assert not has_consent(device, NOW)
    body = {"v": 1, "id": "1", "at": write_instant(NOW), "status": "alarm"}
    payload = smoke.payloads[TopicKind.EVENT].model_validate(body)
    message = Message(topic_kind=TopicKind.EVENT, id="1", seq=None, measured_at=NOW, received_at=NOW, payload=payload)
    assert [a.rule for a in advance_device(smoke, device, DeviceState(), [message], NOW, "UTC").alarms] == ["smoke"]


@pytest.mark.parametrize(
    ("in_home", "days", "state"),
    [(False, None, ConsentState.NOT_NEEDED), (True, None, ConsentState.MISSING), (True, 200, ConsentState.VALID),
     (True, 30, ConsentState.ENDS_SOON), (True, 0, ConsentState.ENDED), (True, -5, ConsentState.ENDED)],
)  # fmt: skip
def test_how_a_consent_stands(in_home: bool, days: int | None, state: ConsentState) -> None:
    until = NOW + timedelta(days=days) if days is not None else None
    assert consent_state(in_home, until, NOW) is state


# ---------------------------------------------------------------- what is kept


def test_a_home_reads_as_it_was_written(database: Database, door: Device) -> None:
    with database.transaction() as connection:
        device = keep(connection, door)
        home = read_home(connection, door.id, SEAL)
    assert (home.building, home.floor, home.household, home.consent) == ("3 幢", "5", "502", CONSENT)
    assert [(c.role, c.name, c.phone) for c in home.contacts] == [
        ("resident", "王阿姨", "13812345678"), ("neighbour", "李强", "+86 139-8765-4321"),
    ]  # fmt: skip
    assert device.in_home and device.consent_until == CONSENT.ends_at


def test_another_consent_withdraws_the_one_on_record_which_is_kept(database: Database, door: Device) -> None:
    longer = Consent(given_by="王阿姨", given_at=NOW, ends_at=NOW + timedelta(days=400), purpose="独居照看")
    with database.transaction() as connection:
        keep(connection, door)
        keep(connection, door)  # the same again is no new consent
        assert len(read_consent_history(connection, door.id)) == 1
        keep(connection, door, now=NOW + timedelta(hours=1), consent=longer)
        history = read_consent_history(connection, door.id)
        assert [row["withdrawn_at"] is None for row in history] == [True, False] and history[1]["withdrawn_by"] == "lin"
        assert read_device(connection, door.code).consent_until == longer.ends_at
        assert keep(connection, door, now=NOW + timedelta(hours=2), consent=None).consent_until is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"household": " "}, "consent_without_home"),
        ({"consent": Consent(given_by="a", given_at=NOW, ends_at=NOW, purpose="b")}, "bad_consent"),
        ({"consent": Consent(given_by="a", given_at=NOW + timedelta(days=1), ends_at=NOW + timedelta(days=9), purpose="b")},
         "bad_consent"),
        ({"consent": Consent(given_by=" ", given_at=NOW, ends_at=NOW + timedelta(days=9), purpose="b")}, "bad_consent"),
        ({"contacts": [ContactRecord(position=1, role=ContactRole.RESIDENT, name="王", phone="no number")]}, "bad_contact"),
        ({"contacts": [ContactRecord(position=1, role=ContactRole.RESIDENT, phone="13812345678")]}, "bad_contact"),
        ({"contacts": [RESIDENT, RESIDENT]}, "bad_contact"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_changes_nothing(
    database: Database, door: Device, change: dict[str, Any], code: str
) -> None:
    with database.transaction() as connection:
        keep(connection, door)
        with pytest.raises(DeviceError) as refused:
            keep(connection, door, **change)
        assert refused.value.code == code
        assert read_home(connection, door.id, SEAL).consent == CONSENT
        assert len(read_contacts(connection, door.id, SEAL)) == 2


def test_a_contact_that_is_sent_back_without_its_number_keeps_it(database: Database, door: Device) -> None:
    with database.transaction() as connection:
        keep(connection, door)
        first, _ = read_contacts(connection, door.id, SEAL)
        keep(connection, door, contacts=[ContactRecord(id=first.id, position=3, role=ContactRole.COMMUNITY)])
        [kept] = read_contacts(connection, door.id, SEAL)
    assert (kept.id, kept.position, kept.role, kept.name, kept.phone) == (
        first.id,
        3,
        "community",
        "王阿姨",
        "13812345678",
    )


def test_the_database_and_the_audit_hold_neither_names_nor_numbers_of_contacts(
    database: Database, door: Device
) -> None:
    with database.transaction() as connection:
        keep(connection, door)
        rows = connection.execute("SELECT sealed FROM home_contact").fetchall()
        lines = connection.execute("SELECT action, detail::text FROM audit").fetchall()
    assert len(rows) == 2
    assert all("王阿姨".encode() not in sealed and b"13812345678" not in sealed for (sealed,) in rows)
    assert [action for action, _ in lines] == ["home_changed"]
    assert "138" not in lines[0][1] and "王" not in lines[0][1]
    assert "138" not in repr(Contact(id=UUID(int=1), position=1, role=ContactRole.RESIDENT, name="王", phone="138"))


def test_a_sealed_contact_opens_only_with_its_key_and_in_its_own_row() -> None:
    owner, other = UUID(int=1), UUID(int=2)
    sealed = SEAL.close(owner, {"name": "王阿姨"})
    assert SEAL.open(owner, sealed) == {"name": "王阿姨"}
    for opener, whose, text in (
        (SEAL, other, sealed),
        (Seal("b"), owner, sealed),
        (SEAL, owner, sealed[:-1] + b"\0"),
        (SEAL, owner, b""),
    ):
        with pytest.raises(SealError):
            opener.open(whose, text)


def test_an_installation_keeps_its_contact_key(settings: Settings) -> None:
    sealed = Seal.of(settings.data_dir).close(UUID(int=1), {"phone": "1"})
    assert Seal.of(settings.data_dir).open(UUID(int=1), sealed) == {"phone": "1"}


def test_consents_that_are_missing_ended_or_about_to_end_are_listed(database: Database, door: Device) -> None:
    with database.transaction() as connection:
        keep(connection, door)
        assert read_ending_consents(connection, NOW) == []
        before = CONSENT.ends_at - timedelta(days=30)
        [row] = read_ending_consents(connection, before)
        assert (row["code"], row["consent"], row["household"]) == ("door-1", "ends_soon", "502")
        assert read_ending_consents(connection, before - timedelta(days=1)) == []
        assert read_ending_consents(connection, CONSENT.ends_at)[0]["consent"] == "ended"
        keep(connection, door, consent=None)
        assert read_ending_consents(connection, NOW)[0]["consent"] == "missing"


def test_masks_of_people() -> None:
    assert mask_name("王阿姨") == "王**"
    assert mask_phone("+86 138-1234-5678") == "138****78" and mask_phone("8888") == "****88"
