"""Commands among several who act at the same moment: one wins, and each command is sent by one process."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dashboard.users import add_user
from devices.command_model import TRANSITIONS, CommandActor, CommandRefused, CommandState
from devices.command_sending import end_silent, take_due
from devices.command_store import change_command, lock_command, read_commands
from devices.commands import approve_command, cancel_command, request_command
from devices.model import Device
from devices.registry import KINDS
from devices.store import DeviceRecord, add_device
from kernel.db import Database, DbRole
from kernel.settings import Settings
from kernel.types import Role

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)


@pytest.fixture
def people(database: Database) -> list[CommandActor]:
    with database.transaction() as connection:
        return [
            CommandActor(name=name, user_id=add_user(connection, name=name, roles=(Role.OPERATOR,), scope="*", now=NOW))
            for name in ("lin", "zhou", "chen")
        ]


def add_siren(database: Database, code: str, *, heard: bool = True) -> Device:
    with database.transaction() as connection:
        device = add_device(connection, DeviceRecord(code=code, kind="siren", name=code, lon=120.17, lat=30.28), NOW)
        if heard:
            connection.execute("UPDATE device_state SET last_seen_at = %s WHERE device_id = %s", (NOW, device.id))
    return device


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Do all of it at the same moment; results, or the refusals' codes."""
    gate, results = threading.Barrier(len(actions)), [None] * len(actions)

    def act(number: int, action: Callable[[], Any]) -> None:
        gate.wait()
        try:
            results[number] = action()
        except CommandRefused as refused:
            results[number] = refused.code

    threads = [threading.Thread(target=act, args=item) for item in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return results


def test_of_two_requests_at_the_same_moment_one_is_taken(database: Database, people: list[CommandActor]) -> None:
    device = add_siren(database, "SI-1")

    def ask(actor: CommandActor) -> str:
        with database.transaction() as connection:
            command = request_command(
                connection, device, "sound", {"duration_s": 5}, actor=actor, reason="test", now=NOW
            )
        return str(command.state)

    results = at_once(*[lambda actor=actor: ask(actor) for actor in people])  # type: ignore[misc]
    assert sorted(results) == ["command_open", "command_open", "requested"]


def test_of_an_approval_and_a_cancel_at_the_same_moment_one_wins(
    database: Database, people: list[CommandActor]
) -> None:
    for number in range(5):
        device = add_siren(database, f"SI-2-{number}")
        with database.transaction() as connection:
            command = request_command(
                connection, device, "sound", {"duration_s": 5}, actor=people[0], reason="test", now=NOW
            )

        def approve(actor: CommandActor, command: Any = command) -> str:
            with database.transaction() as connection:
                approved = approve_command(connection, command.id, actor, NOW)
            return str(approved.state)

        def cancel(command: Any = command) -> str:
            with database.transaction() as connection:
                cancelled = cancel_command(connection, command.id, people[0], "x", NOW)
            return str(cancelled.state)

        results = at_once(lambda: approve(people[1]), lambda: approve(people[2]), cancel)
        with database.transaction() as connection:
            state = read_commands(connection, [command.id])[command.id].state
        assert str(state) in results and results.count("approved") <= 1


def test_two_senders_share_the_work_and_send_each_command_once(
    settings: Settings, database: Database, people: list[CommandActor]
) -> None:
    devices = [add_siren(database, f"SI-3-{number}") for number in range(30)]
    with database.transaction() as connection:
        for device in devices:
            request_command(connection, device, "stop_sounding", {}, actor=people[0], reason="test", now=NOW)

    def send() -> list[bytes]:
        other = Database(settings, DbRole.WORKER)
        try:
            with other.transaction() as connection:
                return [one.payload for one in take_due(connection, NOW)]
        finally:
            other.close()

    first, second, third = at_once(send, send, send)
    sent = [*first, *second, *third, *send()]
    assert len(sent) == len(set(sent)) == 30


def test_numbers_of_a_device_count_up_in_the_order_of_sending(database: Database, people: list[CommandActor]) -> None:
    device = add_siren(database, "SI-4")
    ids = []
    for second in range(3):
        at = NOW + timedelta(seconds=second)
        with database.transaction() as connection:
            command = request_command(connection, device, "stop_sounding", {}, actor=people[0], reason="test", now=at)
            ids.append(command.id)
            take_due(connection, at)
    with database.transaction() as connection:
        found = read_commands(connection, ids)
    assert [found[command_id].seq for command_id in ids] == [1, 2, 3]


def test_a_device_switched_off_after_the_approval_gets_nothing(database: Database, people: list[CommandActor]) -> None:
    device = add_siren(database, "SI-5")
    with database.transaction() as connection:
        command = request_command(connection, device, "stop_sounding", {}, actor=people[0], reason="test", now=NOW)
        connection.execute("UPDATE device SET enabled = false WHERE id = %s", (device.id,))
    with database.transaction() as connection:
        assert take_due(connection, NOW) == []
        ended = read_commands(connection, [command.id])[command.id]
    assert ended.state is CommandState.REFUSED and (ended.outcome or {})["detail"] == "device_enabled"


def test_silence_after_our_own_outage_is_no_answer_for_a_while_and_never_for_ever(
    database: Database, people: list[CommandActor]
) -> None:
    device = add_siren(database, "SI-6")
    with database.transaction() as connection:
        command = request_command(connection, device, "stop_sounding", {}, actor=people[0], reason="test", now=NOW)
        take_due(connection, NOW)
        over_at = read_commands(connection, [command.id])[command.id].expires_at
    with database.transaction() as connection:
        assert end_silent(connection, over_at + timedelta(seconds=9), hears_all=True) == 0
        assert end_silent(connection, over_at + timedelta(seconds=60), hears_all=False) == 0
        assert end_silent(connection, over_at + timedelta(seconds=121), hears_all=False) == 1


def test_no_state_can_be_written_that_the_table_does_not_allow(database: Database, people: list[CommandActor]) -> None:
    device = add_siren(database, "SI-7")
    with database.transaction() as connection:
        command = request_command(
            connection, device, "sound", {"duration_s": 5}, actor=people[0], reason="test", now=NOW
        )
        for to in set(CommandState) - TRANSITIONS[CommandState.REQUESTED]:
            with pytest.raises(CommandRefused, match="not_allowed_in_state"):
                change_command(connection, lock_command(connection, command.id), to, people[0], NOW)


def test_every_open_state_has_an_end_and_no_end_goes_on() -> None:
    for state, following in TRANSITIONS.items():
        assert following - set(TRANSITIONS), f"{state} leads to no end"
    assert set(CommandState) - set(TRANSITIONS) == {
        CommandState.VERIFIED, CommandState.REFUSED, CommandState.EXPIRED, CommandState.FAILED, CommandState.CANCELLED,
    }  # fmt: skip


def test_commands_of_a_kind_have_names_of_their_own_and_a_reason_to_move() -> None:
    for kind in KINDS.values():
        names = [command.name for command in kind.commands]
        assert len(names) == len(set(names))
        for command in kind.commands:
            assert not (command.halts and (command.moving or command.second_person)), "a halt waits for nobody"
