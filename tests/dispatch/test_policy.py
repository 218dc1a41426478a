"""Pure decisions: the table, the light, who goes."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.model import Action, Candidate, Considered, Who
from dispatch.policy import (
    MANY_TASKS,
    TRANSITIONS,
    check_kinds,
    choose,
    dedup_key,
    distance_m,
    files_by_itself,
    find_transitions,
    light,
)
from kernel.types import CheckKind, IncidentState, Light, Source

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
LON, LAT = 120.17, 30.28


def person(
    number: int,
    *,
    away_m: float | None = 100.0,
    age_s: float | None = 10.0,
    tasks: int = 0,
    grid: str | None = "G1",
    on_duty: bool = True,
    refused: bool = False,
) -> Candidate:
    return Candidate(
        user_id=UUID(int=number), name=f"p{number}", on_duty=on_duty, responsibility_grid_code=grid,
        lon=None if away_m is None else LON, lat=None if away_m is None else LAT + away_m / 111_195,
        position_age_s=age_s if away_m is not None else None, open_tasks=tasks, refused_before=refused,
    )  # fmt: skip


def pick(*people: Candidate, grid: str | None = "G1") -> list[Considered]:
    return choose(people, grid_code=grid, lon=LON, lat=LAT, position_max_age_s=600)


def codes(*people: Candidate, grid: str | None = "G1") -> dict[str, tuple[str, ...]]:
    return {one.candidate.name: one.codes for one in pick(*people, grid=grid)}


def test_nothing_leads_out_of_an_ended_incident_but_what_a_camera_sees_coming_back() -> None:
    out = [line for line in TRANSITIONS if line.states & {IncidentState.CLOSED, IncidentState.VOID}]
    assert [(line.action, line.states, line.by) for line in out] == [
        (Action.REOPEN, frozenset({IncidentState.CLOSED}), frozenset({Who.SYSTEM}))
    ]


def test_every_action_has_a_line_and_in_each_state_a_verdict_or_nothing_decides_between_lines() -> None:
    assert {line.action for line in TRANSITIONS} == set(Action)
    for action in Action:
        for state in IncidentState:
            lines = find_transitions(action, state)
            if len(lines) < 2:
                continue
            assert len({line.verdict for line in lines}) == len(lines)
            assert len({line.by for line in lines}) == 1


def test_nothing_closes_but_from_handled() -> None:
    closing = [line for line in TRANSITIONS if line.to is IncidentState.CLOSED]
    assert closing
    assert all(line.states == {IncidentState.HANDLED} for line in closing)


@pytest.mark.parametrize(
    ("used", "lamp"),
    [(0.0, Light.GREEN), (0.8, Light.GREEN), (0.80001, Light.AMBER), (1.0, Light.AMBER), (1.00001, Light.RED)],
)
def test_the_light_is_green_to_80_percent_and_red_beyond_the_limit(used: float, lamp: Light) -> None:
    assert light(NOW, NOW + timedelta(hours=100), NOW + timedelta(hours=100 * used)) is lamp


def test_no_limit_no_light() -> None:
    assert light(None, None, NOW) is None


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


# ------------------------------------------------------------------------------------------------ who goes


def test_the_own_grid_comes_before_somebody_nearer() -> None:
    assert codes(person(1, away_m=900), person(2, away_m=10, grid="G2")) == {
        "p1": ("own_grid",), "p2": ("other_grid",),
    }  # fmt: skip


def test_in_the_grid_the_nearest_goes() -> None:
    assert codes(person(1, away_m=300), person(2, away_m=200)) == {
        "p2": ("own_grid", "nearest"), "p1": ("farther",),
    }  # fmt: skip


def test_nobody_of_the_grid_then_the_nearest() -> None:
    found = codes(person(1, away_m=300, grid="G3"), person(2, away_m=200, grid=None))
    assert found == {"p2": ("nearest",), "p1": ("farther",)}


def test_an_incident_in_no_responsibility_grid_is_nobody_s_own() -> None:
    assert codes(person(1, grid=None), grid=None) == {"p1": ("only_one",)}


def test_an_open_task_counts_like_half_a_kilometre() -> None:
    assert codes(person(1, away_m=100, tasks=1), person(2, away_m=550)) == {
        "p2": ("own_grid",), "p1": ("too_many_tasks",),
    }  # fmt: skip
    assert pick(person(1, away_m=100, tasks=1), person(2, away_m=650))[0].candidate.name == "p1"


def test_somebody_with_many_tasks_comes_after_another_grid() -> None:
    found = codes(person(1, away_m=10, tasks=MANY_TASKS), person(2, away_m=2000, grid="G2"))
    assert found == {"p2": ("fewest_tasks",), "p1": ("too_many_tasks",)}


def test_a_stale_position_comes_after_a_fresh_one_however_near() -> None:
    found = codes(person(1, away_m=5, age_s=601), person(2, away_m=3000, age_s=600), person(3, away_m=None))
    assert found == {"p2": ("own_grid", "nearest"), "p1": ("stale_position",), "p3": ("stale_position",)}


def test_who_is_off_duty_or_refused_is_never_chosen_and_the_reason_says_so() -> None:
    found = pick(person(1, on_duty=False), person(2, refused=True), person(3, on_duty=False, refused=True))
    assert not any(one.chosen for one in found)
    assert {one.candidate.name: one.codes for one in found} == {
        "p1": ("off_duty",), "p2": ("refused_before",), "p3": ("off_duty", "refused_before"),
    }  # fmt: skip


def test_nobody_at_all() -> None:
    assert pick() == []


_people = st.builds(
    person,
    st.integers(1, 10**6),
    away_m=st.one_of(st.none(), st.floats(0, 5000)),
    age_s=st.floats(0, 2000),
    tasks=st.integers(0, 6),
    grid=st.sampled_from(["G1", "G2", None]),
    on_duty=st.booleans(),
    refused=st.booleans(),
)


@given(st.lists(_people, max_size=12, unique_by=lambda p: p.user_id), st.randoms())
def test_the_choice_is_the_first_depends_on_no_order_and_everybody_has_a_reason(
    people: list[Candidate], random
) -> None:
    found = pick(*people)
    able = [p for p in people if p.on_duty and not p.refused_before]
    assert [one.chosen for one in found] == [bool(able) and k == 0 for k in range(len(found))]
    assert all(one.codes for one in found)
    random.shuffle(people)
    assert pick(*people) == found
