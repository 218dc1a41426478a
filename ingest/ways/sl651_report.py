"""What a report of SL 651-2014 says: its elements by the identifiers of annex C, and from them our messages.

Pure. Identifiers, numbers of digits and units are those of table C.1; BCD numbers of 6.6.3.3 and table 26 (an identifier byte, a
byte with the length in its high five bits and the decimals in its low three; FF in front is a minus; all F is "no data"),
hourly groups (DRP, DRZ) of table C.1 and 6.6.4.7, uniform intervals of 6.6.4.4 with the step of note g.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from devices.model import DeviceKind, TopicKind, write_instant
from ingest.mapping import make_message_id
from ingest.ways.sl651 import EXTRA, KEEP_ALIVE, TEST, UNIFORM, Encoding, Frame

# Identifier byte -> ASCII identifier. Elements that no kind of device of ours knows are read past and not kept.
IDENTIFIERS: Mapping[int, str] = {
    0x01: "AC", 0x02: "AI", 0x03: "C", 0x05: "DT", 0x06: "ED", 0x07: "EJ", 0x08: "FL", 0x09: "GH", 0x0A: "GN", 0x0B: "GS",
    0x0C: "GT", 0x0D: "GTP", 0x0E: "H", 0x0F: "HW", 0x10: "M10", 0x11: "M20", 0x12: "M30", 0x13: "M40", 0x14: "M50",
    0x15: "M60", 0x16: "M80", 0x17: "M100", 0x18: "MST", 0x19: "NS", 0x1A: "P1", 0x1B: "P2", 0x1C: "P3", 0x1D: "P6",
    0x1E: "P12", 0x1F: "PD", 0x20: "PJ", 0x21: "PN01", 0x22: "PN05", 0x23: "PN10", 0x24: "PN30", 0x25: "PR", 0x26: "PT",
    0x27: "Q", 0x30: "QA", 0x31: "QZ", 0x32: "SW", 0x33: "UC", 0x34: "UE", 0x35: "US", 0x36: "VA", 0x37: "VJ", 0x38: "VT",
    0x39: "Z", 0x3A: "ZB", 0x3B: "ZU", 0x44: "SQ", 0x45: "ZT", 0x46: "PH", 0x47: "DO", 0x48: "COND", 0x49: "TURB",
    0x4A: "CODMN", 0x4B: "REDOX", 0x4C: "NH4N", 0x4D: "TP", 0x4E: "TN", 0x4F: "TOC",
}  # fmt: skip
_TIME, _STATION, _MANUAL, _PICTURE, _RAIN_GROUP, _STEP = 0xF0, 0xF1, 0xF2, 0xF3, 0xF4, 0x04
_LEVEL_GROUPS = range(0xF5, 0xFD)
_GROUP_OF = 12
_GROUP_STEP = timedelta(minutes=5)
_STATUS = 0x45
_GATED = frozenset("ZD")  # station classes of annex A whose level 1 is above the gate and level 2 below: 闸坝, 泵站

# Our field <- identifiers, the first that is there.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "level_m": ("Z",),
    "upstream_level_m": ("ZU",),
    "downstream_level_m": ("ZB",),
    "gate_number": ("GN",),
    "gate_opening_m": ("GH",),
    "open_holes": ("GT",),
    "pumps_running": ("NS",),
    "flow_m3_s": ("Q", "QA", "QZ"),
    "voltage_v": ("VT",),
    "status_word": ("ZT",),
    "ph": ("PH",),
    "conductivity_us_cm": ("COND",),
    "turbidity_ntu": ("TURB",),
    "ammonia_nitrogen_mg_l": ("NH4N",),
    "dissolved_oxygen_mg_l": ("DO",),
    "codmn_mg_l": ("CODMN",),
    "total_phosphorus_mg_l": ("TP",),
    "rain_today_mm": ("PJ",),
    "rain_total_mm": ("PT",),
    "rain_5min_mm": ("DRP",),
    "water_temperature_c": ("C",),
}
_COUNTS = frozenset({"gate_number", "open_holes", "pumps_running", "status_word"})


class ReportError(Exception):
    """The body of a frame contradicts the standard's layout; the text says where."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """Elements that belong to one instant. `observed_at` is the station's wall clock, without a zone."""

    station: str
    station_class: str
    observed_at: datetime
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A report: its serial number (a repeat keeps it), when it was sent, and what it says."""

    function: int
    serial: int
    sent_at: datetime | None
    observations: tuple[Observation, ...] = ()
    text: str = ""  # of a report put in by hand (SL 330's code, not taken apart)


