"""Which rule acts where, what is held back, what time alone does, and that waiting for it misses nothing."""

import json
import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from devices.alarms import advance_device
from devices.model import DeviceStatus, Message, TopicKind
from devices.registry import KINDS
from devices.rule_type import Parent
from devices.rulebook import AlarmRule, Mode, Quiet, Quietness, RuleBook
from tests.devices.rule_bench import ZONE, Bench, at, level, make_device, make_rule, told

HOUR = 3600.0
LEVEL = "river_level"


def own(limit: float, **fields: Any) -> AlarmRule:
    return make_rule("built_in", LEVEL, parameters={"level_limit_m": limit}, **{"category": LEVEL, **fields})


# ---------------------------------------------------------------- scopes


def limit_of(device_area: str, *rules: AlarmRule, **device_settings: Any) -> float:
    """The lowest level that raises."""
    device = make_device(area_code=device_area, settings=device_settings)
    for centimetres in range(100, 400, 10):
        bench = Bench(*rules, device=device)
        if any(a.rule == LEVEL for a in bench.tell(0, level_m=centimetres / 100 + 0.01)):
            return centimetres / 100
    return 99.0


def test_the_narrowest_limit_wins_from_city_to_street_to_device_to_its_own_settings() -> None:
    city = own(2.0, number=1, kind="river_sluice")
    street = own(1.8, number=2, kind="river_sluice", area_code="330105012")
    one = own(1.5, number=3, device_id=make_device().id, kind="river_sluice")
    assert limit_of("330105012001") == 99.0 or limit_of("330105012001") == 2.5  # the kind's own example
    assert limit_of("330105013001", city, street) == 2.0
    assert limit_of("330105012001", city, street) == 1.8
    assert limit_of("330105012001", one, street, city) == 1.5
    assert limit_of("330105012001", one, street, city, level_limit_m=3.0) == 3.0


def test_a_rule_for_a_kind_is_narrower_than_one_for_every_kind() -> None:
    every = make_rule("threshold", number=1, parameters=level(1.0))
    kind = make_rule("threshold", number=2, kind="river_sluice", parameters=level(2.0))
    assert told(Bench(every, kind).tell(0, level_m=1.5)) == []
    assert told(Bench(every).tell(0, level_m=1.5)) == [("watched", True)]


def test_a_silence_takes_a_kinds_own_rule_away_and_another_type_takes_its_place() -> None:
    silence = make_rule("none", LEVEL)
    assert Bench(silence).tell(0, level_m=9.0) == []
    other = make_rule("threshold", LEVEL, parameters=level(1.0), category=LEVEL)
    bench = Bench(other)
    assert told(bench.tell(0, level_m=1.2)) == [(LEVEL, True)]
    assert bench.state.alarms[LEVEL]["key"] == "river_level@threshold"
    assert bench.state.status is DeviceStatus.ALARM


def test_rules_about_metrics_that_a_kind_does_not_measure_leave_it_alone() -> None:
    book = RuleBook((make_rule("threshold", parameters={"metric": "battery_pct", "limit": 20, "side": "lower"}),))
    assert [r.name for r in book.rules_of(make_device("river_sluice"))] == [LEVEL]
    assert "watched" in [r.name for r in book.rules_of(make_device("smoke_alarm"))]


def test_a_rule_that_was_off_acts_on_nothing_and_one_that_is_broken_stops_no_other() -> None:
    broken = make_rule("threshold", "broken", number=1, parameters={"metric": "level_m"})
    unknown = make_rule("no_such_type", "unknown", number=2)
    good = make_rule("threshold", number=3, parameters=level(1.0))
    off = make_rule("threshold", "off", mode=Mode.OFF, number=4, parameters=level(1.0))
    bench = Bench(broken, unknown, good, off)
    assert told(bench.tell(0, level_m=1.5)) == [("watched", True)]


def test_devices_that_are_alike_share_their_rules() -> None:
    book = RuleBook((make_rule("threshold", parameters=level(1.0)),))
    first, second = make_device(code="D1"), make_device(code="D2")
    assert book.rules_of(first) is book.rules_of(second)
    assert book.rules_of(first) is not book.rules_of(make_device(code="D3", settings={"level_limit_m": 2.0}))


def test_a_device_whose_row_changed_is_bound_anew() -> None:
    book = RuleBook((make_rule("threshold", area_code="33", parameters=level(1.0)),))
    device = make_device()
    assert [r.name for r in book.rules_of(device)] == [LEVEL]
    assert "watched" in [r.name for r in book.rules_of(replace(device, area_code="330105"))]


