"""The score recounts from the public API's own words, and names what went wrong."""

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from simulators.score import NOTHING, Expected, ScoreReport, Truth, score

BEGAN_AT = datetime(2026, 11, 20, 8, tzinfo=UTC)
CELLS = {"smoke": "330105012001001", "illegal_parking": "330105012001002", "crowding": "330105012001003"}


def after(seconds: float) -> datetime:
    return BEGAN_AT + timedelta(seconds=seconds)


def expect(category: str, **changes: Any) -> Expected:
    values = {
        "name": f"the {category}", "category": category, "cell": CELLS[category], "device": f"DEV-{category}",
        "caused_at": BEGAN_AT, "limit_s": 5.0,
    }  # fmt: skip
    return Expected(**(values | changes))


def incident(category: str, *, number: int = 1, **changes: Any) -> dict[str, Any]:
    """A closed incident as `GET /incidents/{id}` tells it."""
    value: dict[str, Any] = {
        "id": f"id-{number}", "number": f"20261120-{number:06d}", "state": "closed", "category": {"id": category},
        "cell_code": CELLS[category], "opened_at": after(6).isoformat(), "handled_at": after(30).isoformat(),
        "ended_at": after(40).isoformat(),
        "reports": [{"device": {"code": f"DEV-{category}"}, "zone": ""}],
        "assignments": [{"offered_at": after(7).isoformat(), "outcome": "accepted"}],
        "events": [
            {"action": "handle", "to_state": "handled", "actor": "worker"},
            {"action": "close", "to_state": "closed", "actor": "camera"},
        ],
        "checks": [{"verdict": "clear"}],
    }  # fmt: skip
    return value | changes


TRUTH = Truth(
    seed=7,
    events=(
        *(expect(category) for category in CELLS),
        Expected(name="a short stop", category=NOTHING, cell=CELLS["smoke"], device="CAM-02", caused_at=after(3)),
    ),
)
PERFECT = [incident(category, number=n) for n, category in enumerate(CELLS, 1)]


def count(incidents: list[dict[str, Any]]) -> ScoreReport:
    return score(TRUTH, incidents, {"id-1": after(6.5)})


def test_a_whole_score_is_ok_and_counts_everything_once() -> None:
    report = count(PERFECT)
    assert report.ok
    value = report.json()
    for key in ("expected", "opened", "right_cell", "right_category", "dispatched", "closed"):
        assert value[key] == 3, key
    assert value["false_incidents"] == value["duplicate_incidents"] == 0
    assert value["seed"] == 7
    assert value["latency_s"]["smoke"]["cause_to_incident"] == {"median": 6.0, "max": 6.0}
    assert value["latency_s"]["smoke"]["incident_to_push"] == {"median": 0.5, "max": 0.5}
    assert value["latency_s"]["smoke"]["incident_to_closed"] == {"median": 34.0, "max": 34.0}
    assert "incident_to_push" not in value["latency_s"]["crowding"]
    assert [case["incident"] for case in value["cases"]] == [i["number"] for i in PERFECT]


def test_a_disabled_rule_is_missed_by_name() -> None:
    report = count([i for i in PERFECT if i["category"]["id"] != "illegal_parking"])
    assert not report.ok
    assert report.failures == (
        "the illegal_parking: no incident (illegal_parking in 330105012001002, device DEV-illegal_parking)",
    )
    assert report.json()["opened"] == 2


def test_an_injected_duplicate_is_named_with_the_case_that_it_doubles() -> None:
    double = incident("smoke", number=9, opened_at=after(50).isoformat(), reports=[])
    report = count([*PERFECT, double])
    assert not report.ok
    assert [i["number"] for i in report.duplicate_incidents] == ["20261120-000009"]
    assert report.failures == ("20261120-000009 (smoke in 330105012001001) doubles the smoke",)
    assert report.json()["opened"] == 3


def test_swapped_cells_are_two_wrong_cells_and_no_false_incident() -> None:
    swapped = copy.deepcopy(PERFECT)
    swapped[0]["cell_code"], swapped[1]["cell_code"] = swapped[1]["cell_code"], swapped[0]["cell_code"]
    report = count(swapped)
    assert not report.ok
    assert report.right_cell == 1
    assert len(report.failures) == 2
    assert (
        "the smoke: 20261120-000001 (smoke in 330105012001002) is in cell 330105012001002, not 330105012001001"
        in report.failures
    )
    assert not report.false_incidents


def test_an_incident_that_nothing_caused_is_false_and_names_the_look_alikes_there() -> None:
    stray = incident(
        "illegal_parking", number=9, cell_code=CELLS["smoke"], reports=[{"device": {"code": "CAM-02"}, "zone": "kerb"}]
    )
    report = count([*PERFECT, stray])
    assert not report.ok
    assert report.failures == (
        "20261120-000009 (illegal_parking in 330105012001001) is false (look-alikes there: a short stop)",
    )


def test_a_voided_incident_is_false_all_the_same() -> None:
    stray = incident("crowding", number=9, state="void", cell_code="330105012001009", reports=[])
    assert len(count([*PERFECT, stray]).false_incidents) == 1


def test_a_wrong_category_on_the_right_device_is_one_fault_and_not_two() -> None:
    wrong = copy.deepcopy(PERFECT)
    wrong[1]["category"]["id"] = "fire_lane_blocked"
    report = count(wrong)
    assert report.json()["opened"] == 3
    assert report.right_category == 2
    assert [f for f in report.failures if "is no illegal_parking" in f]
    assert not report.false_incidents


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"assignments": []}, "never dispatched"),
        ({"state": "handled", "ended_at": None}, "is handled, not closed"),
        ({"state": "void"}, "is void, not closed"),
        ({"checks": [], "events": [{"action": "handle", "to_state": "handled", "actor": "w"}]}, "closed without a check"),
        ({"checks": [{"verdict": "inconclusive"}]}, "closed without a check"),
        ({"events": [{"action": "check", "to_state": "closed", "actor": "desk"}]}, "closed without being handled"),
        (
            {"checks": [], "events": [
                {"action": "handle", "to_state": "handled", "actor": "w"}, {"action": "check", "to_state": "closed", "actor": "w"},
            ]},
            "closed without a check",
        ),
    ],
)  # fmt: skip
def test_what_was_not_done_to_the_end_is_named(changes: dict[str, Any], fault: str) -> None:
    report = count([incident("smoke", number=1, **changes), *PERFECT[1:]])
    assert not report.ok
    assert len(report.failures) == 1
    assert fault in report.failures[0]
    assert report.failures[0].startswith("the smoke: ")


def test_an_incident_from_before_its_cause_is_not_its_own() -> None:
    early = incident("smoke", number=1, opened_at=after(-1).isoformat())
    report = count([early, *PERFECT[1:]])
    assert report.json()["opened"] == 2
    assert len(report.false_incidents) == 1


def test_the_first_of_two_is_the_one_and_the_second_the_double() -> None:
    later = incident("smoke", number=8, opened_at=after(60).isoformat())
    report = count([later, *PERFECT])
    assert [i["number"] for i in report.duplicate_incidents] == ["20261120-000008"]


def test_nothing_expected_is_no_success() -> None:
    assert not score(Truth(seed=1, events=()), []).ok
