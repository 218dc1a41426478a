"""Words that every package shares: enumerations whose values are the database's and the JSON's, and positions."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a person may do. A person may hold several."""

    OPERATOR = "operator"  # 值班长/受理员/派遣员 at the wall
    GRID_WORKER = "grid_worker"  # 网格员
    HANDLING_DEPT = "handling_dept"  # 专业部门
    ENGINEER = "engineer"
    ADMIN = "admin"
    UNMASK = "unmask"  # besides another role: may open pictures without their masks, each time with a reason


class Source(StrEnum):
    """Who said it: the one intake takes them all."""

    DEVICE = "device"
    CAMERA = "camera"
    OPERATOR = "operator"
    GRID_WORKER = "grid_worker"
    CITIZEN = "citizen"
    HOTLINE = "hotline"
    SYSTEM = "system"


class IncidentState(StrEnum):
    """Where a case (案件) stands; the allowed changes are dispatch.transition.TRANSITIONS."""

    REPORTED = "reported"  # 上报, waits for an operator's filing
    FILED = "filed"  # 立案, waits for somebody to go
    DISPATCHED = "dispatched"  # 派遣, offered to a person who has not answered
    ACCEPTED = "accepted"  # 接单
    ON_SITE = "on_site"  # 到场
    HANDLED = "handled"  # 处置完成, waits for the closure check
    CLOSED = "closed"  # 结案
    VOID = "void"  # 作废


OPEN_STATES = tuple(s for s in IncidentState if s not in (IncidentState.CLOSED, IncidentState.VOID))


class Light(StrEnum):
    """Share of the time limit that is used: green to 80 %, amber to 100 %, red beyond (DOMAIN: lights)."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"


class CheckKind(StrEnum):
    """Who may look again before a case is closed."""

    CAMERA = "camera"
    SENSOR = "sensor"
    PERSON = "person"
    REPORTER = "reporter"  # whoever said it may say that it is put right


class Verdict(StrEnum):
    """Answer of a closure check. `inconclusive` never closes anything."""

    CLEAR = "clear"
    NOT_CLEAR = "not_clear"
    INCONCLUSIVE = "inconclusive"


class LimitUnit(StrEnum):
    """Units of time limits (GB/T 30428.8); urgent hours and days run continuously."""

    URGENT_HOUR = "urgent_hour"
    WORK_HOUR = "work_hour"
    WORKDAY = "workday"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class LonLat:
    """A position in degrees, CGCS2000 (EPSG:4490), which is within centimetres of WGS 84."""

    lon: float
    lat: float