def test_a_rule_that_raises_an_exception_is_recorded_and_stops_no_other() -> None:
    bench = Bench(make_rule("threshold", parameters=level(1.0)))
    broken = replace(bench.book.rules_of(bench.device)[0], step=explode)
    plan = bench.book.plan(bench.device)
    bench.book._plans[bench.device.id] = (bench.device, replace(plan, rules=(broken, *plan.rules[1:])))
    kind = KINDS[bench.device.kind]
    payload = kind.payloads[TopicKind.TELEMETRY].model_validate({"v": 1, "id": "a", "at": at(0), "level_m": 1.5})
    message = Message(
        topic_kind=TopicKind.TELEMETRY, id="a", seq=None, measured_at=at(0), received_at=at(0), payload=payload
    )
    advance = advance_device(kind, bench.device, bench.state, [message], at(0), ZONE, bench.book)
    assert [(m.id if m else None, f.rule) for m, f in advance.failures] == [("a", broken.name)]
    assert told(advance.alarms) == [("watched", True)]


def explode(*arguments: Any) -> Any:
    raise ZeroDivisionError("on purpose")


# ---------------------------------------------------------------- changes of rules


def test_an_alarm_that_no_rule_stands_behind_any_more_ends() -> None:
    bench = Bench(make_rule("threshold", parameters=level(1.0)))
    bench.tell(0, level_m=1.5)
    bench.book = RuleBook()
    assert told(bench.wait(1)) == [("watched", False)]
    assert bench.alarms[-1].detail == {"reason": "rule_changed"}
    assert bench.state.alarms == {} and "watched@threshold" not in bench.state.rule_state


def test_a_limit_that_moves_keeps_the_episode() -> None:
    bench = Bench(make_rule("threshold", parameters=level(1.0)))
    bench.tell(0, level_m=1.5)
    bench.book = RuleBook((make_rule("threshold", parameters=level(1.2)),))
    assert bench.tell(1, level_m=1.6) == []
    assert told(bench.tell(2, level_m=1.1)) == [("watched", False)]


def test_a_state_that_was_written_and_read_again_raises_nothing_anew() -> None:
    """False alarms after a restart (ThingsBoard #13715, #11513): everything a rule knows survives as JSON."""
    rules = (
        make_rule("threshold", "a", number=1, parameters=level(1.0, hold_s=5)),
        make_rule("rate_of_change", "b", number=2, parameters={"metric": "level_m", "change": 0.5, "within_s": 60}),
        make_rule("offline", "device_offline", number=3, category="device_offline"),
    )
    bench = Bench(*rules)
    for second in range(0, 60, 5):
        bench.tell(second, level_m=1.5 + second / 100)
    before = list(bench.alarms)
    loaded = json.loads(json.dumps([bench.state.rule_state, bench.state.alarms, bench.state.metrics]))
    bench.state = replace(bench.state, rule_state=loaded[0], alarms=loaded[1], metrics=loaded[2])
    bench.tell(60, level_m=2.1)
    bench.wait(61)
    assert bench.alarms == before


# ---------------------------------------------------------------- monitor


def test_a_rule_in_monitor_records_beside_the_live_one_and_raises_nothing() -> None:
    live = make_rule("threshold", number=1, parameters=level(3.0))
    trial = make_rule("threshold", mode=Mode.MONITOR, number=2, parameters=level(1.0))
    bench = Bench(live, trial)
    assert bench.tell(0, level_m=1.5) == []
    [finding] = bench.last.findings
    assert (finding.outcome, finding.rule_id, finding.alarm.raised) == ("monitor", UUID(int=2), True)
    assert "watched" not in bench.state.alarms and bench.state.status is DeviceStatus.OK
    assert told(bench.tell(1, level_m=3.5)) == [("watched", True)]
    bench.tell(2, level_m=0.5)
    assert [f.alarm.raised for f in bench.last.findings] == [False]


def test_a_kinds_own_rule_can_be_tried_with_other_settings() -> None:
    bench = Bench(own(1.0, mode=Mode.MONITOR))
    assert bench.tell(0, level_m=1.5) == []
    assert [f.alarm.rule for f in bench.last.findings] == [LEVEL]
    assert told(bench.tell(1, level_m=2.6)) == [(LEVEL, True)]


# ---------------------------------------------------------------- held back


def quiet(from_s: float, until_s: float, why: Quietness = Quietness.SHELVED, **fields: Any) -> Quiet:
    scope = {"kind": "", "area_code": "", "device_id": None, "rule": ""} | fields
    return Quiet(why=why, from_at=at(from_s), until_at=at(until_s), **scope)


