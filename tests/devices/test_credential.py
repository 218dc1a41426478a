"""Keys: shown once, checked in the form brokers use, rotated with an overlap, revoked."""

import base64
import hashlib
import shutil
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.access import read_access, read_version, write_acl, write_passwords
from devices.credential import (
    check_password,
    draw_key,
    issue_key,
    make_password,
    may_write_for,
    read_credentials,
    revoke_key,
    verify_key,
)
from devices.model import Device
from devices.store import DeviceError, DeviceRecord, add_device, set_device_enabled
from kernel.db import Database, DbRole, conninfo
from kernel.settings import Settings

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


def register(database: Database, code: str, kind: str = "smoke_alarm", parent: Device | None = None) -> Device:
    with database.transaction("*") as connection:
        record = DeviceRecord(
            code=code, kind=kind, name=code, lon=120.17, lat=30.28, parent_id=parent.id if parent else None
        )
        return add_device(connection, record, NOW)


def opens(database: Database, user: str, key: str, at: datetime) -> str | None:
    """Code of the device that this log-in is, or None."""
    with database.transaction("*") as connection:
        device = verify_key(connection, user, key, at)
    return device.code if device else None


def test_a_key_opens_its_device_by_name_and_key_or_by_the_key_alone(database: Database) -> None:
    device = register(database, "S1")
    register(database, "S2")
    with database.transaction("*") as connection:
        user, key = issue_key(connection, device, NOW)
    assert user == "S1"
    assert opens(database, "S1", key, NOW) == opens(database, "", key, NOW) == "S1"
    for wrong_user, wrong_key in (
        ("S2", key),
        ("S1@2", key),
        ("S1", key[:-1]),
        ("S1", ""),
        ("", ""),
        ("S1", "\udcff"),
        ("\udcff", key),
    ):
        assert opens(database, wrong_user, wrong_key, NOW) is None


def test_the_key_is_in_no_table(database: Database, settings: Settings) -> None:
    with database.transaction("*") as connection:
        _, key = issue_key(connection, register(database, "S1"), NOW)
    with psycopg.connect(conninfo(settings, DbRole.OWNER)) as connection:
        tables = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        for table in tables:
            row = connection.execute(
                f'SELECT count(*) FROM "{table}" AS t WHERE t::text LIKE %s',  # type: ignore[arg-type]
                (f"%{key}%",),
            ).fetchone()
            assert row == (0,), table
    assert "device_credential" in tables


def test_a_rotation_gives_the_next_number_and_both_work_until_the_overlap_ends(database: Database) -> None:
    device = register(database, "S1")
    with database.transaction("*") as connection:
        old = issue_key(connection, device, NOW)
        new = issue_key(connection, device, NOW + HOUR, HOUR)
        numbers = [(c.number, c.username, c.valid_until) for c in read_credentials(connection, device.id)]
    assert new[0] == "S1@2" and new[1] != old[1]
    assert numbers == [(1, "S1", NOW + 2 * HOUR), (2, "S1@2", None)]
    before, after = NOW + 1.9 * HOUR, NOW + 2 * HOUR
    assert opens(database, *old, before) == opens(database, *new, before) == "S1"
    assert opens(database, *old, after) is None and opens(database, *new, after) == "S1"


def test_a_second_rotation_never_lengthens_the_life_of_the_first_key(database: Database) -> None:
    device = register(database, "S1")
    with database.transaction("*") as connection:
        first = issue_key(connection, device, NOW)
        issue_key(connection, device, NOW, HOUR)
        issue_key(connection, device, NOW, 10 * HOUR)
    assert opens(database, *first, NOW + HOUR) is None


def test_a_revoked_key_opens_nothing_and_stays_revoked(database: Database) -> None:
    device = register(database, "S1")
    with database.transaction("*") as connection:
        login = issue_key(connection, device, NOW)
        assert revoke_key(connection, device, 1, NOW).revoked_at == NOW
        assert revoke_key(connection, device, 1, NOW + HOUR).revoked_at == NOW
        with pytest.raises(DeviceError, match="no key number 7"):
            revoke_key(connection, device, 7, NOW)
    assert opens(database, *login, NOW) is None


def test_two_who_rotate_at_once_get_two_numbers(database: Database) -> None:
    device = register(database, "S1")
    issued: list[str] = []
    start = threading.Barrier(4)

    def rotate() -> None:
        start.wait()
        with database.transaction("*") as connection:
            issued.append(issue_key(connection, device, NOW)[0])

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(issued) == ["S1", "S1@2", "S1@3", "S1@4"]


def test_a_gateway_speaks_for_its_children_only(database: Database) -> None:
    gateway, other = register(database, "G1", "gateway"), register(database, "G2", "gateway")
    register(database, "C1", parent=gateway)
    register(database, "C2", parent=other)
    with database.transaction("*") as connection:
        for login, code, allowed in (
            (gateway, "C1", True),
            (gateway, "G1", True),
            (gateway, "C2", False),
            (gateway, "no", False),
        ):
            found = may_write_for(connection, login, code)
            assert (found.code if found else None) == (code if allowed else None)


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_a_password_line_fits_its_key_and_no_other(key: str) -> None:
    line = make_password(key)
    assert check_password(key, line)
    assert not check_password(key + "x", line)


