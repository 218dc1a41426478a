"""Pure decisions: what is one incident, how urgent it is, how its light stands. What may be done: dispatch/transition.py."""

import math
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from kernel.types import CheckKind, Source

ESCALATE_AT = (1.0, 1.5, 2.0)  # of the limit: to L2, L3, L4 (the project's own values)
SOURCES_PER_LEVEL = 3  # so many independent sources make an incident one level more urgent: the project's own value
_MOST_BY_SOURCES = 2  # 1 is for what endangers people, whoever says it
_EARTH_RADIUS_M = 6_371_008.8
_SAME_OVERLAP, _SAME_COVER = 0.33, 0.7  # of two boxes at one place of a picture: the project's own values


def files_by_itself(source: Source, auto_file: bool) -> bool:
    """Whether a report is filed without an operator: verification comes first for the public's reports (DOMAIN)."""
    return auto_file and source not in (Source.CITIZEN, Source.HOTLINE)


def dedup_key(dedup: str, category: str, cell_code: str, device_id: UUID | None) -> str:
    """What makes two reports one incident: the same category in the same cell, or of the same device."""
    if dedup == "device" and device_id is not None:
        return f"{category}:{device_id}"
    return f"{category}:{cell_code}"


def same_place(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two boxes of one camera's picture (x1, y1, x2, y2) lie at the same place: a third of them is common, or
    most of the smaller one lies in the other."""
    left, top = max(first[0], second[0]), max(first[1], second[1])
    right, bottom = min(first[2], second[2]), min(first[3], second[3])
    common = max(0.0, right - left) * max(0.0, bottom - top)
    sizes = [max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (first, second)]
    if not min(sizes):
        return False
    return common / (sum(sizes) - common) >= _SAME_OVERLAP or common / min(sizes) >= _SAME_COVER


def find_severity(worst: int, sources: int) -> int:
    """How urgent an incident is: the worst that any report said, one level more for every SOURCES_PER_LEVEL independent
    sources (devices, people, channels), which make it 2 at most. 1 is the most urgent."""
    return min(worst, max(_MOST_BY_SOURCES, worst - sources // SOURCES_PER_LEVEL))


def level_at(share_used: float) -> int:
    """The level, 1 to 4, that an incident has reached by the share of its limit that is used."""
    return 1 + sum(share_used > share for share in ESCALATE_AT)


def clock_stands_at(
    state: str, handled_at: datetime | None, ended_at: datetime | None, suspended_at: datetime | None
) -> datetime | None:
    """The instant at which the limit's clock stopped; None while it runs. The limit is one for handling: its clock stands
    while the check is awaited, while the incident is suspended, and for ever at the end."""
    if state in ("handled", "closed", "void"):
        return handled_at or ended_at
    return suspended_at


def check_kinds(kinds: Sequence[str], named_person: bool) -> list[CheckKind]:
    """Who may check the closure, in order. About people and water only a person (a sensor's recovery closes nothing)."""
    if named_person:
        return [CheckKind.PERSON]
    return [CheckKind(kind) for kind in kinds]


def distance_m(lon: float, lat: float, to_lon: float, to_lat: float) -> float:
    """Great-circle distance of two positions in degrees (haversine on the mean sphere, R = 6 371 008.8 m, IUGG)."""
    phi, to_phi = math.radians(lat), math.radians(to_lat)
    half = math.sin((to_phi - phi) / 2) ** 2
    half += math.cos(phi) * math.cos(to_phi) * math.sin(math.radians(to_lon - lon) / 2) ** 2
    return 2 * _EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half)))