def test_a_shelved_alarm_is_recorded_and_told_when_the_shelf_ends_if_it_is_still_active() -> None:
    bench = Bench(
        make_rule("threshold", parameters=level(1.0), severity=2), quiets=[quiet(0, 600, device_id=make_device().id)]
    )
    assert bench.tell(10, level_m=1.5) == []
    assert [(f.outcome, f.alarm.raised) for f in bench.last.findings] == [("shelved", True)]
    assert bench.state.alarms["watched"]["held"] == "shelved"
    assert bench.state.due_at == at(600)
    assert bench.wait(599) == []
    [alarm] = bench.wait(600)
    assert (alarm.raised, alarm.severity, alarm.detail["held"]) == (True, 2, "shelved")
    assert alarm.occurred_at == at(10)
    assert told(bench.tell(700, level_m=0.5)) == [("watched", False)]


def test_a_shelved_alarm_that_ended_before_is_never_told() -> None:
    bench = Bench(make_rule("threshold", parameters=level(1.0)), quiets=[quiet(0, 600, device_id=make_device().id)])
    bench.tell(10, level_m=1.5)
    bench.tell(20, level_m=0.5)
    assert [(f.outcome, f.alarm.raised) for f in bench.last.findings] == [("shelved", False)]
    assert bench.wait(600) == [] and bench.alarms == []


def test_a_shelf_of_one_rule_leaves_the_others() -> None:
    shelf = quiet(0, 600, device_id=make_device().id, rule=LEVEL)
    bench = Bench(make_rule("threshold", parameters=level(1.0)), quiets=[shelf])
    assert told(bench.tell(0, level_m=9.0)) == [("watched", True)]
    assert [f.alarm.rule for f in bench.last.findings] == [LEVEL]


def test_a_maintenance_window_covers_its_area_and_kind_and_begins_when_it_says() -> None:
    window = quiet(100, 200, Quietness.MAINTENANCE, area_code="330105012", kind="river_sluice")
    inside, outside = make_device(area_code="330105012001"), make_device(area_code="330105013001")
    for device, second, is_told in ((inside, 50, True), (inside, 150, False), (outside, 150, True)):
        bench = Bench(make_rule("threshold", parameters=level(1.0)), device=device, quiets=[window])
        assert bool(bench.tell(second, level_m=1.5)) is is_told


def test_an_alarm_that_was_told_before_the_shelf_ends_as_always() -> None:
    bench = Bench(make_rule("threshold", parameters=level(1.0)), quiets=[quiet(100, 600, device_id=make_device().id)])
    bench.tell(10, level_m=1.5)
    assert told(bench.tell(150, level_m=0.5)) == [("watched", False)]


# ---------------------------------------------------------------- windows and flapping


def test_a_rule_for_the_night_is_silent_by_day_and_raises_when_its_window_opens_on_it() -> None:
    window = {"start": "22:00", "end": "05:00"}
    bench = Bench(make_rule("threshold", parameters=level(1.0), window=window))
    assert bench.tell(0, level_m=1.5) == []  # noon
    assert bench.wait(10 * HOUR - 1) == []
    assert told(bench.wait(10 * HOUR)) == [("watched", True)]  # 22:00
    assert told(bench.wait(17 * HOUR)) == [("watched", False)]  # 05:00
    first = bench.alarms[0].cause
    assert told(bench.wait(34 * HOUR)) == [("watched", True)]
    assert bench.alarms[-1].cause != first  # another night, another episode


def test_what_flaps_is_one_alarm_until_it_has_been_quiet() -> None:
    damping = {"changes": 4, "span_s": 600}
    bench = Bench(make_rule("threshold", parameters=level(1.0), damping=damping))
    for second in range(0, 400, 20):
        bench.tell(second, level_m=1.5 if second % 40 == 0 else 0.5)
    assert told(bench.alarms) == [("watched", True), ("watched", False), ("watched", True)]
    assert bench.state.rule_state["watched@threshold"]["gate"]["flapping"] is True
    due_at = bench.state.due_at
    assert due_at is not None and at(400) < due_at <= at(980)
    assert bench.wait((due_at - at(0)).total_seconds() - 1) == []
    assert told(bench.wait((due_at - at(0)).total_seconds())) == [("watched", False)]


