"""Pure decisions."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from dispatch.policy import (
    check_kinds,
    clock_stands_at,
    dedup_key,
    distance_m,
    files_by_itself,
    find_severity,
    level_at,
)
from kernel.types import CheckKind, Source

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
LON, LAT = 120.17, 30.28


def test_only_a_person_checks_what_concerns_people_and_water() -> None:
    assert check_kinds(["camera", "sensor", "person"], named_person=True) == [CheckKind.PERSON]
    assert check_kinds(["camera", "person"], named_person=False) == [CheckKind.CAMERA, CheckKind.PERSON]


def test_the_public_s_reports_are_verified_first() -> None:
    by_itself = {source for source in Source if files_by_itself(source, auto_file=True)}
    assert by_itself == set(Source) - {Source.CITIZEN, Source.HOTLINE}
    assert not any(files_by_itself(source, auto_file=False) for source in Source)


def test_a_device_category_without_a_device_is_told_apart_by_the_cell() -> None:
    device = UUID(int=7)
    assert dedup_key("device", "smoke", "c1", device) == f"smoke:{device}"
    assert dedup_key("device", "smoke", "c1", None) == "smoke:c1"
    assert dedup_key("cell", "bin_overflow", "c1", device) == "bin_overflow:c1"


def test_a_known_distance_is_right() -> None:
    # Hangzhou to Shanghai, by pyproj.Geod(a=6371008.8, f=0).
    assert distance_m(120.1551, 30.2741, 121.4737, 31.2304) == pytest.approx(164_874.44, rel=1e-6)
    assert distance_m(LON, LAT, LON, LAT) == 0


@pytest.mark.parametrize(
    ("worst", "sources", "severity"),
    [(4, 0, 4), (4, 2, 4), (4, 3, 3), (4, 6, 2), (4, 60, 2), (3, 3, 2), (2, 9, 2), (1, 9, 1)],
)
def test_independent_sources_make_it_more_urgent_but_never_an_emergency(
    worst: int, sources: int, severity: int
) -> None:
    assert find_severity(worst, sources) == severity


def test_the_level_rises_with_the_share_of_the_limit_that_is_used() -> None:
    assert [level_at(share) for share in (0.0, 1.0, 1.01, 1.5, 1.51, 2.01, 99.0)] == [1, 1, 2, 2, 3, 4, 4]


def test_the_clock_stands_while_suspended_or_checked_and_at_the_end() -> None:
    later = NOW + timedelta(hours=1)
    assert clock_stands_at("on_site", None, None, None) is None
    assert clock_stands_at("on_site", None, None, NOW) == NOW
    assert clock_stands_at("handled", NOW, None, None) == NOW
    assert clock_stands_at("closed", NOW, later, None) == NOW
    assert clock_stands_at("void", None, later, None) == later
