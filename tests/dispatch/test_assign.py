"""Who goes: the choice for one incident and the plan for all of them."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from dispatch.assign import Considered, plan
from dispatch.cost import Bar, Means, Task, Worker
from kernel.settings import AssignmentSettings

LON, LAT = 120.17, 30.28
NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
POLICY = AssignmentSettings()
MANY_TASKS = POLICY.busy_from


def person(
    number: int,
    *,
    away_m: float | None = 100.0,
    age_s: float | None = 10.0,
    tasks: int = 0,
    grid: str | None = "G1",
    on_duty: bool = True,
    **more: Any,
) -> Worker:
    return Worker(
        user_id=UUID(int=number), name=f"p{number}", on_duty=on_duty, responsibility_grid_code=grid,
        lon=None if away_m is None else LON, lat=None if away_m is None else LAT + away_m / 111_195,
        position_age_s=age_s if away_m is not None else None, open_tasks=tasks, **more,
    )  # fmt: skip


def task(number: int = 1, *, north_m: float = 0.0, grid: str | None = "G1", **more: Any) -> Task:
    return Task(id=UUID(int=number), lon=LON, lat=LAT + north_m / 111_195, grid_code=grid, **more)


def pick(*people: Worker, grid: str | None = "G1", refused: Sequence[int] = ()) -> list[Considered]:
    asked = frozenset(UUID(int=number) for number in refused)
    return plan([task(grid=grid, refused=asked)], people, POLICY, NOW, position_max_age_s=600).explain(0)


def codes(*people: Worker, grid: str | None = "G1") -> dict[str, tuple[str, ...]]:
    return {one.worker.name: one.codes for one in pick(*people, grid=grid)}


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
    assert pick(person(1, away_m=100, tasks=1), person(2, away_m=650))[0].worker.name == "p1"


def test_somebody_with_many_tasks_comes_after_another_grid() -> None:
    found = codes(person(1, away_m=10, tasks=MANY_TASKS), person(2, away_m=2000, grid="G2"))
    assert found == {"p2": ("fewest_tasks",), "p1": ("too_many_tasks",)}


def test_a_stale_position_comes_after_a_fresh_one_however_near() -> None:
    found = codes(person(1, away_m=5, age_s=601), person(2, away_m=3000, age_s=600), person(3, away_m=None))
    assert found == {"p2": ("own_grid", "nearest"), "p1": ("stale_position",), "p3": ("stale_position",)}


def test_who_is_off_duty_or_refused_is_never_chosen_and_the_reason_says_so() -> None:
    found = pick(person(1, on_duty=False), person(2), person(3, on_duty=False), refused=[2, 3])
    assert not any(one.chosen for one in found)
    assert {one.worker.name: one.codes for one in found} == {
        "p2": ("refused_before",), "p1": ("off_duty",), "p3": ("off_duty", "refused_before"),
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
)


@trying(max_examples=50)
@given(st.lists(_people, max_size=12, unique_by=lambda p: p.user_id), st.randoms())
def test_the_choice_is_the_first_depends_on_no_order_and_everybody_has_a_reason(people: list[Worker], random) -> None:
    found = pick(*people)
    able = [p for p in people if p.on_duty]
    assert [one.chosen for one in found] == [bool(able) and k == 0 for k in range(len(found))]
    assert all(one.codes for one in found)
    random.shuffle(people)
    assert pick(*people) == found


# ------------------------------------------------------------------------------------------------ all tasks together


def sent(tasks: Sequence[Task], *people: Worker, cover: dict[str, int] | None = None, **policy: Any) -> dict[str, str]:
    """Who goes where: "t1" → "p2"; several at one task in the order of their names."""
    weights = POLICY.model_copy(update=policy)
    found = plan(tasks, people, weights, NOW, position_max_age_s=600, cover=cover)
    goes = sorted((found.tasks[row].id.int, found.people[column].name) for row, column in found.pairs)
    return {f"t{k}": "+".join(name for n, name in goes if n == k) for k, _ in goes}


def why(tasks: Sequence[Task], *people: Worker, cover: dict[str, int] | None = None) -> dict[str, tuple[str, ...]]:
    """The codes for the first task."""
    found = plan(tasks, people, POLICY, NOW, position_max_age_s=600, cover=cover).explain(0)
    return {one.worker.name: one.codes for one in found}


def test_the_nearest_is_left_to_the_task_that_needs_them_more() -> None:
    # One by one t1 would take p1 (50 m) and leave p2 (100 m on the other side) 1,100 m to t2: together it is 950 + 100 m.
    assert sent([task(1), task(2, north_m=1000)], person(1, away_m=50), person(2, away_m=-100)) == {
        "t1": "p2",
        "t2": "p1",
    }
    tasks = [task(1), task(2, north_m=150, refused=frozenset({UUID(int=2)}))]
    assert sent(tasks, person(1, away_m=10), person(2, away_m=300)) == {"t1": "p2", "t2": "p1"}
    assert why(tasks, person(1, away_m=10), person(2, away_m=300))["p1"] == ("needed_elsewhere",)


def test_what_is_severe_comes_first_and_the_rest_follows_in_the_next_round() -> None:
    tasks = [task(1, severity=4), task(2, severity=1, north_m=3000)]
    assert sent(tasks, person(1), full_at=1) == {"t2": "p1"}
    assert sent(tasks, person(1)) == {"t1": "p1", "t2": "p1"}


def test_several_people_for_one_task_are_different_people() -> None:
    assert sent([task(people=2)], person(1), person(2), person(3, away_m=900)) == {"t1": "p1+p2"}
    assert sent([task(people=3)], person(1)) == {"t1": "p1"}


def test_who_cannot_go_says_why() -> None:
    people = (
        person(1, away_m=800),
        person(2, skills=frozenset()),
        person(3, equipment=frozenset()),
        person(4, on_break=True),
        person(5, rest_until=NOW + timedelta(seconds=1)),
        person(6, away_m=20_000),
        person(7, tasks=10),
    )
    able = replace(people[0], skills={"electrics"}, equipment={"ladder"})
    rest = [replace(one, skills={"electrics"}) for one in people[2:]]
    rest = [rest[0], *(replace(one, equipment={"ladder"}) for one in rest[1:])]
    needs = task(skills=frozenset({"electrics"}), equipment=frozenset({"ladder"}))
    assert why([needs], able, replace(people[1], equipment={"ladder"}), *rest) == {
        "p1": ("own_grid", "only_one", "able"), "p2": ("skill",), "p3": ("equipment",), "p4": ("on_break",),
        "p5": ("resting",), "p6": ("too_far",), "p7": ("overloaded",),
    }  # fmt: skip


def test_somebody_of_another_area_is_neither_sent_nor_shown() -> None:
    assert why([task(area_code="330103001001")], person(1, scope="330103002"), person(2, scope="330103001")) == {
        "p2": ("own_grid", "only_one")
    }


def test_a_community_keeps_its_cover_but_not_from_what_is_urgent() -> None:
    home = {"community_code": "330103001001"}
    people = (person(1, away_m=10, **home), person(2, away_m=20, **home), person(3, away_m=2000))
    elsewhere = [task(k, area_code="330103001002") for k in (1, 2)]
    assert sent(elsewhere, *people, cover={"330103001001": 1}) == {"t1": "p1", "t2": "p3"}
    assert sent(elsewhere, *people, cover={"330103001001": 2}, full_at=1) == {"t1": "p3"}
    assert why(elsewhere[:1], *people, cover={"330103001001": 2})["p1"] == ("cover",)
    assert sent([task(area_code="330103001001")], *people, cover={"330103001001": 2}) == {"t1": "p1"}  # stays in it
    urgent = [task(area_code="330103001002", severity=1)]
    assert sent(urgent, *people, cover={"330103001001": 2}) == {"t1": "p1"}
    three = (*people[:2], person(4, away_m=30, **home))
    both = [*urgent, task(2, area_code="330103001002")]
    assert sent(both, *three, cover={"330103001001": 2}, full_at=1) == {
        "t1": "p1"
    }  # who was called away is missing too


def test_the_rest_is_not_kept_from_what_is_urgent() -> None:
    resting = person(1, rest_until=NOW + timedelta(minutes=5))
    assert sent([task(severity=1)], resting) == {"t1": "p1"}
    assert sent([task(severity=2)], resting) == {}


def test_a_proposal_stays_while_another_is_not_much_better() -> None:
    held = task(held_by=UUID(int=1))
    assert sent([held], person(1, away_m=250), person(2, away_m=50)) == {"t1": "p1"}
    assert sent([held], person(1, away_m=950), person(2, away_m=50)) == {"t1": "p2"}
    assert why([held], person(1, away_m=250), person(2, away_m=50))["p1"] == ("own_grid", "kept")


def test_who_did_less_today_goes_when_the_way_is_the_same_and_a_car_when_it_is_far() -> None:
    assert sent([task()], person(1, done=3), person(2, done=1)) == {"t1": "p2"}
    assert why([task()], person(1, done=3), person(2, done=1))["p1"] == ("did_more",)
    assert sent([task()], person(1, away_m=1000), person(2, away_m=2500, means=Means.CAR)) == {"t1": "p2"}


@trying(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(-3000, 3000), st.integers(1, 4), st.booleans()), min_size=1, max_size=5),
    st.lists(_people, max_size=5, unique_by=lambda p: p.user_id),
    st.randoms(),
)
def test_the_plan_is_the_cheapest_of_all(wanted: list[tuple[int, int, bool]], people: list[Worker], random) -> None:
    tasks = [
        task(k + 1, north_m=at, severity=severity, grid="G1" if own else "G2")
        for k, (at, severity, own) in enumerate(wanted)
    ]
    found = plan(tasks, people, POLICY.model_copy(update={"full_at": 6}), NOW, position_max_age_s=600)
    worth = np.where(found.costs.bars == 0, found.costs.cost - [[1e6 * (5 - t.severity)] for t in found.tasks], 0.0)
    size = max(worth.shape, default=0)
    square = np.zeros((size, size))
    square[: worth.shape[0], : worth.shape[1]] = worth
    best = min(sum(square[row, column] for row, column in enumerate(order)) for order in permutations(range(size)))
    first: dict[int, int] = {}
    for row, column in found.pairs:
        first.setdefault(column, row)
    assert sum(worth[row, column] for column, row in first.items()) == pytest.approx(best, abs=1e-3)
    random.shuffle(tasks)
    random.shuffle(people)
    again = plan(tasks, people, POLICY.model_copy(update={"full_at": 6}), NOW, position_max_age_s=600)
    assert again.pairs == found.pairs


def test_every_reason_is_explained_and_has_words_in_both_languages() -> None:
    root = Path(__file__).resolve().parent.parent.parent
    source = (root / "dispatch" / "assign.py").read_text("utf-8")
    body = source[source.index("def _why(") : source.index("def plan(")]
    codes = set(re.findall(r'"([a-z_]+)"', body)) | {str(bar.name).lower() for bar in Bar} - {"out_of_area"}
    assert len(codes) >= 18
    page = (root / "docs" / "assignment.md").read_text("utf-8")
    assert [code for code in sorted(codes) if f"`{code}`" not in page] == []
    for language in ("zh", "en"):
        words = (root / "dashboard" / "web" / "src" / "i18n" / f"{language}-codes.ts").read_text("utf-8")
        assert [code for code in sorted(codes) if f"'reason.{code}'" not in words] == []
