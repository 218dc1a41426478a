"""The simulated firmware keeps the contract of docs/commands-to-devices.md."""

import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.firmware import REMEMBERED, Firmware, Memory

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
FIELDS = {"level_m": 1.4, "gate_opening_m": 0.2, "gate_moving": False, "control_mode": "remote", "pumps_running": 0}


def sluice(memory: Memory | None = None) -> Firmware:
    return Firmware("river_sluice", dict(FIELDS), memory)


def command(number: int, name: str = "set_gate_opening", **parameters: Any) -> dict[str, Any]:
    if name == "set_gate_opening" and not parameters:
        parameters = {"opening_m": 0.5}
    return {
        "v": 1, "id": f"c-{number}", "seq": number, "nonce": f"nonce-{number:04d}", "at": NOW.isoformat(),
        "expires_at": (NOW + timedelta(seconds=30)).isoformat(), "name": name, "parameters": parameters,
    }  # fmt: skip


def words(answers: list[Any]) -> list[tuple[str, str]]:
    return [(answer.result, answer.detail) for answer in answers]


def test_a_gate_moves_gradually_and_says_when_it_stands() -> None:
    gate = sluice()
    assert words(gate.take(command(1), NOW)) == [("accepted", "")]
    assert gate.fields["gate_moving"] and gate.advance(1.0) == []
    assert gate.fields["gate_opening_m"] == pytest.approx(0.3)
    assert words(gate.advance(5.0)) == [("done", "")]
    assert gate.fields["gate_opening_m"] == pytest.approx(0.5) and not gate.fields["gate_moving"]


def test_a_repeat_is_answered_and_not_executed_again_even_after_a_restart() -> None:
    gate = sluice()
    gate.take(command(1), NOW)
    gate.advance(10.0)
    assert words(gate.take(command(1), NOW)) == [("done", "")]
    again = Firmware("river_sluice", gate.fields, copy.deepcopy(gate.memory))
    assert words(again.take(command(1), NOW)) == [("done", "")]
    assert gate.executed == ["c-1"] and again.executed == []


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (command(2) | {"nonce": "nonce-0001"}, "replayed"),
        (command(1) | {"id": "other", "nonce": "nonce-other"}, "reordered"),
        (command(0), "reordered"),
        (command(2) | {"expires_at": (NOW - timedelta(seconds=1)).isoformat()}, "expired"),
        (command(2, "explode"), "unknown_command"),
        (command(2, opening_m=-1.0), "bad_parameters"),
        (command(2, opening_m=0.5, force=True), "bad_parameters"),
    ],
)
def test_what_is_replayed_late_reordered_or_nonsense_is_refused(body: dict[str, Any], word: str) -> None:
    gate = sluice()
    gate.take(command(1), NOW)
    gate.advance(10.0)
    assert words(gate.take(body, NOW)) == [("refused", word)]
    assert gate.executed == ["c-1"]


def test_without_a_clock_nothing_is_executed() -> None:
    gate = sluice()
    gate.knows_time = False
    assert words(gate.take(command(1), NOW)) == [("refused", "clock_unknown")]


def test_what_was_refused_stays_refused_when_it_is_repeated() -> None:
    gate = sluice()
    gate.set_local(True)
    assert words(gate.take(command(1), NOW)) == [("refused", "local_control")]
    gate.set_local(False)
    assert words(gate.take(command(1), NOW)) == [("refused", "local_control")]
    assert gate.executed == [] and gate.fields["gate_opening_m"] == 0.2


def test_turning_the_local_switch_stops_what_moves() -> None:
    gate = sluice()
    gate.take(command(1), NOW)
    gate.advance(1.0)
    gate.set_local(True)
    assert words(gate.advance(1.0)) == [("failed", "local_control")]
    assert gate.fields["gate_opening_m"] == pytest.approx(0.3)