def decode_report(frame: Frame, body: bytes) -> Report:
    """Read a whole body (packets already put together).

    Raises ReportError.
    """
    try:
        return _AsciiBody(frame, body).read() if frame.encoding is Encoding.ASCII else _HexBody(frame, body).read()
    except (ValueError, IndexError) as error:  # a date that is none, an end before its time
        raise ReportError(str(error)) from None


class _Collector:
    """Observations as they are read. An element that comes twice begins a new one at the same time (several gates)."""

    def __init__(self, frame: Frame) -> None:
        self.station, self.station_class = frame.station, ""
        self.observed_at: datetime | None = None
        self.values: dict[str, float] = {}
        self.done: list[Observation] = []

    def begin(self, observed_at: datetime | None) -> None:
        if self.values and self.observed_at is not None:
            self.done.append(
                Observation(
                    station=self.station,
                    station_class=self.station_class,
                    observed_at=self.observed_at,
                    values=self.values,
                )
            )
        self.values = {}
        self.observed_at = observed_at

    def add(self, name: str, value: float | None) -> None:
        if self.observed_at is None:
            raise ReportError(f"{name} stands before any observation time")
        if value is None:
            return
        if name in self.values:
            self.begin(self.observed_at)
        self.values[name] = value

    def add_group(self, name: str, values: Iterable[float | None], step: timedelta) -> None:
        """Values at equal intervals, the first at the observation time."""
        first = self.observed_at
        if first is None:
            raise ReportError(f"{name} stands before any observation time")
        for number, value in enumerate(values):
            if value is not None:
                self.done.append(
                    Observation(
                        station=self.station,
                        station_class=self.station_class,
                        observed_at=first + number * step,
                        values={name: value},
                    )
                )

    def finish(self) -> tuple[Observation, ...]:
        self.begin(None)
        return tuple(_merge(self.done))


def _merge(observations: Iterable[Observation]) -> list[Observation]:
    """Observations of one station and instant as one, where they don't say the same element twice; in order of time."""
    merged: list[Observation] = []
    for one in sorted(observations, key=lambda o: o.observed_at):
        last = merged[-1] if merged else None
        if (
            last is not None
            and (last.station, last.observed_at) == (one.station, one.observed_at)
            and not last.values.keys() & one.values.keys()
        ):
            last.values.update(one.values)
        else:
            merged.append(one)
    return merged


