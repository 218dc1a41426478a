"""The life of an incident, from report to checked closure."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from dispatch.model import Action, ActionRefused, Actor
from dispatch.schema import IncidentDetail, IncidentOut
from kernel.types import Role, Source, Verdict
from tests.dispatch.build import NORTH, City, cell_centre, cell_code

FAR = cell_centre(3, 1)


@pytest.fixture
def operator(city: City) -> Actor:
    return city.add_person("值班长", Role.OPERATOR)


@pytest.fixture
def worker(city: City) -> Actor:
    return city.add_person("网格员甲", at=cell_centre(0, 0))


def refused(code: str) -> "pytest.RaisesExc[ActionRefused]":
    return pytest.raises(ActionRefused, match=rf"^{code}\b")


# ------------------------------------------------------------------------------------------------ whole lives


def test_a_camera_s_finding_goes_to_a_phone_and_closes_when_the_camera_finds_it_clear(
    city: City, worker: Actor
) -> None:
    city.add_device("07", "camera")
    city.report(device="07", rule="litter_overflow", zone="bin")
    city.turn()
    seen = city.incident(worker)
    assert (seen["state"], seen["assignee"]["name"], seen["cell_code"]) == ("dispatched", "网格员甲", cell_code(0, 0))
    assert seen["number"] == "20261120-000001"
    assert [a["name"] for a in seen["actions"]] == ["accept", "refuse"]
    city.pass_time(minutes=3)
    city.handle(worker)
    city.turn()
    assert [c["verdict"] for c in city.incident()["checks"]] == [None]
    assert city.answer_checks("clear") == 1
    city.turn()
    closed = city.incident()
    assert (closed["state"], closed["needs_operator"], closed["handler"]["name"]) == ("closed", None, "网格员甲")
    assert closed["events"][-1]["actor"] == "camera 天水-07"
    assert city.story() == [
        "open", "file", "dispatch", "accept", "arrive", "handle", "check_requested", "close",
    ]  # fmt: skip


def test_the_json_is_what_the_schema_says_at_every_stage(city: City, worker: Actor, operator: Actor) -> None:
    city.add_device("07", "camera")
    picture = city.add_photo(worker, kind="snapshot")
    city.report(device="07", rule="litter_overflow", zone="bin", evidence_ids=(picture,), reporter=None)
    stages = [
        city.turn, lambda: city.act(worker, Action.ACCEPT), lambda: city.act(worker, Action.ARRIVE),
        lambda: city.finish(worker), city.turn, lambda: city.answer_checks("inconclusive"), city.turn,
        lambda: city.act(operator, Action.CHECK, verdict=Verdict.CLEAR),
    ]  # fmt: skip
    for stage in stages:
        stage()
        view = city.incident(operator)
        IncidentDetail.model_validate(view)
        IncidentOut.model_validate(city.incidents()[0])
    assert view["cover"] == str(picture)
    assert view["area"] == {"street": "天水街道", "community": "环北社区", "grid": "网格0"}
    assert len(view["evidence"]) == 2  # the camera's picture and the worker's photograph


def test_a_public_report_waits_for_verification_and_an_operator_files_it(
    city: City, worker: Actor, operator: Actor
) -> None:
    city.report("damaged_road", Source.HOTLINE, detail={"place": "武林路 86 号", "note": "坑"})
    city.turn()
    waiting = city.incident(operator)
    assert (waiting["state"], waiting["needs_operator"], waiting["due_at"]) == ("reported", "verify", None)
    assert (waiting["proposal"]["action"], waiting["place"]) == ("file", "武林路 86 号")
    city.act(operator, Action.FILE)
    city.turn()
    assert city.incident()["state"] == "dispatched"


def test_a_sensor_that_says_the_same_as_the_caller_is_the_verification(city: City, worker: Actor) -> None:
    city.report("exposed_garbage", Source.CITIZEN)
    city.turn()
    city.add_device("07", "camera")
    city.report("exposed_garbage", device="07")
    city.turn()
    assert (city.incident()["state"], city.incident()["report_count"]) == ("dispatched", 2)


def test_a_report_sent_back_by_an_operator_is_not_filed_again_by_the_next_camera_report(
    city: City, operator: Actor
) -> None:
    city.add_device("07", "camera")
    city.report("exposed_garbage", device="07")
    city.turn()
    city.act(operator, Action.SEND_BACK, reason="不属于案件")
    city.report("exposed_garbage", device="07")
    city.turn()
    assert (city.incident()["state"], city.incident()["needs_operator"]) == ("reported", "sent_back")


def test_smoke_is_closed_by_a_named_person_and_never_by_the_sensor(city: City, worker: Actor, operator: Actor) -> None:
    city.add_device("s1", "smoke_alarm")
    city.report("smoke", Source.DEVICE, device="s1", rule="smoke")
    city.turn()
    city.handle(worker)
    city.turn()
    waiting = city.incident()
    assert (waiting["state"], waiting["needs_operator"], waiting["checks"]) == ("handled", "check", [])
    assert waiting["proposal"]["reasons"] == [{"code": "named_person"}]
    from dispatch.model import SYSTEM

    with refused("named_person_required"):
        city.act(SYSTEM, Action.CLOSE)
    closed = city.act(operator, Action.CHECK, verdict=Verdict.CLEAR)
    assert (closed["state"], closed["events"][-1]["actor"]) == ("closed", "值班长")


def test_a_gate_s_own_recovery_closes_a_gate_fault(city: City, worker: Actor) -> None:
    city.add_device("g1", "parking_gate")
    city.report("gate_fault", Source.DEVICE, device="g1", rule="fault")
    city.turn()
    city.handle(worker)
    city.turn()
    assert city.query("SELECT kind, rule FROM check_request") == [("sensor", "fault")]
    city.answer_checks("clear")
    city.turn()
    assert city.incident()["state"] == "closed"


def test_a_camera_fault_is_checked_by_the_camera_as_a_sensor(city: City, worker: Actor) -> None:
    city.add_device("07", "camera")
    city.report("camera_fault", Source.CAMERA, device="07", rule="black")
    city.turn()
    city.handle(worker)
    city.turn()
    assert city.query("SELECT kind, device_id FROM check_request") == [("sensor", city.devices["07"])]


def test_what_no_device_saw_is_checked_by_a_person(city: City, worker: Actor, operator: Actor) -> None:
    city.report("bin_overflow", Source.OPERATOR, reporter=operator)
    city.turn()
    city.handle(worker)
    city.turn()
    assert city.incident()["needs_operator"] == "check"
    assert city.incident()["proposal"]["reasons"] == [{"code": "person_checks"}]


# ------------------------------------------------------------------------------------------------ checks


def test_a_check_that_is_not_clear_sends_the_same_person_again_with_the_evidence(city: City, worker: Actor) -> None:
    city.add_person("网格员乙", at=cell_centre(0, 0))
    city.add_device("07", "camera")
    city.report(device="07", rule="litter_overflow", zone="bin")
    city.turn()
    first = city.people[city.incident()["assignee"]["name"]]
    city.handle(first)
    city.turn()
    picture = city.add_photo(worker, kind="snapshot")
    city.answer_checks("not_clear", picture)
    city.turn()
    again = city.incident(first)
    assert (again["state"], again["assignee"]["name"], again["handled_at"]) == ("dispatched", first.name, None)
    rework = next(e for e in again["events"] if e["action"] == "rework")
    assert (rework["detail"]["evidence_id"], rework["actor"]) == (str(picture), "camera 天水-07")
    assert [a["outcome"] for a in again["assignments"]] == ["rework", None]
    city.handle(first)
    city.turn()
    city.answer_checks("clear")
    city.turn()
    assert city.incident()["state"] == "closed"


@pytest.mark.parametrize("answered", [True, False])
def test_an_inconclusive_or_missing_answer_closes_nothing_and_calls_a_person(
    city: City, worker: Actor, operator: Actor, answered: bool
) -> None:
    city.add_device("07", "camera")
    city.report(device="07", rule="litter_overflow", zone="bin")
    city.turn()
    city.handle(worker)
    city.turn()
    if answered:
        city.answer_checks("inconclusive")
    else:
        city.pass_time(seconds=city.settings.dispatch.check_timeout_s + 1)
    city.turn()
    waiting = city.incident(operator)
    assert (waiting["state"], waiting["needs_operator"]) == ("handled", "check")
    code = "check_inconclusive" if answered else "check_unanswered"
    assert waiting["proposal"]["reasons"][0]["code"] == code
    still = city.act(operator, Action.CHECK, verdict=Verdict.INCONCLUSIVE, note="看不清")
    assert (still["state"], still["needs_operator"]) == ("handled", "check")
    city.pass_time(hours=1)
    city.turn()
    assert len(city.incident()["checks"]) == 1  # nobody asks the camera again behind the operator's back


def test_two_cameras_that_reported_must_both_find_it_clear(city: City, worker: Actor) -> None:
    for code in ("07", "08"):
        city.add_device(code, "camera")
        city.report(device=code, rule="litter_overflow", zone="bin")
    city.turn()
    city.handle(worker)
    city.turn()
    first, second = (row[0] for row in city.query("SELECT id FROM check_request ORDER BY id"))
    update = "UPDATE check_request SET answered_at = requested_at, verdict = 'clear' WHERE id = %s RETURNING id"
    city.query(update, first)
    city.turn()
    assert city.incident()["state"] == "handled"
    city.query(update, second)
    city.turn()
    assert city.incident()["state"] == "closed"


def test_whoever_handled_never_checks_even_after_somebody_else_handled_it_last(city: City) -> None:
    both = (Role.GRID_WORKER, Role.OPERATOR)
    first = city.add_person("甲", *both, at=cell_centre(0, 0))
    city.report("smoke", Source.DEVICE, device=None)
    city.turn()
    city.handle(first)
    with refused("handler_may_not_check"):
        city.act(first, Action.CHECK, verdict=Verdict.CLEAR)
    assert "check" not in [a["name"] for a in city.incident(first)["actions"]]
    second = city.add_person("乙", *both, at=cell_centre(0, 0))
    city.act(second, Action.CHECK, verdict=Verdict.NOT_CLEAR, note="还有烟")
    city.act(first, Action.REFUSE, reason="换人")
    city.turn()
    city.handle(second)
    for handler in (first, second):
        with refused("handler_may_not_check"):
            city.act(handler, Action.CHECK, verdict=Verdict.CLEAR)
    third = city.add_person("丙", Role.OPERATOR)
    assert city.act(third, Action.CHECK, verdict=Verdict.CLEAR)["state"] == "closed"


# ------------------------------------------------------------------------------------------------ assignment


def test_an_offer_that_nobody_takes_goes_to_the_next_and_then_to_an_operator(city: City) -> None:
    for k in range(5):
        city.add_person(f"网格员{k}", at=cell_centre(k % 4, 0))
    city.report()
    city.turn()
    asked = []
    for _ in range(city.settings.dispatch.max_offers):
        asked.append(city.incident()["assignee"]["name"])
        city.pass_time(seconds=city.settings.dispatch.accept_timeout_s - 1)
        city.turn()
        assert city.incident()["assignee"]["name"] == asked[-1]  # not yet
        city.pass_time(seconds=1)
        city.turn()
    assert len(set(asked)) == 3
    waiting = city.incident()
    assert (waiting["state"], waiting["needs_operator"]) == ("filed", "nobody_accepted")
    assert waiting["proposal"]["user_name"] not in asked
    assert [a["outcome"] for a in waiting["assignments"]] == ["expired"] * 3
    operator = city.add_person("值班长", Role.OPERATOR)
    chosen = city.people[asked[0]]
    city.act(operator, Action.DISPATCH, user_id=chosen.user_id)
    city.handle(chosen)
    assert city.incident()["state"] == "handled"


def test_a_refusal_needs_a_reason_and_goes_to_the_next(city: City) -> None:
    near = city.add_person("近", at=cell_centre(0, 0))
    city.add_person("远", at=cell_centre(3, 0))
    city.report()
    city.turn()
    with refused("reason_required"):
        city.act(near, Action.REFUSE, reason="  ")
    city.act(near, Action.REFUSE, reason="正在处理火情")
    city.turn()
    seen = city.incident()
    assert seen["assignee"]["name"] == "远"
    others = seen["assignments"][-1]["reason"]["others"]
    assert [(o["name"], o["codes"]) for o in others] == [("近", ["refused_before"])]


def test_nobody_on_duty_calls_an_operator_and_is_tried_again_when_somebody_comes(city: City) -> None:
    late = city.add_person("晚班", on_duty=False)
    city.report()
    city.turn()
    waiting = city.incident()
    assert (waiting["state"], waiting["needs_operator"]) == ("filed", "nobody_available")
    events = len(waiting["events"])
    city.turn()
    assert len(city.incident()["events"]) == events  # waiting is not told again and again
    city.set_duty(late, True)
    city.turn()
    assert (city.incident()["assignee"]["name"], city.incident()["needs_operator"]) == ("晚班", None)


def test_an_offer_to_somebody_who_goes_off_duty_moves_on_at_once(city: City) -> None:
    near = city.add_person("近", at=cell_centre(0, 0))
    city.add_person("远", at=cell_centre(3, 0))
    city.report()
    city.turn()
    city.set_duty(near, False)
    city.turn()
    assert city.incident()["assignee"]["name"] == "远"


def test_rework_for_somebody_who_has_gone_home_finds_another(city: City) -> None:
    first = city.add_person("早班", at=cell_centre(0, 0))
    city.add_device("07", "camera")
    city.report(device="07", rule="litter_overflow", zone="bin")
    city.turn()
    city.handle(first)
    city.turn()
    city.set_duty(first, False)
    city.add_person("晚班")
    city.answer_checks("not_clear")
    city.turn()
    city.turn()
    assert city.incident()["assignee"]["name"] == "晚班"


def test_a_task_given_back_goes_to_another_and_one_taken_back_waits_for_the_operator(
    city: City, operator: Actor
) -> None:
    near = city.add_person("近", at=cell_centre(0, 0))
    far = city.add_person("远", at=cell_centre(3, 0))
    city.report()
    city.turn()
    city.act(near, Action.ACCEPT)
    city.act(near, Action.SEND_BACK, reason="不在我的网格")
    city.turn()
    assert city.incident()["assignee"]["name"] == "远"
    city.act(far, Action.ACCEPT)
    city.act(operator, Action.SEND_BACK, reason="另有安排")
    city.turn()
    assert (city.incident()["state"], city.incident()["needs_operator"]) == ("filed", "dispatch")


def test_an_operator_sends_somebody_else_and_the_first_has_no_task_any_more(city: City, operator: Actor) -> None:
    near = city.add_person("近", at=cell_centre(0, 0))
    other = city.add_person("另", at=FAR)
    city.report()
    city.turn()
    city.act(near, Action.ACCEPT)
    city.act(operator, Action.DISPATCH, user_id=other.user_id)
    seen = city.incident()
    assert (seen["state"], seen["assignee"]["name"]) == ("dispatched", "另")
    assert [a["outcome"] for a in seen["assignments"]] == ["reassigned", None]
    with refused("not_your_task"):
        city.act(near, Action.ARRIVE)
    kinds = city.query("SELECT kind FROM push_outbox WHERE user_id = %s ORDER BY queued_at, kind", near.user_id)
    assert kinds == [("offered",), ("withdrawn",)]


def test_only_somebody_who_can_go_can_be_sent(city: City, operator: Actor) -> None:
    city.report()
    city.turn()
    off_duty = city.add_person("休", on_duty=False)
    elsewhere = city.add_person("别处", scope=NORTH)
    for user_id, code in (
        (uuid4(), "unknown_user"), (operator.user_id, "unknown_user"), (off_duty.user_id, "user_off_duty"),
        (elsewhere.user_id, "user_out_of_scope"), (None, "user_required"),
    ):  # fmt: skip
        with refused(code):
            city.act(operator, Action.DISPATCH, user_id=user_id)
    assert city.incident()["assignments"] == []


# ------------------------------------------------------------------------------------------------ what actions need


def test_handled_needs_an_own_photograph_and_a_position(city: City, worker: Actor) -> None:
    city.report()
    city.turn()
    city.act(worker, Action.ACCEPT)
    city.act(worker, Action.ARRIVE)
    lon, lat = cell_centre(0, 0)
    stranger = city.add_person("外人", on_duty=False)
    for evidence_id, code in (
        (None, "photo_required"), (uuid4(), "photo_required"), (city.add_photo(stranger), "photo_required"),
        (city.add_photo(worker, kind="snapshot"), "photo_required"),
    ):  # fmt: skip
        with refused(code):
            city.act(worker, Action.HANDLE, evidence_id=evidence_id, lon=lon, lat=lat)
    mine = city.add_photo(worker)
    for position in ({}, {"lon": lon}, {"lon": float("nan"), "lat": lat}, {"lon": 200.0, "lat": lat}):
        with refused("position_required"):
            city.act(worker, Action.HANDLE, evidence_id=mine, **position)
    done = city.act(worker, Action.HANDLE, evidence_id=mine, lon=FAR[0], lat=FAR[1], accuracy_m=8.0)
    assert done["events"][-1]["detail"]["distance_m"] == pytest.approx(309, abs=5)


def test_a_photograph_proves_one_handling_only(city: City, worker: Actor, operator: Actor) -> None:
    city.report("bin_overflow", Source.OPERATOR, reporter=operator)
    city.turn()
    city.act(worker, Action.ACCEPT)
    city.act(worker, Action.ARRIVE)
    photo = city.add_photo(worker)
    lon, lat = cell_centre(0, 0)
    city.act(worker, Action.HANDLE, evidence_id=photo, lon=lon, lat=lat)
    city.act(operator, Action.CHECK, verdict=Verdict.NOT_CLEAR)
    city.act(worker, Action.ACCEPT)
    city.act(worker, Action.ARRIVE)
    with refused("photo_used"):
        city.act(worker, Action.HANDLE, evidence_id=photo, lon=lon, lat=lat)


def test_void_needs_a_reason_and_frees_everybody(city: City, worker: Actor, operator: Actor) -> None:
    city.report()
    city.turn()
    city.act(worker, Action.ACCEPT)
    with refused("reason_required"):
        city.act(operator, Action.VOID)
    with refused("not_your_role"):
        city.act(worker, Action.VOID, reason="误报")
    view = city.act(operator, Action.VOID, reason="误报")
    assert (view["state"], view["actions"], view["ended_at"]) == ("void", [], "2026-11-20T08:00:00.000Z")
    city.pass_time(minutes=1)
    city.report()
    city.turn()
    assert sorted(i["state"] for i in city.incidents()) == ["dispatched", "void"]


def test_a_version_that_was_overtaken_is_refused(city: City, worker: Actor, operator: Actor) -> None:
    city.report()
    city.turn()
    seen = city.incident()["version"]
    city.act(worker, Action.ACCEPT, version=seen)
    with refused("version_conflict"):
        city.act(operator, Action.VOID, version=seen, reason="误报")
    assert city.incident()["state"] == "accepted"


def test_an_operator_s_first_act_is_the_acknowledgement(city: City, worker: Actor, operator: Actor) -> None:
    city.report()
    city.turn()
    assert city.incident()["acknowledged_at"] is None
    city.act(operator, Action.ACKNOWLEDGE)
    first = city.incident()
    assert (first["state"], first["acknowledged_at"]) == ("dispatched", "2026-11-20T08:00:00.000Z")
    city.pass_time(minutes=1)
    city.act(operator, Action.ACKNOWLEDGE)
    assert city.incident()["acknowledged_at"] == first["acknowledged_at"]


def test_an_incident_outside_the_scope_is_unknown(city: City, worker: Actor) -> None:
    city.report(row=0)
    city.turn()
    elsewhere = city.add_person("别处", Role.OPERATOR, scope=NORTH)
    with refused("unknown_incident"):
        city.act(elsewhere, Action.VOID, reason="误报")
    with refused("unknown_incident"):
        city.act(elsewhere, Action.VOID, reason="误报", incident_id=uuid4())


def test_a_refused_action_leaves_nothing_behind(city: City, worker: Actor, operator: Actor) -> None:
    city.report()
    city.turn()
    before = city.incident()
    with refused("user_off_duty"):
        off_duty = city.add_person("休", on_duty=False)
        city.act(operator, Action.DISPATCH, user_id=off_duty.user_id)
    assert city.incident() == before


# ------------------------------------------------------------------------------------------------ limits and lights


def test_the_light_follows_the_limit_and_stands_still_when_handled(city: City, worker: Actor) -> None:
    city.report("crowding")  # half an hour
    city.turn()
    lights = []
    for minutes in (0, 24, 0.1, 5.9, 0.1):
        city.pass_time(minutes=minutes)
        lights.append(city.incident()["light"])
    assert lights == ["green", "green", "amber", "amber", "red"]
    city.add_person("近", at=cell_centre(0, 0))


def test_a_handled_incident_keeps_the_light_of_its_handling(city: City, worker: Actor) -> None:
    city.report("crowding")
    city.turn()
    city.pass_time(minutes=1)
    city.handle(worker)
    city.pass_time(hours=5)
    assert city.incident()["light"] == "green"


def test_a_limit_in_work_hours_without_a_calendar_is_left_to_an_operator_and_never_guessed(
    city: City, operator: Actor
) -> None:
    city.now = city.now.replace(year=2190)
    city.report("dirty_road", Source.OPERATOR, reporter=operator)
    city.turn()
    waiting = city.incident()
    assert (waiting["state"], waiting["needs_operator"], waiting["due_at"]) == ("reported", "no_calendar", None)
    with refused("no_calendar"):
        city.act(operator, Action.FILE)


def test_the_number_is_of_the_city_s_date(city: City, worker: Actor) -> None:
    city.now = city.now.replace(hour=15, minute=59, second=59)
    city.report(column=0)
    city.take()
    city.now += timedelta(seconds=1)  # midnight in Hangzhou
    city.report(column=1)
    city.take()
    assert sorted(i["number"] for i in city.incidents()) == ["20261120-000001", "20261121-000001"]


def test_candidates_are_listed_with_reasons_for_an_operator(city: City, worker: Actor, operator: Actor) -> None:
    from dispatch import flow

    city.add_person("休", on_duty=False)
    city.report()
    city.take()
    with city.database.transaction() as connection:
        found = flow.candidates(connection, UUID(city.incident()["id"]), operator, city.now, city.settings)
    assert [(c["user"]["name"], c["chosen"], c["reasons"]) for c in found] == [
        ("网格员甲", True, ["only_one"]), ("休", False, ["off_duty"]),
    ]  # fmt: skip