@given(values=st.lists(st.booleans(), max_size=80), data=st.data())
def test_beginnings_and_ends_come_by_turns_whatever_flaps_through_whatever_window(
    values: list[bool], data: st.DataObject
) -> None:
    window = data.draw(st.sampled_from([None, {"start": "12:10", "end": "12:40"}, {"start": "00:00", "end": "00:00"}]))
    damping = data.draw(st.sampled_from([None, {"changes": 3, "span_s": 300}]))
    bench = Bench(make_rule("threshold", parameters=level(1.0), window=window, damping=damping))
    for index, high in enumerate(values):
        if index % 7 == 3:
            bench.wait(index * 60 - 1)
        bench.tell(index * 60, level_m=1.5 if high else 0.5)
    turns = [alarm.raised for alarm in bench.alarms]
    assert turns == [n % 2 == 0 for n in range(len(turns))]
    causes = [alarm.cause for alarm in bench.alarms if alarm.raised]
    assert len(causes) == len(set(causes))


# ---------------------------------------------------------------- offline

OFFLINE = make_rule("offline", "device_offline", category="device_offline")


def test_a_silent_device_is_an_incident_only_where_a_rule_says_so() -> None:
    bench, plain = Bench(OFFLINE), Bench()
    for one in (bench, plain):
        one.tell(0, level_m=1.0)
        one.wait(901)
        assert one.state.status is DeviceStatus.OFFLINE
    assert told(bench.alarms) == [("device_offline", True)] and plain.alarms == []
    assert told(bench.tell(1000, level_m=1.0)) == [("device_offline", False)]
    assert bench.state.status is DeviceStatus.OK


def test_a_sleeping_device_is_judged_by_its_own_period() -> None:
    device = make_device(settings={"report_period_s": 7200, "missed_reports": 2})
    bench = Bench(OFFLINE, device=device)
    bench.tell(0, level_m=1.0)
    assert bench.wait(14_400) == []
    assert told(bench.wait(14_401)) == [("device_offline", True)]


def test_the_rules_period_is_for_the_kind_and_the_devices_own_time_wins() -> None:
    rule = make_rule("offline", "device_offline", parameters={"report_period_s": 60, "missed_reports": 3})
    bench = Bench(rule)
    bench.tell(0, level_m=1.0)
    assert bench.wait(180) == []
    assert told(bench.wait(181)) == [("device_offline", True)]
    own_time = Bench(rule, device=make_device(settings={"offline_after_s": 5000}))
    own_time.tell(0, level_m=1.0)
    assert own_time.wait(4999) == []


def test_a_trial_of_another_time_is_judged_by_it_and_moves_nothing_else() -> None:
    trial = make_rule("offline", "device_offline", mode=Mode.MONITOR, parameters={"offline_after_s": 60})
    bench = Bench(trial)
    bench.tell(0, level_m=1.0)
    assert bench.state.due_at == at(60)
    assert bench.wait(61) == []
    assert [f.alarm.raised for f in bench.last.findings] == [True]
    assert bench.state.status is DeviceStatus.OK


def gateway(heard_s: float) -> Parent:
    return Parent(code="G1", last_seen_at=at(heard_s), silent_after_s=300)


def child() -> Bench:
    bench = Bench(OFFLINE, device=make_device(parent_id=UUID(int=7), settings={"offline_after_s": 100}))
    bench.tell(0, level_m=1.0)
    return bench


def test_children_raise_nothing_of_their_own_while_their_gateway_is_down() -> None:
    bench = child()
    bench.parent = gateway(0)
    for second in range(101, 3000, 50):  # before and after the gateway's own time is over
        assert bench.wait(second) == []
    assert bench.state.status is DeviceStatus.OFFLINE
    assert bench.state.rule_state["device_offline@offline"]["judged"]["gateway"] == "G1"


def test_after_the_gateway_is_back_a_child_has_its_whole_time_again() -> None:
    bench = child()
    bench.parent = gateway(0)
    bench.wait(400)
    bench.parent = gateway(1000)
    assert bench.wait(1000) == bench.wait(1100) == []
    bench.parent = gateway(1101)
    assert told(bench.wait(1101)) == [("device_offline", True)]


def test_a_child_that_speaks_after_its_gateway_came_back_was_never_offline_by_itself() -> None:
    bench = child()
    bench.parent = gateway(0)
    bench.wait(400)
    bench.parent = gateway(1000)
    bench.wait(1000)
    assert bench.tell(1050, level_m=1.0) == []
    assert bench.state.status is DeviceStatus.OK


def test_a_child_that_is_silent_while_its_gateway_speaks_is_offline_itself() -> None:
    bench = child()
    bench.parent = gateway(90)
    assert told(bench.wait(101)) == [("device_offline", True)]


