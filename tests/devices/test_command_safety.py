"""No sequence of requests, approvals, cancels, restarts and lost, doubled or reordered messages moves the gate against an
interlock, without a second person, too late, or twice.

The platform is the real one on a real database. The network between it and the station is this test's, and hostile: it
keeps every command it ever carried and delivers any of them, any number of times, in any order.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from psycopg import Rollback

from dashboard.users import add_user
from devices.command_lock import add_lock, release_lock
from devices.command_model import OPEN_STATES, Command, CommandActor, CommandRefused, CommandState
from devices.command_sending import Outgoing, end_silent, take_due
from devices.command_store import read_commands
from devices.commands import approve_command, cancel_command, request_command
from devices.model import Device, write_instant
from devices.store import DeviceRecord, add_device
from ingest.batch import take_batch
from ingest.decode import Raw
from kernel.db import Database
from kernel.settings import IngestSettings
from kernel.types import Role
from simulators.firmware import Firmware, Memory

START = datetime(2026, 11, 20, 8, tzinfo=UTC)
LEVEL_LIMIT_M = 1.5
FRESH_S, HEARD_S = 120.0, 900.0
TROUBLES = ("overtaken", "halted", "switched", "late", "lost", "locked", "early")
_numbers = count(1)


@dataclass
class Totals:
    """Over all examples: that the test tests something."""

    executed: int = 0
    verified: int = 0
    refused_by_platform: int = 0
    refused_by_device: int = 0


@dataclass
class Known:
    """What the platform was told last about a metric."""

    value: float
    at: datetime


@dataclass
class Told:
    """What the platform was told, kept by this test's own simple rule: the newest by `at` wins."""

    metrics: dict[str, Known] = field(default_factory=dict)
    heard_at: datetime | None = None

    def take(self, body: dict[str, Any], now: datetime) -> None:
        self.heard_at = now
        at = datetime.fromisoformat(body["at"])
        values = {
            name: body[name] for name in ("gate_opening_m", "upstream_level_m", "downstream_level_m") if name in body
        }
        if "control_mode" in body:
            values["local"] = float(body["control_mode"] == "local")
        for name, value in values.items():
            if name not in self.metrics or at >= self.metrics[name].at:
                self.metrics[name] = Known(float(value), at)

    def allows(self, name: str, opening_m: float, now: datetime, *, locked: bool) -> bool:
        """Whether a command may be sent: this test's own reading of the rules."""
        if self.heard_at is None or (now - self.heard_at).total_seconds() > HEARD_S:
            return False
        if name == "stop_gate":
            return True
        if locked or self.metrics.get("local", Known(0.0, now)).value:
            return False
        needed = [self.metrics.get(n) for n in ("gate_opening_m", "upstream_level_m", "downstream_level_m")]
        if any(known is None or (now - known.at).total_seconds() > FRESH_S for known in needed):
            return False
        opening, upstream, downstream = needed
        assert opening is not None and upstream is not None and downstream is not None
        wider = opening_m > opening.value
        return not wider or abs(upstream.value - downstream.value) <= LEVEL_LIMIT_M


@dataclass(frozen=True)
class Copy:
    """A command on its way to the station."""

    body: dict[str, Any]