class _HexBody:
    def __init__(self, frame: Frame, body: bytes) -> None:
        self._frame, self._body, self._at = frame, body, 0
        self._out = _Collector(frame)

    def _take(self, count: int) -> bytes:
        data = self._body[self._at : self._at + count]
        if len(data) < count:
            raise ReportError(f"ends after {len(self._body)} bytes, inside of an element")
        self._at += count
        return data

    def read(self) -> Report:
        serial = int.from_bytes(self._take(2))
        sent_at = _read_time(self._take(6).hex()) if len(self._body) >= 8 else None
        text = ""
        while self._at < len(self._body):
            identifier, definition = self._take(2)
            if identifier == _STATION and definition == _STATION:
                self._out.begin(self._out.observed_at)
                self._out.station = self._take(5).hex().upper()
                self._out.station_class = self._take(1).decode("latin-1")
            elif identifier == _TIME and definition == _TIME:
                self._out.begin(_read_time(self._take(5).hex()))
            elif identifier in (_MANUAL, _PICTURE) and definition == identifier:
                data = self._take(len(self._body) - self._at)
                text = data.decode("gb18030", "replace") if identifier == _MANUAL else ""
            else:
                self._read_element(identifier, definition)
        observations = self._out.finish()
        return Report(
            function=self._frame.function, serial=serial, sent_at=sent_at, observations=observations, text=text
        )

    def _read_element(self, identifier: int, definition: int) -> None:
        if (
            identifier == 0xFF
        ):  # an extended identifier (table 26): the byte behind says which, and then comes the definition
            definition = self._take(1)[0]
        length, decimals = definition >> 3, definition & 0x07
        if identifier == _STEP and length == 3:
            step = _read_step(self._take(3).hex())
            if step and self._frame.function == UNIFORM:
                self._read_uniform(step)
            return
        data = self._take(length)
        if identifier == _RAIN_GROUP:
            self._out.add_group("DRP", [None if b == 0xFF else b / 10 for b in data], _GROUP_STEP)
        elif identifier in _LEVEL_GROUPS:
            group = f"DRZ{identifier - _LEVEL_GROUPS.start + 1}"
            pairs = [int.from_bytes(data[at : at + 2]) for at in range(0, len(data) - 1, 2)]
            self._out.add_group(group, [None if p == 0xFFFF else p / 100 for p in pairs], _GROUP_STEP)
        elif identifier == _STATUS:
            self._out.add("ZT", float(int.from_bytes(data)))
        elif (name := IDENTIFIERS.get(identifier)) is not None:
            self._out.add(name, _read_bcd(name, data, decimals))

    def _read_uniform(self, step: timedelta) -> None:
        identifier, definition = self._take(2)
        length, decimals = definition >> 3, definition & 0x07
        if not length:
            raise ReportError("a uniform interval without a length")
        name = IDENTIFIERS.get(identifier, f"{identifier:02X}")
        count = (len(self._body) - self._at) // length
        values = [_read_bcd(name, self._take(length), decimals) for _ in range(count)]
        self._out.add_group(name, values, step)
        self._at = len(self._body)


class _AsciiBody:
    """6.6.2: identifier, blank, value, blank …; serial number and sending time stand in front without blanks."""

    def __init__(self, frame: Frame, body: bytes) -> None:
        self._frame = frame
        self._text = body.decode("ascii", "replace")
        self._out = _Collector(frame)

    def read(self) -> Report:
        serial, sent_at = int(self._text[:4], 16), _read_time(self._text[4:16]) if len(self._text) >= 16 else None
        tokens = self._text[16:].split()
        text = ""
        while tokens:
            name = tokens.pop(0).upper()
            if name == "ST":
                self._out.begin(self._out.observed_at)
                self._out.station = tokens.pop(0).upper()
                self._out.station_class = tokens.pop(0)[:1].upper()
            elif name == "TT":
                self._out.begin(_read_time(tokens.pop(0)))
            elif name == "RGZS":
                text, tokens = " ".join(tokens), []
            elif (step := re.fullmatch(r"DR([DHN])(\d\d)", name)) is not None:
                tokens = self._read_uniform(step[1], int(step[2]), tokens)
            else:
                self._read_element(name, tokens.pop(0))
        observations = self._out.finish()
        return Report(
            function=self._frame.function, serial=serial, sent_at=sent_at, observations=observations, text=text
        )

    def _read_element(self, name: str, value: str) -> None:
        if name == "DRP":
            bytes_ = bytes.fromhex(value)
            self._out.add_group(name, [None if b == 0xFF else b / 10 for b in bytes_], _GROUP_STEP)
        elif re.fullmatch(r"DRZ[1-8]", name):
            pairs = [int(value[at : at + 4], 16) for at in range(0, len(value) - 3, 4)]
            self._out.add_group(name, [None if p == 0xFFFF else p / 100 for p in pairs], _GROUP_STEP)
        elif name == "ZT":
            self._out.add(name, float(int(value, 16)))
        else:
            self._out.add(name, _read_decimal(name, value))

    def _read_uniform(self, unit: str, count: int, tokens: list[str]) -> list[str]:
        step = {"D": timedelta(days=count), "H": timedelta(hours=count), "N": timedelta(minutes=count)}[unit]
        if not step:
            return tokens
        names: list[str] = []
        while tokens and re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", tokens[0]) and tokens[0] != "M":
            names.append(tokens.pop(0).upper())
        if not names:
            raise ReportError("a uniform interval without elements")
        for at, name in enumerate(names):
            values = [_read_decimal(name, token) for token in tokens[at :: len(names)]]
            self._out.add_group(name, values, step)
        return []


