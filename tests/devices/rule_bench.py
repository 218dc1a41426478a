"""One device under data-defined rules, stepped through time; and the builder of rules."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from devices.alarms import Advance, advance_device, advance_time
from devices.model import Alarm, Device, DeviceState, Message, TopicKind
from devices.registry import KINDS
from devices.rule_type import Parent
from devices.rulebook import AlarmRule, Mode, Quiet, RuleBody, RuleBook

ZONE = "Asia/Shanghai"
NOON = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)  # 12:00 in Hangzhou


def at(seconds: float) -> datetime:
    """So many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def make_rule(type_: str, name: str = "watched", mode: Mode = Mode.LIVE, number: int = 1, **fields: Any) -> AlarmRule:
    """A rule; `parameters`, `window`, `damping`, `category`, `severity` go into its body, the rest is its scope."""
    scope = {key: fields.pop(key) for key in ("kind", "area_code", "device_id") if key in fields}
    body = RuleBody.model_validate({"type": type_, "title_zh": "规则", "title_en": "Rule", **fields})
    scoped = {"kind": "", "area_code": "", "device_id": None} | scope
    return AlarmRule(id=UUID(int=number), name=name, mode=mode, version=1, body=body, **scoped)


def make_device(kind: str = "river_sluice", code: str = "D1", **fields: Any) -> Device:
    """A device of the middle of nowhere."""
    number = int.from_bytes(code.encode()[:8], "big")
    return Device(id=UUID(int=number), code=code, kind=kind, name=code, lon=120.1, lat=30.2, **fields)


class Bench:
    """One device, its state so far and every alarm of the rules given; the kind's own run beside.

    `due_only`: time passes only when the device is due, as the sweep does it.
    """

    def __init__(
        self,
        *rules: AlarmRule,
        device: Device | None = None,
        quiets: Sequence[Quiet] = (),
        deaf: Sequence[tuple[datetime, datetime]] = (),
        due_only: bool = False,
    ) -> None:
        self.device = device or make_device()
        self.kind = KINDS[self.device.kind]
        self.book = RuleBook(tuple(rules), tuple(quiets), tuple(deaf))
        self.state = DeviceState()
        self.alarms: list[Alarm] = []
        self.last = Advance(state=self.state, alarms=[], failures=[])
        self.parent: Parent | None = None
        self.peers: dict[str, DeviceState] = {}
        self.due_only = due_only
        self._names = {rule.name for rule in rules}
        self._made = 0

    def tell(self, seconds: float, *, measured: float | None = None, event: bool = False, **fields: Any) -> list[Alarm]:
        """A message that comes at `seconds`, measured then or earlier."""
        self._made += 1
        topic = TopicKind.EVENT if event else TopicKind.TELEMETRY
        measured_at = at(seconds if measured is None else measured)
        payload = self.kind.payloads[topic].model_validate(
            {"v": 1, "id": f"m{self._made}", "at": measured_at, **fields}
        )
        message = Message(
            topic_kind=topic, id=payload.id, seq=None, measured_at=measured_at, received_at=at(seconds), payload=payload
        )
        return self._keep(advance_device(self.kind, self.device, self.state, [message], at(seconds), ZONE, self.book))

    def wait(self, seconds: float) -> list[Alarm]:
        """Time passes until `seconds`."""
        now = at(seconds)
        if self.due_only and (self.state.due_at is None or self.state.due_at > now):
            return []
        return self._keep(
            advance_time(self.kind, self.device, self.state, now, ZONE, self.book, peers=self.peers, parent=self.parent)
        )

    def _keep(self, advance: Advance) -> list[Alarm]:
        assert not advance.failures, advance.failures
        self.last = advance
        self.state = advance.state
        alarms = [alarm for alarm in advance.alarms if alarm.rule in self._names]
        self.alarms += alarms
        return alarms


def told(alarms: Sequence[Alarm]) -> list[tuple[str, bool]]:
    """Rule and whether it was raised."""
    return [(alarm.rule, alarm.raised) for alarm in alarms]


def level(limit: float = 2.0, **parameters: Any) -> dict[str, Any]:
    """Parameters of a threshold on the river's level."""
    return {"metric": "level_m", "limit": limit, **parameters}
