"""What stands beside the states: verification, time, oversight, summons, kin, the proof of a handling, and its way to the end."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from dispatch import store
from dispatch.action import perform
from dispatch.calendar import CalendarMissing
from dispatch.model import Action, ActionRefused, Actor, Inputs
from kernel.types import Role, Source, Verdict
from tests.dispatch.build import NORTH, SOUTH, City, cell_centre, cell_code

HERE = dict(zip(("lon", "lat"), cell_centre(0, 0), strict=True))


def refused(city: City, actor: Actor, action: Action, **inputs: Any) -> str:
    with pytest.raises(ActionRefused) as caught:
        city.act(actor, action, **inputs)
    return caught.value.code


@pytest.fixture
def operator(city: City) -> Actor:
    return city.add_person("值班长", Role.OPERATOR)


@pytest.fixture
def worker(city: City) -> Actor:
    return city.add_person("甲", at=cell_centre(0, 0))


@pytest.fixture
def parked(city: City, operator: Actor, worker: Actor) -> dict[str, Any]:
    """A parked car with an hour's limit, offered to the worker."""
    city.report("illegal_parking")
    city.turn()
    return city.incident()


def ids(incident: dict[str, Any]) -> UUID:
    return UUID(incident["id"])


def pushes(city: City, person: Actor) -> list[str]:
    rows = city.query("SELECT kind FROM push_outbox WHERE user_id = %s ORDER BY id", person.user_id)
    return [kind for (kind,) in rows]


# ------------------------------------------------------------------------------------------------ before filing


@pytest.mark.parametrize("is_so", [True, False])
def test_a_citizens_report_is_looked_at_before_it_is_filed(
    city: City, operator: Actor, worker: Actor, is_so: bool
) -> None:
    city.report("illegal_parking", Source.CITIZEN)
    city.turn()
    city.act(operator, Action.ASK_VERIFICATION, user_id=worker.user_id)
    asked = city.incident(worker)
    assert (asked["verifier"]["name"], asked["needs_operator"], pushes(city, worker)) == ("甲", None, ["verify"])
    assert "verify" in [action["name"] for action in asked["actions"]]
    photo = city.add_photo(worker)
    seen = city.act(worker, Action.VERIFY, found=is_so, evidence_id=photo, note="到现场看过", **HERE)
    assert (seen["state"], seen["needs_operator"]) == (("filed", None) if is_so else ("reported", "verified_false"))
    assert (seen["verifications"][0]["found"], seen["verifications"][0]["evidence_id"]) == (is_so, str(photo))
    assert (seen["due_at"] is not None, seen["verifier"]) == (is_so, None)
    if not is_so:
        assert seen["proposal"]["action"] == "void"
        assert city.act(operator, Action.VOID, reason_code="nothing_there")["state"] == "void"


def test_nobody_looks_in_time_or_a_device_says_the_same(city: City, operator: Actor, worker: Actor) -> None:
    city.report("illegal_parking", Source.CITIZEN)
    city.turn()
    city.act(operator, Action.ASK_VERIFICATION, user_id=worker.user_id)
    city.pass_time(minutes=31)
    city.advance()
    waits = city.incident()
    assert (waits["needs_operator"], waits["verifier"]) == ("verify", None)
    city.act(operator, Action.ASK_VERIFICATION, user_id=worker.user_id)
    city.report("illegal_parking", Source.CAMERA)
    city.take()
    filed = city.incident()
    assert (filed["state"], filed["verifier"]) == ("filed", None)
    assert [v["found"] for v in filed["verifications"]] == [None, None]


# ------------------------------------------------------------------------------------------------ time


def test_more_time_is_asked_for_granted_at_most_twice_and_never_more_than_the_limit(
    city: City, operator: Actor, worker: Actor, parked: dict[str, Any]
) -> None:
    city.act(worker, Action.ACCEPT)
    due = [parked["due_at"]]
    for value in (None, 0.5):
        city.pass_time(seconds=1)
        asked = city.act(worker, Action.ASK_EXTENSION, reason="车主在路上")
        assert (asked["needs_operator"], asked["extension_asked"]) == ("extension", True)
        assert refused(city, worker, Action.ASK_EXTENSION, reason="再等") == "extension_asked"
        assert refused(city, operator, Action.GRANT_EXTENSION, value=1.01) == "bad_extension"
        due.append(city.act(operator, Action.GRANT_EXTENSION, value=value)["due_at"])
    assert [at[11:16] for at in due] == ["09:00", "10:00", "10:30"]
    assert refused(city, worker, Action.ASK_EXTENSION, reason="再等") == "no_more_extensions"
    view = city.incident()
    assert (view["extensions"], view["needs_operator"]) == (2, None)
    assert [x["value"] for x in view["extension_requests"]] == [1.0, 0.5]
    assert pushes(city, worker)[-2:] == ["decided", "decided"]