def _read_time(digits: str) -> datetime:
    """YYMMDDHHmm[SS] of this century; the two digits of a year say no more."""
    if not re.fullmatch(r"[0-9]{10}([0-9]{2})?", digits):
        raise ReportError(f"{digits[:20]} is no time")
    return datetime.strptime("20" + digits.ljust(12, "0"), "%Y%m%d%H%M%S")


def _read_step(digits: str) -> timedelta:
    if not digits.isdigit():
        raise ReportError(f"{digits} is no time step")
    return timedelta(days=int(digits[:2]), hours=int(digits[2:4]), minutes=int(digits[4:]))


def _read_bcd(name: str, data: bytes, decimals: int) -> float | None:
    """A BCD number; None when it says that there is none (all F; AA.. as stations in the field send it)."""
    digits = data.hex()
    if not digits or set(digits) <= {"f"} or set(digits) <= {"a"}:
        return None
    negative = data[0] == 0xFF
    digits = digits[2:] if negative else digits
    if not digits.isdigit():
        raise ReportError(f"{name}: {data.hex()} is no BCD number")
    value = float(int(digits)) / float(10**decimals)
    return -value if negative else value


def _read_decimal(name: str, text: str) -> float | None:
    if text.upper() == "M":
        return None
    if not re.fullmatch(r"[+-]?\d{1,15}(\.\d{1,9})?", text):
        raise ReportError(f"{name}: {text[:20]!r} is no number")
    return float(text)


def find_fields(observation: Observation, level_base_m: float) -> dict[str, float | int]:
    """An observation in our fields. Relative levels of hourly groups (6.6.4.7) are added to the station's base."""
    values = dict(observation.values)
    gated = observation.station_class.upper() in _GATED
    for group, name in (("DRZ1", "ZU" if gated else "Z"), ("DRZ2", "ZB")):
        if group in values:
            values.setdefault(name, round(level_base_m + values[group], 3))
    fields: dict[str, float | int] = {}
    for target, names in FIELDS.items():
        value = next((values[name] for name in names if name in values), None)
        if value is not None:
            fields[target] = int(value) if target in _COUNTS else value
    return fields


@dataclass(frozen=True, kw_only=True, slots=True)
class StationMessage:
    """One of our messages made from a report."""

    topic_kind: TopicKind
    payload: dict[str, Any]


def make_messages(report: Report, kind: DeviceKind, zone: ZoneInfo, level_base_m: float = 0.0) -> list[StationMessage]:
    """Our messages, one for each instant: an extra report (33H) is an event, all others telemetry, a test (30H) a test.

    The id comes from serial number, instant and content: the repeat of a report is the same message.
    """
    if report.function == KEEP_ALIVE:
        return []
    topic_kind = TopicKind.EVENT if report.function == EXTRA else TopicKind.TELEMETRY
    known = kind.payloads[topic_kind].model_fields
    messages: list[StationMessage] = []
    for one in report.observations:
        fields = {name: value for name, value in find_fields(one, level_base_m).items() if name in known}
        if not fields:
            continue
        at = write_instant(one.observed_at.replace(tzinfo=zone))
        said = sorted(f"{name}={value}" for name, value in fields.items())
        body: dict[str, Any] = {
            "v": 1,
            "id": make_message_id("sl651", one.station, f"{report.function:02X}", str(report.serial), at, *said),
            "seq": report.serial,
            "at": at,
            **fields,
        }
        if report.function == TEST:
            body["test"] = True
        messages.append(StationMessage(topic_kind=topic_kind, payload=body))
    return messages