def test_a_halt_ends_the_movement_and_a_movement_that_comes_after_it_is_refused() -> None:
    gate = sluice()
    gate.take(command(1), NOW)
    gate.advance(1.0)
    halted = gate.take(command(3, "stop_gate"), NOW)
    assert {(a.command_id, a.result, a.detail) for a in halted} == {
        ("c-3", "accepted", ""), ("c-1", "failed", "halted"), ("c-3", "done", ""),
    }  # fmt: skip
    assert words(gate.take(command(2), NOW)) == [("refused", "reordered")]


def test_one_movement_at_a_time() -> None:
    gate = sluice()
    gate.take(command(1), NOW)
    assert words(gate.take(command(2), NOW)) == [("refused", "busy")]


def test_a_gate_that_sticks_says_so() -> None:
    gate = sluice()
    gate.stuck = True
    gate.take(command(1), NOW)
    assert gate.advance(2.0) == []
    assert words(gate.advance(4.0)) == [("failed", "stuck")]
    assert gate.fields["gate_opening_m"] == 0.2


def test_power_off_and_on_leaves_the_gate_where_it_is() -> None:
    gate = sluice()
    gate.take(command(1), NOW)
    gate.advance(1.0)
    assert words(gate.restart()) == [("failed", "restarted")]
    assert gate.advance(5.0) == [] and gate.fields["gate_opening_m"] == pytest.approx(0.3)
    assert words(gate.take(command(1), NOW)) == [("failed", "restarted")]


def test_a_barrier_does_not_come_down_on_a_car() -> None:
    fields = {"barrier": "open", "vehicle_present": True, "fault": False, "control_mode": "remote"}
    gate = Firmware("parking_gate", fields)
    assert words(gate.take(command(1, "close_barrier"), NOW)) == [("refused", "obstructed")]
    fields["vehicle_present"] = False
    assert words(gate.take(command(2, "close_barrier"), NOW)) == [("accepted", "")]
    assert words(gate.advance(1.0)) == [("done", "")] and fields["barrier"] == "closed"


def test_a_barrier_that_is_held_stays_up_and_another_comes_down() -> None:
    held, passing = (Firmware("parking_gate", {"barrier": "closed", "vehicle_present": False}) for _ in range(2))
    held.take(command(1, "hold_open"), NOW)
    passing.take(command(1, "open_barrier"), NOW)
    for gate in (held, passing):
        gate.advance(1.0)
        assert gate.fields["barrier"] == "open"
        for _ in range(20):
            gate.advance(1.0)
    assert held.fields["barrier"] == "open" and held.fields["barrier_held"]
    assert passing.fields["barrier"] == "closed"


def test_a_siren_stops_by_itself() -> None:
    siren = Firmware("siren", {"sounding": False})
    assert words(siren.take(command(1, "sound", duration_s=3), NOW)) == [("accepted", ""), ("done", "")]
    assert siren.fields["sounding"]
    siren.advance(4.0)
    assert not siren.fields["sounding"]


def test_its_memory_does_not_grow_for_ever() -> None:
    gate = sluice()
    for number in range(REMEMBERED + 50):
        gate.take(command(number, "stop_gate"), NOW)
    assert len(gate.memory.answers) <= REMEMBERED and len(gate.memory.nonces) <= REMEMBERED


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(changes=st.dictionaries(st.sampled_from([*command(1), "extra"]), json_like, max_size=5))
def test_garbage_never_breaks_it(changes: dict[str, Any]) -> None:
    gate = sluice()
    gate.take(command(1) | changes, NOW)
    gate.advance(1.0)
    assert 0 <= gate.fields["gate_opening_m"] <= 50


def test_the_page_names_every_word_of_a_refusal() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "commands-to-devices.md").read_text("utf-8")
    source = Path(Firmware.__init__.__code__.co_filename).read_text("utf-8")
    for word in ("clock_unknown", "expired", "replayed", "reordered", "local_control", "obstructed", "busy",
                 "unknown_command", "bad_parameters", "stuck", "halted", "restarted"):  # fmt: skip
        assert f'"{word}"' in source and f"`{word}`" in page