def test_a_request_for_more_time_is_refused_or_lapses_with_the_task(
    city: City, operator: Actor, worker: Actor, parked: dict[str, Any]
) -> None:
    city.act(worker, Action.ACCEPT)
    city.act(worker, Action.ASK_EXTENSION, reason="车主在路上")
    assert city.act(worker, Action.ARRIVE)["needs_operator"] == "extension"  # going on is no answer
    view = city.act(operator, Action.REFUSE_EXTENSION, reason="请拖车")
    assert (view["due_at"], view["extensions"]) == (parked["due_at"], 0)
    city.pass_time(seconds=1)
    city.act(worker, Action.ASK_EXTENSION, reason="还在等")
    view = city.act(worker, Action.SEND_BACK, reason_code="no_access")
    assert [x["state"] for x in view["extension_requests"]] == ["refused", "lapsed"]
    assert view["events"][-1]["reason"] == "no_access" and not view["extension_asked"]


def test_a_suspension_stops_clock_light_and_offers_ends_by_itself_and_comes_once(
    city: City, operator: Actor, worker: Actor, parked: dict[str, Any]
) -> None:
    city.pass_time(seconds=60)
    until = city.now + timedelta(days=2)
    view = city.act(operator, Action.SUSPEND, reason="道路施工", until=until)
    assert view["suspended_until"][:10] == "2026-11-22"
    assert refused(city, worker, Action.ACCEPT) == "suspended"
    city.pass_time(days=1)
    city.advance()
    asleep = city.incident()
    assert (asleep["state"], asleep["light"], asleep["level"]) == ("dispatched", "green", 1)
    city.pass_time(days=1, hours=3)  # nobody looked for three hours after its end
    city.advance()
    awake = city.incident()
    assert (awake["suspended_at"], awake["due_at"][:16]) == (None, "2026-11-22T09:00")
    assert city.story().count("resume") == 1
    assert (
        refused(city, operator, Action.SUSPEND, reason="再挂", until=city.now + timedelta(days=1)) == "suspended_before"
    )


