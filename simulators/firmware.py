"""What the firmware of a commanded device does (docs/commands-to-devices.md): judges, remembers, moves, answers.

It stands apart from the network: `take` is given what came, `advance` lets time pass, and both give back the replies to
send. Its memory is what a real device keeps in flash; it is written before anything moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from devices.model import CommandType
from devices.registry import KINDS

REMEMBERED = 256
"""Ids and nonces kept. A device gets a handful of commands a day; what is older has expired long ago."""
GATE_M_S = 0.1
BARRIER_S = 0.8
STUCK_AFTER_S = 5.0
CLOSES_AFTER_S = 6.0
"""A barrier that was opened and is not held comes down by itself when nothing is under it."""
REACHED_M = 0.005


class CommandMessage(BaseModel):
    """A command as it comes; what does not fit is no command, and is not answered."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    v: int = Field(ge=1, le=1)
    id: str = Field(pattern=r"^[!-~]{1,64}$")
    seq: int = Field(ge=0, lt=2**63)
    nonce: str = Field(min_length=8, max_length=64)
    at: AwareDatetime
    expires_at: AwareDatetime
    name: str = Field(max_length=100)
    parameters: dict[str, Any] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What is said about a command."""

    command_id: str
    nonce: str
    result: str
    detail: str = ""


@dataclass(slots=True)
class Memory:
    """What survives a restart: answers by command id, nonces seen, the last number executed, what was begun."""

    answers: dict[str, Answer] = field(default_factory=dict)
    nonces: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    last_seq: int = -1
    running: str = ""


@dataclass(slots=True)
class Movement:
    """Something that takes time. `step(elapsed_s)` moves and says whether it is done."""

    command_id: str
    step: Callable[[float], bool]
    still_s: float = 0.0  # how long nothing has moved although it should


class Firmware:
    """One commanded device. `fields` are what its telemetry says, and change as it moves."""

    def __init__(self, kind: str, fields: dict[str, Any], memory: Memory | None = None) -> None:
        self.kind = kind
        self.fields = fields
        self.memory = memory or Memory()
        self.local = False  # the switch at the device
        self.stuck = False
        self.knows_time = True
        self.executed: list[str] = []  # ids in the order in which they took effect, for those who watch
        self.refused_locally = 0
        self._types: dict[str, CommandType] = {c.name: c for c in KINDS[kind].commands}
        self._movement: Movement | None = None
        self._sounding_s = 0.0
        self._closes_in_s: float | None = None

    @property
    def is_moving(self) -> bool:
        """Whether something is under way."""
        return self._movement is not None

    def set_local(self, local: bool) -> None:
        """Turn the switch at the device; what moves stops, as a contactor that falls off."""
        self.local = local
        self.fields["control_mode"] = "local" if local else "remote"

    def take(self, body: Mapping[str, Any], now: datetime) -> list[Answer]:
        """A command came; `now` is the device's clock. The answers to send."""
        try:
            command = CommandMessage.model_validate(dict(body))
        except ValidationError:
            return []
        known = self.memory.answers.get(command.id)
        if known is not None:
            # A repeat gets the first answer, under its own nonce: who made up another one learns nothing.
            return [known] if known.nonce == command.nonce else []
        refusal = self._judge(command, now)
        if refusal:
            self.refused_locally += refusal in ("local_control", "obstructed")
            return [
                self._remember(Answer(command_id=command.id, nonce=command.nonce, result="refused", detail=refusal))
            ]
        return self._execute(command)

    def _judge(self, command: CommandMessage, now: datetime) -> str:
        """Why it is not executed; '' when it is."""
        if not self.knows_time:
            return "clock_unknown"
        if now > command.expires_at:
            return "expired"
        if command.nonce in self.memory.nonces:
            return "replayed"
        if command.seq <= self.memory.last_seq:
            return "reordered"
        command_type = self._types.get(command.name)
        if command_type is None:
            return "unknown_command"
        try:
            command_type.parameters.model_validate(command.parameters)
        except ValidationError:
            return "bad_parameters"
        if self.local and not command_type.halts:
            return "local_control"
        if command.name == "close_barrier" and self.fields.get("vehicle_present"):
            return "obstructed"
        if self._movement is not None and command_type.moving:
            return "busy"
        return ""

    def _execute(self, command: CommandMessage) -> list[Answer]:
        accepted = self._remember(Answer(command_id=command.id, nonce=command.nonce, result="accepted"))
        self.memory.last_seq = command.seq
        self.memory.running = command.id
        self.executed.append(command.id)
        answers = [accepted]
        if self._types[command.name].halts:
            answers += self._halt(except_id=command.id)
        start: dict[str, Callable[[dict[str, Any]], Callable[[float], bool] | None]] = {
            "set_gate_opening": self._start_gate,
            "stop_gate": lambda _: None,
            "start_pumps": lambda p: self._set(pumps_running=p["pumps"]),
            "stop_pumps": lambda _: self._set(pumps_running=0),
            "open_barrier": lambda _: self._start_barrier("open", held=False),
            "hold_open": lambda _: self._start_barrier("open", held=True),
            "close_barrier": lambda _: self._start_barrier("closed", held=False),
            "sound": lambda p: self._sound(p["duration_s"]),
            "stop_sounding": lambda _: self._sound(0),
        }
        step = start[command.name](command.parameters)
        if step is None:
            return [*answers, self._finish(command.id, "done")]
        self._movement = Movement(command.id, step)
        return answers

    def advance(self, elapsed_s: float) -> list[Answer]:
        """Let time pass: move what moves. The answers that come of it."""
        self._advance_siren(elapsed_s)
        self._advance_barrier(elapsed_s)
        movement = self._movement
        if movement is None:
            return []
        if self.local:
            return self._end(movement, "failed", "local_control")
        if self.stuck:
            movement.still_s += elapsed_s
            return self._end(movement, "failed", "stuck") if movement.still_s >= STUCK_AFTER_S else []
        movement.still_s = 0.0
        return self._end(movement, "done", "") if movement.step(elapsed_s) else []

    def restart(self) -> list[Answer]:
        """Power off and on: only the memory remains. What was under way stands where it is and is not taken up again."""
        running, self._movement = self.memory.running, None
        if "gate_moving" in self.fields:
            self.fields["gate_moving"] = False
        if not running:
            return []
        return [self._finish(running, "failed", "restarted")]

    # ---- movements ---------------------------------------------------------------------------------------------

    def _set(self, **fields: Any) -> None:
        if not self.stuck:
            self.fields.update(fields)

    def _sound(self, duration_s: float) -> None:
        self._sounding_s = float(duration_s)
        self._set(sounding=duration_s > 0)

    def _advance_siren(self, elapsed_s: float) -> None:
        if self._sounding_s > 0:
            self._sounding_s = max(0.0, self._sounding_s - elapsed_s)
            if self._sounding_s == 0:
                self.fields["sounding"] = False

    def _advance_barrier(self, elapsed_s: float) -> None:
        if self._closes_in_s is None or self._movement is not None or self.stuck or self.local:
            return
        self._closes_in_s = max(0.0, self._closes_in_s - elapsed_s)
        if self._closes_in_s == 0.0 and not self.fields.get("vehicle_present"):
            self._closes_in_s = None
            self.fields["barrier"] = "closed"

    def _start_gate(self, parameters: dict[str, Any]) -> Callable[[float], bool]:
        target_m = float(parameters["opening_m"])
        self.fields["gate_moving"] = True

        def step(elapsed_s: float) -> bool:
            opening_m = float(self.fields.get("gate_opening_m") or 0.0)
            most_m = GATE_M_S * elapsed_s
            moved_m = opening_m + max(-most_m, min(most_m, target_m - opening_m))
            self.fields["gate_opening_m"] = round(moved_m, 4)
            if "flow_m3_s" in self.fields:
                self.fields["flow_m3_s"] = round(7.0 * moved_m, 2)
            return abs(moved_m - target_m) <= REACHED_M

        return step

    def _start_barrier(self, target: str, *, held: bool) -> Callable[[float], bool]:
        left_s = 0.0 if self.fields.get("barrier") == target else BARRIER_S
        if left_s and not self.stuck:
            self.fields["barrier"] = "moving"

        def step(elapsed_s: float) -> bool:
            nonlocal left_s
            left_s -= elapsed_s
            if left_s > 0:
                return False
            self.fields |= {"barrier": target, "barrier_held": held}
            self._closes_in_s = CLOSES_AFTER_S if target == "open" and not held else None
            return True

        return step

    def _halt(self, except_id: str) -> list[Answer]:
        movement = self._movement
        if movement is None:
            return []
        ended = self._end(movement, "failed", "halted")
        self.memory.running = except_id
        return ended

    def _end(self, movement: Movement, result: str, detail: str) -> list[Answer]:
        self._movement = None
        if "gate_moving" in self.fields:
            self.fields["gate_moving"] = False
        return [self._finish(movement.command_id, result, detail)]

    def _finish(self, command_id: str, result: str, detail: str = "") -> Answer:
        if self.memory.running == command_id:
            self.memory.running = ""
        known = self.memory.answers[command_id]
        return self._remember(Answer(command_id=command_id, nonce=known.nonce, result=result, detail=detail))

    def _remember(self, answer: Answer) -> Answer:
        self.memory.answers[answer.command_id] = answer
        if answer.nonce not in self.memory.nonces:
            self.memory.nonces.append(answer.nonce)
        while len(self.memory.answers) > REMEMBERED:
            del self.memory.answers[next(iter(self.memory.answers))]
        return answer