def make_machine(database: Database, totals: Totals) -> type[RuleBasedStateMachine]:
    """The state machine against this database."""

    class Gate(RuleBasedStateMachine):
        @initialize()
        def begin(self) -> None:
            number = next(_numbers)
            self.now = START
            self.code = f"SL-{number}"
            with database.transaction() as connection:
                self.people = [
                    CommandActor(
                        name=f"{name}-{number}",
                        user_id=add_user(
                            connection, name=f"{name}-{number}", roles=(Role.OPERATOR,), scope="*", now=self.now
                        ),
                    )
                    for name in ("lin", "zhou")
                ]
                record = DeviceRecord(code=self.code, kind="river_sluice", name=self.code, lon=120.17, lat=30.28)
                self.device: Device = add_device(connection, record, self.now)
            self.fields: dict[str, Any] = {
                "level_m": 1.4, "upstream_level_m": 1.4, "downstream_level_m": 1.1, "gate_opening_m": 0.2,
                "gate_moving": False, "gate_fault": False, "control_mode": "remote", "pumps_running": 0,
            }  # fmt: skip
            self.memory = Memory()
            self.firmware = Firmware("river_sluice", self.fields, self.memory)
            self.executed: list[str] = []
            self.executed_seqs: list[int] = []
            self.halted: set[UUID] = set()  # asked for, and not sent yet, when somebody asked for a halt
            self.first_answer_at: dict[str, str] = {}
            self.openings_told: list[tuple[str, float]] = []  # by the station's clock
            self.said: dict[str, str] = {}  # the station's last word on each command
            self.told = Told()
            self.locks: list[UUID] = []
            self.lock_ids: list[UUID] = []
            self.commands: dict[UUID, str] = {}  # id: name
            self.asked_by: dict[UUID, CommandActor] = {}
            self.approved_by: dict[UUID, CommandActor] = {}
            self.cancelled: set[UUID] = set()
            self.ended: dict[UUID, CommandState] = {}
            self.carried: list[dict[str, Any]] = []  # every command the network ever carried
            self.to_platform: list[tuple[str, dict[str, Any]]] = []
            self.message_ids = count(1)
            self.reached_m: set[float] = set()
            self.report()
            self.deliver_all_to_platform()

        # ---- people

        @rule(opening_m=st.sampled_from([0.0, 0.1, 0.5, 1.0, 9.0]), person=st.integers(0, 1))
        def ask_opening(self, opening_m: float, person: int) -> None:
            self.ask("set_gate_opening", {"opening_m": opening_m}, person)

        @rule(person=st.integers(0, 1))
        def ask_stop(self, person: int) -> None:
            self.ask("stop_gate", {}, person)

        def ask(self, name: str, parameters: dict[str, Any], person: int) -> None:
            waiting = {c.id for c in self.read().values() if c.state in (CommandState.REQUESTED, CommandState.APPROVED)}
            with database.transaction() as connection, suppress(CommandRefused):
                command = request_command(
                    connection, self.device, name, parameters, actor=self.people[person], reason="test", now=self.now
                )
                self.commands[command.id] = name
                self.asked_by[command.id] = self.people[person]
                totals.refused_by_platform += command.state is CommandState.REFUSED
                if name == "stop_gate" and command.state is CommandState.APPROVED:
                    self.halted |= waiting

        @rule(which=st.integers(0, 5), person=st.integers(0, 1), crashes=st.booleans())
        def approve(self, which: int, person: int, crashes: bool) -> None:
            if not (command_id := self.pick(which)):
                return
            actor = self.people[person]

            def act() -> None:
                with database.transaction() as connection:
                    approved = approve_command(connection, command_id, actor, self.now)
                    if crashes:
                        raise Rollback
                if approved.state is CommandState.APPROVED:
                    self.approved_by[command_id] = actor

            self.attempt(act)

        @rule(which=st.integers(0, 5), person=st.integers(0, 1))
        def cancel(self, which: int, person: int) -> None:
            if not (command_id := self.pick(which)):
                return

            def act() -> None:
                with database.transaction() as connection:
                    cancel_command(connection, command_id, self.people[person], "no more", self.now)
                self.cancelled.add(command_id)

            self.attempt(act)

        def pick(self, which: int) -> UUID | None:
            """One of the newest commands."""
            newest = list(self.commands)[::-1]
            return newest[which % len(newest)] if newest else None

        @staticmethod
        def attempt(act: Callable[[], None]) -> None:
            with suppress(CommandRefused):
                act()

        # ---- the platform's sender

        @rule(fate=st.sampled_from(["published", "published", "published", "dies before commit", "dies after commit"]))
        def send(self, fate: str) -> None:
            locked = bool(self.locks)
            outgoing: list[Outgoing] = []
            with database.transaction() as connection:
                outgoing = take_due(connection, self.now)
                if fate == "dies before commit":
                    raise Rollback
            if fate != "published":
                return
            for one in outgoing:
                if one.topic.split("/")[2] != self.code:
                    continue
                body = json.loads(one.payload)
                opening_m = body["parameters"].get("opening_m", 0.0)
                assert self.told.allows(body["name"], opening_m, self.now, locked=locked), (
                    f"sent against an interlock: {body['name']} {opening_m}"
                )
                assert opening_m <= 5.0
                self.carried.append(body)

        @rule(hears_all=st.booleans())
        def end(self, hears_all: bool) -> None:
            with database.transaction() as connection:
                end_silent(connection, self.now, hears_all=hears_all)

        # ---- the network

        @rule(which=st.integers(0, 20))
        def deliver_command(self, which: int) -> None:
            """Any command that was ever carried, again and again, in any order."""
            if self.carried:
                self.hand(self.carried[-1 - which % len(self.carried)])

        @rule(which=st.integers(0, 20))
        def replay_under_another_id(self, which: int) -> None:
            if self.carried:
                body = self.carried[which % len(self.carried)]
                forged = body | {"id": f"forged-{next(self.message_ids)}", "seq": body["seq"] + 1000}
                known = body["nonce"] in self.memory.nonces
                before = len(self.firmware.executed)
                if known:
                    self.hand(forged)
                    assert len(self.firmware.executed) == before, "a nonce was good twice"

        @rule(which=st.integers(0, 5), result=st.sampled_from(["accepted", "done", "refused", "failed"]))
        def forge_answer(self, which: int, result: str) -> None:
            """Somebody who does not know the nonce."""
            if command_id := self.pick(which):
                before = self.read()[command_id]
                body = {"command_id": str(command_id), "nonce": "0" * 32, "result": result}
                payload = json.dumps(self.envelope() | body).encode()
                raw = Raw(f"gridwarden/river_sluice/{self.code}/reply", payload, len(payload), self.now)
                take_batch(database, [raw], self.now, IngestSettings(), "Asia/Shanghai")
                self.told.heard_at = self.now
                after = self.read()[command_id]
                assert after.answered_at == before.answered_at, "a forged answer was taken"
                ok = before.state is after.state or after.state is CommandState.VERIFIED
                assert ok, "a forged answer moved a command"

        def hand(self, body: dict[str, Any]) -> None:
            local, before = self.firmware.local, len(self.firmware.executed)
            known = self.said.get(body["id"])
            answers = self.firmware.take(body, self.now)
            if known is not None:
                assert [answer.result for answer in answers] == [known], "a repeat was answered otherwise"
            for answer in answers:
                self.reply(answer)
                totals.refused_by_device += answer.result == "refused"
            if len(self.firmware.executed) > before:
                self.executed.append(body["id"])
                totals.executed += 1
                self.check_execution(body, local)

        def check_execution(self, body: dict[str, Any], local: bool) -> None:
            command_id = UUID(body["id"])
            assert self.executed.count(body["id"]) == 1, "executed twice"
            self.executed_seqs.append(body["seq"])
            assert self.executed_seqs == sorted(set(self.executed_seqs)), "an earlier command came after a later one"
            assert self.now <= datetime.fromisoformat(body["expires_at"]), "executed after its end"
            assert command_id not in self.cancelled, "executed although it was cancelled"
            if body["name"] != "stop_gate":
                assert command_id not in self.halted, "moved by what was asked for before a halt"
            if body["name"] == "set_gate_opening":
                assert not local, "moved against the local switch"
                approver = self.approved_by.get(command_id)
                assert approver is not None and approver != self.asked_by[command_id], "one person alone moved the gate"

        @rule(which=st.integers(0, 10), fate=st.sampled_from(["taken", "taken", "taken twice", "lost"]))
        def deliver_message(self, which: int, fate: str) -> None:
            if not self.to_platform:
                return
            topic, body = self.to_platform.pop(which % len(self.to_platform))
            if fate == "lost":
                if topic == "reply":
                    self.to_platform.append((topic, body))  # repeated until the receipt
                return
            self.tell(topic, body)
            if fate == "taken twice":
                self.tell(topic, body)

        @rule()
        def deliver_all_to_platform(self) -> None:
            waiting, self.to_platform = self.to_platform, []
            for topic, body in waiting:
                self.tell(topic, body)

        def tell(self, topic: str, body: dict[str, Any]) -> None:
            payload = json.dumps(body).encode()
            raw = Raw(f"gridwarden/river_sluice/{self.code}/{topic}", payload, len(payload), self.now)
            outcome = take_batch(database, [raw], self.now, IngestSettings(), "Asia/Shanghai")
            assert outcome.dead == 0
            if outcome.taken:
                self.told.take(body, self.now)
                if "gate_opening_m" in body:
                    self.openings_told.append((body["at"], body["gate_opening_m"]))

        # ---- the station

        @rule()
        def report(self) -> None:
            self.to_platform.append(("telemetry", self.envelope() | self.fields))

        @rule()
        def report_at_once(self) -> None:
            self.report()
            self.deliver_all_to_platform()

        def reply(self, answer: Any) -> None:
            self.said[answer.command_id] = answer.result
            self.first_answer_at.setdefault(answer.command_id, write_instant(self.now))
            body = {"command_id": answer.command_id, "nonce": answer.nonce, "result": answer.result}
            self.to_platform.append(("reply", self.envelope() | body | {"detail": answer.detail}))

        def envelope(self) -> dict[str, Any]:
            return {"v": 1, "id": f"m-{next(self.message_ids)}", "at": write_instant(self.now)}

        @rule(elapsed_s=st.sampled_from([0.5, 2.0, 10.0]))
        def move(self, elapsed_s: float) -> None:
            before_m, local, stuck = self.fields["gate_opening_m"], self.firmware.local, self.firmware.stuck
            moving = self.firmware.is_moving
            self.now += timedelta(seconds=elapsed_s)
            for answer in self.firmware.advance(elapsed_s):
                self.reply(answer)
            if local or stuck or not moving:
                assert self.fields["gate_opening_m"] == before_m, "moved by itself"

        @rule(local=st.booleans())
        def turn_switch(self, local: bool) -> None:
            self.firmware.set_local(local)

        @rule(stuck=st.booleans())
        def stick(self, stuck: bool) -> None:
            self.firmware.stuck = stuck

        @rule()
        def restart_station(self) -> None:
            old = self.firmware
            self.firmware = Firmware("river_sluice", self.fields, self.memory)
            self.firmware.local, self.firmware.stuck = old.local, old.stuck
            for answer in self.firmware.restart():
                self.reply(answer)

        # ---- the world

        @rule(upstream_m=st.sampled_from([1.2, 1.4, 3.5]))
        def change_water(self, upstream_m: float) -> None:
            self.fields["upstream_level_m"] = upstream_m

        @rule()
        def lock(self) -> None:
            with database.transaction() as connection:
                self.locks.append(add_lock(connection, self.device, self.people[0], "检修", self.now).id)

        @rule()
        def unlock(self) -> None:
            if self.locks:
                with database.transaction() as connection:
                    lock_id = self.locks.pop()
                    release_lock(connection, self.device, lock_id, self.people[0], self.now, anybodys=False)

        @rule(seconds=st.sampled_from([1.0, 1.0, 5.0, 31.0, 130.0, 700.0]))
        def let_time_pass(self, seconds: float) -> None:
            self.now += timedelta(seconds=seconds)

        @rule(opening_m=st.sampled_from([0.1, 0.5, 1.0]))
        def agree(self, opening_m: float) -> None:
            """Two people of one mind, and fresh readings, so that something is sent at all."""
            self.report_at_once()
            self.ask("set_gate_opening", {"opening_m": opening_m}, 0)
            self.approve(0, 1, False)

        @rule(opening_m=st.sampled_from([0.1, 0.5, 1.0]))
        def agree_and_send(self, opening_m: float) -> None:
            self.agree(opening_m)
            self.send("published")
            self.deliver_command(0)

        @rule(
            opening_m=st.sampled_from([0.1, 0.5, 1.0]),
            trouble=st.sampled_from(TROUBLES),
        )
        def agree_and_meet_trouble(self, opening_m: float, trouble: str) -> None:
            """Sent in order, and then: a halt overtakes it, somebody turns the switch, or the network sleeps."""
            before = len(self.carried)
            self.agree(self.fields["gate_opening_m"] if trouble == "early" else opening_m)
            if trouble == "halted":
                self.ask("stop_gate", {}, 1)
            self.send("published")
            if trouble == "halted":
                self.deliver_command(1)
                self.deliver_command(0)
            if len(self.carried) == before:
                return
            if trouble == "overtaken":
                self.ask("stop_gate", {}, 1)
                self.send("published")
                self.deliver_command(0)
                self.deliver_command(1)
            elif trouble == "switched":
                self.turn_switch(True)
                self.deliver_command(0)
                self.turn_switch(False)
            elif trouble == "lost":  # and sent again, with the water risen meanwhile
                self.let_time_pass(2.0)
                self.change_water(3.5)
                self.report_at_once()
                self.send("published")
            elif trouble == "early":  # accepted; what is known of the gate is from before
                self.let_time_pass(5.0)
                self.deliver_command(0)
                self.deliver_all_to_platform()
            elif trouble == "locked":  # and lost, and sent again
                self.let_time_pass(2.0)
                self.lock()
                self.send("published")
            else:
                self.let_time_pass(31.0)
                self.deliver_command(0)

        @rule()
        def settle(self) -> None:
            """All is well for a while."""
            self.firmware.stuck = False
            self.firmware.set_local(False)
            while self.locks:
                self.unlock()
            self.fields["upstream_level_m"] = 1.4
            self.send("published")
            self.deliver_command(0)
            self.move(10.0)
            self.report_at_once()

        # ---- what must hold

        @invariant()
        def ends_are_final(self) -> None:
            if not getattr(self, "commands", None):
                return
            for command in self.read().values():
                if command.id in self.ended:
                    assert command.state is self.ended[command.id], "an ended command changed"
                elif command.state not in OPEN_STATES:
                    self.ended[command.id] = command.state
                    self.check_end(command)

        def check_end(self, command: Command) -> None:
            if command.state is CommandState.VERIFIED:
                totals.verified += 1
                assert str(command.id) in self.executed, "verified and never executed"
                if command.name == "set_gate_opening":
                    since, target_m = self.first_answer_at[str(command.id)], command.parameters["opening_m"]
                    seen = [m for at, m in self.openings_told if at >= since and abs(m - target_m) <= 0.021]
                    assert seen, "verified by a reading from before"
            if command.state is CommandState.CANCELLED:
                assert str(command.id) not in self.executed

        def read(self) -> dict[UUID, Command]:
            with database.transaction() as connection:
                return read_commands(connection, self.commands)

        def teardown(self) -> None:
            """Whatever happened: afterwards every command comes to its end."""
            if not getattr(self, "commands", None):
                return
            self.now += timedelta(hours=1)
            with database.transaction() as connection:
                end_silent(connection, self.now, hears_all=False)
            hanging = [c for c in self.read().values() if c.state in OPEN_STATES]
            assert hanging == [], "a command hangs"
            seqs = [command.seq for command in self.read().values() if command.seq is not None]
            assert len(seqs) == len(set(seqs))

    return Gate


@pytest.mark.slow
@pytest.mark.timeout(600)  # a failure is shrunk, which takes minutes
def test_nothing_moves_the_gate_against_an_interlock_alone_late_or_twice(database: Database) -> None:
    totals = Totals()
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        make_machine(database, totals),
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
    assert totals.executed > 10 and totals.verified > 0, totals
    assert totals.refused_by_platform > 0 and totals.refused_by_device > 0, totals


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_trouble_that_is_known_by_itself(database: Database, trouble: str) -> None:
    """What chance may leave out of the sequences above."""
    totals = Totals()
    gate: Any = make_machine(database, totals)()
    gate.begin()
    gate.agree_and_meet_trouble(0.5, trouble)
    gate.ends_are_final()
    gate.settle()
    gate.ends_are_final()
    gate.agree_and_send(0.1)
    gate.settle()
    gate.ends_are_final()
    assert totals.executed > 0, "afterwards it moves again"
    gate.teardown()