def test_a_suspension_ends_in_a_year_without_a_calendar_and_the_limit_stays(
    city: City, operator: Actor, parked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise CalendarMissing(2027)

    city.act(operator, Action.SUSPEND, reason="道路施工", until=city.now + timedelta(days=1))
    monkeypatch.setattr("dispatch.limit_store.count_limit", fail)
    city.pass_time(days=2)
    city.advance()
    awake = city.incident()
    assert (awake["suspended_at"], awake["due_at"]) == (None, parked["due_at"])
    assert city.query("SELECT limit_seen FROM incident") == [("",)]  # so it is counted when one comes


def test_an_operator_may_end_a_suspension_early_and_what_is_voided_is_not_suspended(
    city: City, operator: Actor, worker: Actor, parked: dict[str, Any]
) -> None:
    city.act(operator, Action.SUSPEND, reason="道路施工", until=city.now + timedelta(days=30))
    city.pass_time(minutes=30)
    assert city.act(operator, Action.RESUME)["due_at"][11:16] == "09:30"
    assert pushes(city, worker) == ["offered", "offered"]
    assert city.act(worker, Action.ACCEPT)["state"] == "accepted"


def test_the_level_rises_by_itself_with_the_time_and_by_hand_with_a_reason(
    city: City, operator: Actor, worker: Actor, parked: dict[str, Any]
) -> None:
    city.act(worker, Action.ACCEPT)
    levels = []
    for minutes in (60, 1, 28, 2, 30):  # 60, 61, 89, 91, 121 of 60
        city.pass_time(minutes=minutes)
        city.advance()
        levels.append(city.incident()["level"])
    assert levels == [1, 2, 2, 3, 4]
    assert refused(city, operator, Action.ESCALATE, reason="急") == "highest_level"
    view = city.act(operator, Action.SUPERVISE, reason="市民多次投诉")
    assert (view["supervision"], pushes(city, worker)[-1]) == (1, "supervised")


# ------------------------------------------------------------------------------------------------ oversight


def close(city: City, operator: Actor, worker: Actor) -> dict[str, Any]:
    city.handle(worker)
    return city.act(operator, Action.CHECK, verdict=Verdict.CLEAR)


@pytest.mark.parametrize("answer", ["accepted", "rejected"])
def test_an_appeal_is_decided_by_another_and_leaves_the_breach_as_it_was(
    city: City, operator: Actor, worker: Actor, parked: dict[str, Any], answer: str
) -> None:
    city.pass_time(minutes=90)
    city.act(operator, Action.DISPATCH, user_id=worker.user_id)
    late = close(city, operator, worker)
    assert refused(city, operator, Action.APPEAL, reason="不归我") == "not_your_task"
    asked = city.act(worker, Action.APPEAL, reason="道路封闭")
    assert (asked["appeal"], asked["state"]) == ("asked", "closed")
    action = Action.ACCEPT_APPEAL if answer == "accepted" else Action.REJECT_APPEAL
    view = city.act(operator, action, reason="查实")
    assert (view["appeal"], view["due_at"], view["light"]) == (answer, late["due_at"], "red")
    assert view["appeals"][0] | {"asked_at": "", "decided_at": ""} == {
        "asked_by": "甲", "asked_at": "", "reason": "道路封闭", "state": answer, "decided_by": "值班长", "decided_at": "",
        "answer": "查实",
    }  # fmt: skip
    assert refused(city, worker, Action.APPEAL, reason="再申") == "appealed_before"


def test_departments_are_summoned_check_in_and_are_rated(
    city: City, operator: Actor, worker: Actor, parked: dict[str, Any]
) -> None:
    police, water = (city.add_person(name, Role.HANDLING_DEPT, on_duty=False) for name in ("交警", "水务"))
    far = city.add_person("别处", Role.HANDLING_DEPT, scope=NORTH)
    until = city.now + timedelta(minutes=30)
    both = (police.user_id, water.user_id)
    assert (
        refused(city, operator, Action.SUMMON, user_ids=(far.user_id,), until=until, reason="联合")
        == "user_out_of_scope"
    )
    city.act(operator, Action.SUMMON, user_ids=both, until=until, reason="联合整治")
    assert refused(city, worker, Action.CHECK_IN, **HERE) == "not_your_task"
    city.act(police, Action.CHECK_IN, **HERE)
    city.pass_time(minutes=31)
    city.act(water, Action.CHECK_IN, **HERE)
    view = city.act(operator, Action.RATE, user_id=police.user_id, score=5, note="很快")
    assert sorted((s["user"]["name"], s["late"], s["score"], s["distance_m"]) for s in view["summons"]) == [
        ("交警", False, 5, 0.0), ("水务", True, None, 0.0),
    ]  # fmt: skip
    assert refused(city, operator, Action.RATE, user_id=worker.user_id, score=5) == "not_summoned"


# ------------------------------------------------------------------------------------------------ kin


def two(city: City) -> list[UUID]:
    """Two open incidents, in the order of their opening."""
    for column in (0, 1):
        city.pass_time(seconds=1)  # ids of one instant have no order
        city.report("illegal_parking", column=column)
        city.take()
    return [UUID(one["id"]) for one in reversed(city.incidents())]


def test_what_is_merged_ends_in_the_other_with_all_that_was_reported(
    city: City, operator: Actor, worker: Actor
) -> None:
    first, second = two(city)
    city.advance()
    merged = city.act(operator, Action.MERGE, incident_id=second, other=first, reason="同一辆车")
    assert (merged["state"], merged["merged_into"]) == ("void", str(first))
    assert len(merged["reports"]) == 1  # every report stays with its story
    target = city.read(first)
    assert (target["report_count"], len(target["reports"]), target["events"][-1]["action"]) == (2, 2, "merged_in")
    assert [(k["kinship"], k["id"]) for k in target["kin"]] == [("merged", str(second))]
    city.report("illegal_parking", column=1)  # the same again
    city.take()
    assert city.read(first)["report_count"] == 3 and len(city.incidents()) == 2
    assert refused(city, operator, Action.MERGE, incident_id=first, other=second) == "other_ended"
    assert refused(city, operator, Action.MERGE, incident_id=first, other=first) == "same_incident"


def test_what_is_two_in_one_is_split_and_each_has_its_story(city: City, operator: Actor, worker: Actor) -> None:
    kept, moved = city.report("illegal_parking"), city.report("illegal_parking")
    city.take()
    assert refused(city, operator, Action.SPLIT, report_ids=(kept, moved), reason="两件事") == "last_report"
    assert (
        refused(city, operator, Action.SPLIT, report_ids=(city.people["甲"].user_id,), reason="两件事")
        == "unknown_report"
    )
    old = city.act(operator, Action.SPLIT, report_ids=(moved,), reason="两件事")
    assert (old["report_count"], [r["id"] for r in old["reports"]]) == (1, [str(kept)])
    new = city.read(UUID(old["kin"][0]["id"]))
    assert (new["state"], new["split_from"], new["number"][-6:]) == ("filed", old["id"], "000002")
    assert [r["id"] for r in new["reports"]] == [str(moved)]
    assert [e["action"] for e in new["events"]] == ["open", "file"]
    city.report("illegal_parking")
    city.take()
    assert city.read(ids(old))["report_count"] == 2  # what comes later joins the one it was split from


def test_of_what_was_merged_a_split_leaves_the_count_and_an_unfiled_half_waits_for_an_operator(
    city: City, operator: Actor
) -> None:
    mild = city.report("illegal_parking", Source.CITIZEN, severity=4)
    grave = city.report("illegal_parking", Source.CITIZEN, severity=2)
    city.report("illegal_parking", Source.CITIZEN)
    city.take()
    city.pass_time(seconds=1)
    city.report("illegal_parking", Source.CITIZEN, column=1)
    city.take()
    first, second = (UUID(one["id"]) for one in reversed(city.incidents()))
    city.act(operator, Action.MERGE, incident_id=second, other=first, reason="同一辆车")
    old = city.act(operator, Action.SPLIT, incident_id=first, report_ids=(mild, grave), reason="两件事")
    assert (old["report_count"], len(old["reports"])) == (2, 2)  # its own one, and the merged one's
    new = next(one for one in city.incidents() if one["split_from"] == str(first))
    assert (new["state"], new["needs_operator"], new["severity"], new["report_count"]) == ("reported", "verify", 2, 2)


def test_a_child_that_came_while_its_parent_was_waited_for_is_seen(city: City, operator: Actor) -> None:
    parent, child = two(city)
    with city.database.transaction() as connection:
        stale = store.find_incident(connection, parent)
    assert stale is not None
    city.act(operator, Action.ATTACH, incident_id=child, other=parent)
    city.report("illegal_parking", column=2)
    city.take()
    third = next(ids(one) for one in city.incidents() if one["cell_code"] == cell_code(2, 0))
    for action in (Action.MERGE, Action.ATTACH):
        with city.database.transaction() as connection, pytest.raises(ActionRefused, match="has_children"):
            perform(connection, stale, action, operator, Inputs(incident_id=third), city.now)


def test_a_parent_ends_after_its_children(city: City, operator: Actor, worker: Actor) -> None:
    parent, child = two(city)
    city.act(operator, Action.ATTACH, incident_id=child, other=parent)
    assert refused(city, operator, Action.ATTACH, incident_id=parent, other=child) == "has_children"
    assert refused(city, operator, Action.VOID, incident_id=parent, reason="误报") == "open_children"
    city.act(operator, Action.DETACH, incident_id=child)
    city.act(operator, Action.ATTACH, incident_id=child, other=parent)
    city.act(operator, Action.VOID, incident_id=child, reason="误报")
    assert city.act(operator, Action.VOID, incident_id=parent, reason="误报")["state"] == "void"
    assert [e["action"] for e in city.read(parent)["events"]][-4:-1] == [
        "child_attached",
        "child_detached",
        "child_attached",
    ]


# ------------------------------------------------------------------------------------------------ the end


def test_the_reporter_may_check_and_may_open_it_again_for_a_week(city: City, operator: Actor, worker: Actor) -> None:
    citizen = city.add_person("市民", Role.GRID_WORKER, on_duty=False)
    city.report("illegal_parking", Source.GRID_WORKER, reporter=citizen)
    city.turn()
    city.handle(worker)
    view = city.act(citizen, Action.CHECK, verdict=Verdict.CLEAR)
    assert (view["state"], view["events"][-1]["actor"]) == ("closed", "市民")
    city.pass_time(days=6)
    again = city.act(citizen, Action.REOPEN, reason="又停上了")
    assert (again["state"], again["limit_from"], again["ended_at"]) == ("filed", again["filed_at"], None)
    city.act(operator, Action.VOID, reason="误报")


def test_nothing_is_opened_again_beside_another_of_its_cause(
    city: City, operator: Actor, worker: Actor, parked: dict[str, Any]
) -> None:
    close(city, operator, worker)
    city.pass_time(minutes=1)
    city.report("illegal_parking")
    city.take()
    assert refused(city, operator, Action.REOPEN, incident_id=ids(parked), reason="没有处理") == "other_open"
    city.pass_time(days=8)
    assert refused(city, operator, Action.REOPEN, incident_id=ids(parked), reason="没有处理") == "reopen_window_over"


def test_rework_goes_back_with_the_picture_of_what_is_still_wrong(
    city: City, operator: Actor, worker: Actor, parked: dict[str, Any]
) -> None:
    city.handle(worker)
    picture = city.add_photo(operator)
    view = city.act(operator, Action.REWORK, reason="还在原处", evidence_id=picture)
    assert view["assignments"][-1]["reason"]["reasons"] == [
        {"code": "rework", "evidence_id": str(picture), "note": "还在原处"}
    ]
    assert str(picture) in [one["id"] for one in view["evidence"]]


def test_a_doubted_photograph_is_left_to_an_operator_and_a_good_one_is_not(
    city: City, operator: Actor, worker: Actor
) -> None:
    import cv2

    noise = np.random.default_rng(7).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    picture = cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)
    found = []
    for k, quality in enumerate((95, 60)):  # the same picture again, saved anew
        city.report("illegal_parking", column=k)
        city.turn()
        (one,) = city.incidents("open")
        for action in (Action.ACCEPT, Action.ARRIVE):
            city.act(worker, action, incident_id=ids(one))
        photo = city.add_photo(worker)
        path = city.settings.evidence_dir / f"{photo}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        lon, lat = cell_centre(k, 0)
        city.act(worker, Action.HANDLE, incident_id=ids(one), evidence_id=photo, lon=lon, lat=lat)
        city.advance()
        view = city.read(ids(one))
        found.append((view["proofs"][0]["score"], [reason["code"] for reason in view["proposal"]["reasons"]]))
        city.act(operator, Action.CHECK, incident_id=ids(one), verdict=Verdict.CLEAR)
    assert found == [(1.0, ["person_checks"]), (0.4, ["proof_doubted", "reused_look"])]


