"""What-if: the same world under two policies, and a span read from the database."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from dispatch.comparison import count_figures, gini, write_picture
from dispatch.cost import Means, Task, Worker
from dispatch.history import read_cases, read_habits, read_staff
from dispatch.model import Action
from dispatch.scenario import make_cases, make_staff
from dispatch.whatif import Case, Habits, Staff, simulate
from kernel.settings import AssignmentSettings
from tests.dispatch.build import START, City, cell_centre

POLICY = AssignmentSettings()
CALM = Habits(refused=0.0, silent=0.0, answer_s=0.001)
LON, LAT = 120.17, 30.28
END = START + timedelta(hours=24)


def case(number: int, *, after_s: float = 0, north_m: float = 0, limit_s: float = 3600, work_s: float = 600) -> Case:
    filed_at = START + timedelta(seconds=after_s)
    task = Task(id=UUID(int=number), lon=LON, lat=LAT + north_m / 111_195, grid_code="G1")
    return Case(task=task, filed_at=filed_at, due_at=filed_at + timedelta(seconds=limit_s), work_s=work_s)


def somebody(number: int, *, north_m: float = 0, hours: float = 24, grid: str = "G1") -> Staff:
    worker = Worker(
        user_id=UUID(int=number), name=f"p{number}", on_duty=True, lon=LON, lat=LAT + north_m / 111_195,
        responsibility_grid_code=grid, means=Means.FOOT,
    )  # fmt: skip
    return Staff(worker=worker, shifts=((START, START + timedelta(hours=hours)),))


def test_one_walks_to_one_incident_as_long_as_the_way_takes() -> None:
    run = simulate([case(1, north_m=120)], [somebody(7)], POLICY, CALM, END)
    (fate,) = run.fates
    assert fate.arrived_at and fate.handled_at
    # Planned at the next tick of 5 s, then 120 m × 1.3 at 1.2 m/s.
    assert (fate.arrived_at - START).total_seconds() == pytest.approx(5 + 130, abs=1)
    assert fate.handled_at - fate.arrived_at == timedelta(seconds=600)
    assert run.way_m[UUID(int=7)] == pytest.approx(156, abs=0.5)
    assert run.done == {UUID(int=7): 1}


def test_a_refusal_and_a_dead_phone_go_to_the_next_and_a_shift_s_end_gives_the_rest_to_another() -> None:
    dead = replace(somebody(1), dead=((START, END),))
    run = simulate([case(1)], [dead, somebody(2, north_m=500)], POLICY, CALM, END)
    # A dead phone's position is old, so the other is nearer by what is known.
    assert [fate.user_id for fate in run.fates] == [UUID(int=2)]
    run = simulate([case(1)], [dead], POLICY, CALM, START + timedelta(minutes=1))
    assert [(fate.offers, fate.accepted_at) for fate in run.fates] == [(1, None)]
    queue = [case(k, work_s=1800) for k in (1, 2)]
    run = simulate(queue, [somebody(1, hours=0.25), somebody(2, hours=24, grid="G9", north_m=5000)], POLICY, CALM, END)
    assert {fate.user_id for fate in run.fates} == {UUID(int=1), UUID(int=2)}
    assert all(fate.handled_at for fate in run.fates)
    nobody = Habits(refused=1.0, silent=0.0, answer_s=1.0, max_offers=1)
    run = simulate([case(1)], [somebody(1)], POLICY, nobody, START + timedelta(minutes=30))
    assert run.fates[0].handled_at is None and run.fates[0].offers > 2  # an operator has everybody asked anew


def test_the_figures_agree_with_a_count_by_hand() -> None:
    cases = [case(1, work_s=100, limit_s=600), case(2, north_m=600, work_s=100, limit_s=600), case(3, after_s=90_000)]
    run = simulate(cases, [somebody(1)], POLICY, CALM, END)
    figures = count_figures(run, END)
    # 1: there after 5 s, done after 105. 2: 780 m on foot are 650 s, so there at 755 s, done 255 s late. 3: after the end.
    assert (figures.filed, figures.handled, figures.in_limit) == (3, 2, 0.5)
    assert figures.response_median_s == pytest.approx((5 + 755) / 2, abs=1)
    assert figures.response_p90_s == pytest.approx(755, abs=1)
    assert (figures.way_km, figures.fairness) == (pytest.approx(0.78, abs=0.001), 0)
    assert gini([0, 0, 4]) == pytest.approx(2 / 3) and gini([2, 2]) == 0 and gini([0]) is None


def test_a_day_is_the_same_again_every_case_has_one_end_and_another_policy_is_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    cases, staff = make_cases(rng, 200, START), make_staff(rng, 40, START)
    end = START + timedelta(hours=36)
    runs = {
        name: simulate(cases, staff, policy, Habits(), end)
        for name, policy in (("present", POLICY), ("open grids", POLICY.model_copy(update={"other_grid_s": 0.0})))
    }
    assert simulate(cases, staff, POLICY, Habits(), end) == runs["present"]
    for run in runs.values():
        assert sum(run.done.values()) == sum(fate.handled_at is not None for fate in run.fates) >= 195
    present, other = (count_figures(run, end) for run in runs.values())
    assert other.response_median_s and present.response_median_s
    assert other.response_median_s < present.response_median_s  # who is nearest goes, of whatever grid
    write_picture(tmp_path / "w.html", runs, end, "a <day>")
    page = (tmp_path / "w.html").read_text("utf-8")
    assert page.count("<svg") == 10 and "较好" in page and "a &lt;day&gt;" in page


def test_what_was_is_read_with_the_work_as_long_as_it_took(city: City) -> None:
    worker = city.add_person("网格员甲", at=cell_centre(1, 0))
    city.add_person("没有被派过")
    city.report()
    city.turn()
    city.act(worker, Action.ACCEPT)
    city.act(worker, Action.ARRIVE)
    city.pass_time(minutes=25)
    city.finish(worker)
    with city.database.transaction() as connection:
        span = (START - timedelta(hours=1), city.now + timedelta(hours=1))
        (found,) = read_cases(connection, *span)
        staff, rostered = read_staff(connection, *span)
        assert read_habits(connection, *span, Habits(max_offers=5)) == Habits(max_offers=5)  # one offer says nothing
        connection.execute(
            "INSERT INTO shift (id, user_id, starts_at, ends_at, breaks) VALUES (gen_random_uuid(), %s, %s, %s,"
            " tstzmultirange(tstzrange(%s, %s)))",
            (worker.user_id, START, END, START + timedelta(hours=4), START + timedelta(hours=5)),
        )
        planned, has_roster = read_staff(connection, *span)
    assert (found.work_s, found.task.area_code) == (1500, "330103001002")
    assert ([one.worker.name for one in staff], rostered) == (["网格员甲"], False)
    assert has_roster and planned[0].shifts == ((START, END),)
    assert planned[0].breaks == ((START + timedelta(hours=4), START + timedelta(hours=5)),)