@pytest.mark.parametrize("line", ["", "$7$", "$6$a$b", "$7$x$aaaa$aaaa", "$7$1$?$?", "plain", "$7$1$$"])
def test_what_is_no_password_line_fits_nothing(line: str) -> None:
    assert not check_password("", line) and not check_password("x", line)


def test_our_lines_are_those_of_mosquittos_own_tool(tmp_path: Path) -> None:
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed")
    file = tmp_path / "passwords"
    key = draw_key()
    file.write_text(f"S1:{key}\n")
    subprocess.run([tool, "-U", str(file)], check=True, capture_output=True)
    theirs = file.read_text().strip().partition(":")[2]
    assert check_password(key, theirs)
    ours = make_password(key).split("$")
    assert [len(part) for part in ours[3:]] == [len(part) for part in theirs.split("$")[3:]]


def test_a_broker_that_asks_the_database_finds_what_mosquittos_files_say(
    database: Database, settings: Settings
) -> None:
    """EMQX: PBKDF2 with SHA-512, one round, 64 bytes in hex, the salt as text (its documentation of `pbkdf2`)."""
    gateway = register(database, "G1", "gateway")
    register(database, "C1", parent=gateway)
    gone = register(database, "S9")
    with database.transaction("*") as connection:
        user, key = issue_key(connection, gateway, NOW)
        issue_key(connection, gone, NOW)
        set_device_enabled(connection, "S9", False, NOW)
    with psycopg.connect(conninfo(settings, DbRole.OWNER)) as connection:
        rows = connection.execute("SELECT username, password_hash, salt FROM mqtt_login").fetchall()
        rights = set(connection.execute("SELECT username, permission, action, topic FROM mqtt_permission").fetchall())
    [(name, password_hash, salt)] = rows
    assert name == user
    assert hashlib.pbkdf2_hmac("sha512", key.encode(), salt.encode(), 1, 64).hex() == password_hash
    assert ("G1", "allow", "publish", "gridwarden/smoke_alarm/C1/event") in rights
    assert ("G1", "allow", "subscribe", "gridwarden/gateway/G1/command") in rights
    assert not [
        topic for _, _, action, topic in rights if topic.endswith(("receipt", "command")) and action == "publish"
    ]
    assert not [topic for *_, topic in rights if "S9" in topic]


def test_the_files_name_every_valid_login_and_bar_who_has_none_left(database: Database) -> None:
    plain, rotated, revoked, ended = (register(database, code) for code in ("S1", "S2", "S3", "S4"))
    with database.transaction("*") as connection:
        issue_key(connection, plain, NOW)
        issue_key(connection, rotated, NOW)
        issue_key(connection, rotated, NOW, HOUR)
        issue_key(connection, revoked, NOW)
        revoke_key(connection, revoked, 1, NOW)
        issue_key(connection, ended, NOW)
        issue_key(connection, ended, NOW, timedelta(0))
        revoke_key(connection, ended, 2, NOW)
        access = read_access(connection, NOW)
    assert [login.username for login in access.logins] == ["S1", "S2", "S2@2"]
    assert access.barred == ("S3",)  # S4's first key ended by itself: nobody said that it must not pass
    assert access.next_end_at == NOW + HOUR
    passwords = write_passwords(access, {"platform": make_password("p")})
    assert [line.partition(":")[0] for line in passwords.splitlines()] == ["platform", "S1", "S2", "S2@2"]
    assert all(len(base64.b64decode(line.split("$")[3])) == 12 for line in passwords.splitlines())
    acl = write_acl(access, "platform")
    assert "user S3\ntopic deny #\n" in acl and "user S1\n" not in acl  # patterns serve a log-in that is the code
    assert "user S2@2\ntopic write gridwarden/smoke_alarm/S2/telemetry\n" in acl


@pytest.mark.parametrize(
    "change",
    ["UPDATE device SET enabled = false", "UPDATE device SET parent_id = NULL", "DELETE FROM device_credential",
     "UPDATE device_credential SET revoked_at = created_at"],
)  # fmt: skip
def test_whatever_changes_log_ins_or_rights_is_noticed(database: Database, change: str) -> None:
    with database.transaction("*") as connection:
        issue_key(connection, register(database, "S1"), NOW)
    with database.transaction("*") as connection:
        before = read_version(connection)
    with database.transaction("*") as connection:
        connection.execute("UPDATE device SET name = 'another'")
    with database.transaction("*") as connection:
        assert read_version(connection) == before  # a name opens nothing
        connection.execute(change)  # type: ignore[arg-type]
    with database.transaction("*") as connection:
        assert read_version(connection) != before


def test_an_operator_of_one_street_sees_no_credentials_of_another(database: Database, app_database: Database) -> None:
    with database.transaction("*") as connection:
        record = DeviceRecord(code="S1", kind="smoke_alarm", name="S1", lon=120.17, lat=30.28, area_code="330105012001")
        issue_key(connection, add_device(connection, record, NOW), NOW)
    for scope, count in (("330105012", 1), ("330105013", 0)):
        with app_database.transaction(scope) as connection:
            assert connection.execute("SELECT count(*) FROM device_credential").fetchone() == (count,)
