"""Alarm flood: when it begins and ends, and groups that drop nothing."""

from bisect import bisect_right
from datetime import datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.flood import Opened, find_flood_start, group, read_flood
from kernel.types import Role
from tests.dispatch.build import START, City


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def opened(number: int, cell: str = "C1", gateway: int | None = None, status: str = "ok", children: int = 3) -> Opened:
    return Opened(
        id=UUID(int=number), opened_at=at(number), is_open=True, cell_code=cell, place=f"place {number}",
        gateway_id=UUID(int=gateway) if gateway else None, gateway_name=f"G{gateway}", gateway_status=status,
        gateway_children=children,
    )  # fmt: skip


def test_the_eleventh_alarm_in_ten_minutes_is_a_flood_for_one_operator_and_not_for_two() -> None:
    ten, eleven = [at(10 * n) for n in range(10)], [at(10 * n) for n in range(11)]
    assert find_flood_start(ten, at(200), 1) is None
    assert find_flood_start(eleven, at(200), 1) == at(100)
    assert find_flood_start(eleven, at(200), 2) is None


def test_a_flood_ends_only_when_there_are_fewer_than_five_in_ten_minutes() -> None:
    ats = [at(10 * n) for n in range(11)] + [at(300 + n) for n in range(5)]
    assert find_flood_start(ats, at(890), 1) == at(100)  # five are left
    assert find_flood_start(ats, at(900), 1) is None


def test_a_second_flood_has_its_own_beginning() -> None:
    ats = [at(n) for n in range(11)] + [at(5000 + n) for n in range(12)]
    assert find_flood_start(ats, at(5100), 1) == at(5010)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2400), max_size=80).map(sorted), st.integers(1, 2))
def test_a_flood_is_what_looking_at_every_second_would_find(seconds: list[int], operators: int) -> None:
    flooded = False
    for second in range(2401):
        count = bisect_right(seconds, second) - bisect_right(seconds, second - 600)
        flooded = count > 10 * operators or (flooded and count >= 5 * operators)
    assert (find_flood_start([at(s) for s in seconds], at(2400), operators) is not None) == flooded


def test_every_incident_is_in_exactly_one_group_and_a_shared_gateway_names_its_own() -> None:
    incidents = [opened(n, cell=f"C{n % 3}", gateway=7 if n < 4 else None) for n in range(1, 12)]
    groups = group(incidents)
    assert sorted(i for g in groups for i in g.incident_ids) == sorted(i.id for i in incidents)
    assert [(g.by, g.key, len(g.incident_ids)) for g in groups if g.by == "gateway"] == [
        ("gateway", str(UUID(int=7)), 3)
    ]


def test_a_well_gateway_of_half_the_city_explains_nothing_unless_it_is_in_trouble() -> None:
    well = [opened(n, gateway=7, children=5000) for n in range(1, 4)]
    ill = [opened(n, gateway=7, children=5000, status="offline") for n in range(1, 4)]
    assert [g.by for g in group(well)] == ["cell"]
    assert [g.by for g in group(ill)] == ["gateway"]


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from([None, 7, 8])), max_size=60))
def test_nothing_is_dropped_and_nothing_is_shown_twice(places: list[tuple[str, int | None]]) -> None:
    incidents = [opened(n + 1, cell=cell, gateway=gateway) for n, (cell, gateway) in enumerate(places)]
    assert sorted(i for g in group(incidents) for i in g.incident_ids) == [i.id for i in incidents]


def test_a_flood_of_real_incidents_is_counted_by_operators_on_duty_and_grouped(city: City) -> None:
    lin = city.add_person("lin", Role.OPERATOR)
    city.add_device("G1", "gateway")
    with city.database.transaction() as connection:
        for number in range(14):
            device_id = city.add_device(f"S{number}", column=number % 4)
            if number < 6:
                connection.execute("UPDATE device SET parent_id = %s WHERE id = %s", (city.devices["G1"], device_id))
    for number in range(14):
        city.report("smoke", device=f"S{number}", column=number % 4)
    city.take()
    city.pass_time(seconds=30)
    with city.database.transaction() as connection:
        flood = read_flood(connection, city.now)
    assert (flood.active, flood.rate_per_10_min, flood.operators) == (True, 14, 1)
    assert flood.groups[0].by == "gateway" and len(flood.groups[0].incident_ids) == 6
    assert sum(len(g.incident_ids) for g in flood.groups) == 14
    city.add_person("wang", Role.OPERATOR)
    with city.database.transaction() as connection:
        assert not read_flood(connection, city.now).active
    city.set_duty(lin, False)
    city.pass_time(minutes=11)
    with city.database.transaction() as connection:
        calm = read_flood(connection, city.now)
    assert not calm.active and calm.groups == ()