def test_a_photograph_that_breaks_its_judge_holds_nothing_up(
    city: City, operator: Actor, worker: Actor, parked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a decoder's surprise")

    monkeypatch.setattr("dispatch.photograph.read_gray", fail)
    city.handle(worker)
    city.advance()
    view = city.incident()
    assert (view["needs_operator"], [d["code"] for d in view["proofs"][0]["doubts"]]) == ("check", ["unreadable"])


def test_three_who_know_nothing_of_each_other_make_it_more_urgent(city: City, operator: Actor) -> None:
    for code in ("cam-a", "cam-b"):
        city.add_device(code, "camera")
    for device in ("cam-a", "cam-a", "cam-a", "cam-b"):
        city.report("bin_overflow", device=device, severity=4)
        city.take()
    assert city.incident()["severity"] == 4  # two cameras, however often they say it
    city.report("bin_overflow", Source.CITIZEN, severity=4)
    city.take()
    assert (city.incident()["severity"], city.incident()["events"][-1]["detail"]["severity"]) == (3, 3)


def test_who_may_not_see_the_second_incident_cannot_touch_it(city: City, worker: Actor) -> None:
    south = city.add_person("南", Role.OPERATOR, scope=SOUTH)
    city.report("illegal_parking", row=1)
    city.report("illegal_parking", row=0)
    city.take()
    mine, theirs = (next(ids(i) for i in city.incidents() if i["area_code"] == code) for code in (SOUTH, NORTH))
    for action in (Action.MERGE, Action.ATTACH):
        assert refused(city, south, action, incident_id=mine, other=theirs, reason="同") == "unknown_incident"