def test_what_nobody_could_hear_is_no_silence() -> None:
    """After a broker's outage devices get the rest of their own time, not an alarm each (ThingsBoard #13715)."""
    bench = Bench(OFFLINE, deaf=[(at(100), at(4000))])
    bench.tell(0, level_m=1.0)
    assert bench.state.due_at == at(4800)
    assert bench.wait(4000) == bench.wait(4800) == []
    assert bench.state.status is DeviceStatus.OK
    assert told(bench.wait(4801)) == [("device_offline", True)]


def test_a_device_that_comes_and_goes_all_the_time_is_one_alarm() -> None:
    bench = Bench(OFFLINE, device=make_device(settings={"offline_after_s": 10}))
    for second in range(0, 2000, 40):
        bench.tell(second, level_m=1.0)
        bench.wait(second + 11)
    assert len([a for a in bench.alarms if a.raised]) == 2  # the first time, and once for all the rest


# ---------------------------------------------------------------- due


def random_rules(rng: random.Random) -> tuple[AlarmRule, ...]:
    """Some of everything that time alone moves."""
    start, end = rng.randrange(24), rng.randrange(24)
    window = {"start": f"{start:02d}:00", "end": f"{end:02d}:30"}
    all_rules = [
        make_rule("offline", "device_offline", number=1, parameters={"offline_after_s": rng.choice([300, 4000])}),
        make_rule("no_data", "missing", number=2, parameters={"metric": "battery_pct", "after_s": 1800}),
        make_rule(
            "no_event",
            "silent",
            number=3,
            parameters={"span_s": rng.choice([1800, 9000]), "day_start": window["start"], "day_end": window["end"]},
        ),
        make_rule(
            "many_events",
            "busy",
            number=4,
            parameters={"events": 2, "span_s": 1200, "window_start": "00:00", "window_end": "00:00"},
        ),
        make_rule(
            "threshold",
            "low",
            number=5,
            window=window,
            damping={"changes": 3, "span_s": 900},
            parameters={"metric": "battery_pct", "limit": 50, "side": "lower", "hysteresis": 10},
        ),
    ]
    return tuple(rule for rule in all_rules if rng.random() < 0.7)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_waiting_for_the_due_instant_finds_what_looking_every_time_would_find(seed: int) -> None:
    rng = random.Random(seed)
    rules = random_rules(rng)
    care = {"care": True, "silent_span_s": 3000, "night_span_s": 900, "night_openings": 2, "offline_after_s": 5000}
    device = make_device("door_sensor", settings=care)
    quiets = [quiet(5000, 20_000, device_id=device.id, rule=rng.choice(["", "low", "door_silent"]))]
    full, due = (Bench(*rules, device=device, quiets=quiets, due_only=d) for d in (False, True))
    names = {rule.name for rule in rules} | {"door_silent", "door_night"}
    for bench in (full, due):
        bench._names = names
    second, tick = 0.0, 60.0
    for _ in range(120):
        if rng.random() < 0.35:
            fields: dict[str, Any] = {"open": rng.random() < 0.5}
            if rng.random() < 0.6:
                fields["battery_pct"] = rng.choice([40, 55, 65, 90])
            late_s = rng.choice([0.0, 0.0, 500.0])
            is_event = rng.random() < 0.5
            for bench in (full, due):
                bench.tell(second, measured=second - late_s, event=is_event, **fields)
        second += tick if rng.random() < 0.9 else rng.choice([3000.0, 20_000.0])
        full.wait(second)
        due.wait(second)
        assert due.state.status == full.state.status
        assert due.state.alarms == full.state.alarms
        assert due.state.rule_state == full.state.rule_state
    assert due.alarms == full.alarms


def test_a_device_without_timed_rules_is_due_when_it_would_be_silent_and_then_no_more() -> None:
    bench = Bench()
    bench.tell(0, level_m=1.0)
    assert bench.state.due_at == at(900)
    bench.wait(901)
    assert bench.state.status is DeviceStatus.OFFLINE and bench.state.due_at is None


def test_every_kinds_timed_rules_say_when_they_are_due() -> None:
    silent = [
        f"{kind.name}.{rule.name}" for kind in KINDS.values() for rule in kind.rules if rule.timed and not rule.due
    ]
    assert silent == []


def test_spans_in_which_nobody_listened_add_up() -> None:
    book = RuleBook(deaf=((at(100), at(200)), (at(300), at(400))))
    assert book.heard_from(at(0)) == at(200)
    assert book.heard_from(at(150)) == at(150) + timedelta(seconds=50 + 100)
    assert book.heard_from(at(350)) == at(400)
    assert book.heard_from(at(500)) == at(500)
    assert isinstance(book.heard_from(at(0)), datetime)
