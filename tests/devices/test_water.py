"""Water classes at the borders of the table (GB 3838-2002, table 1)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.water import ITEMS, WaterClass, describe_water, judge_item, judge_water

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
CLASSES = list(WaterClass)
# The standard's own figures, written down a second time.
RIVER = {
    "dissolved_oxygen_mg_l": [7.5, 6, 5, 3, 2],
    "codmn_mg_l": [2, 4, 6, 10, 15],
    "cod_mg_l": [15, 15, 20, 30, 40],
    "ammonia_nitrogen_mg_l": [0.15, 0.5, 1.0, 1.5, 2.0],
    "total_phosphorus_mg_l": [0.02, 0.1, 0.2, 0.3, 0.4],
}


@pytest.mark.parametrize("metric", RIVER)
def test_a_value_on_the_border_still_has_the_class_and_one_beyond_it_has_not(metric: str) -> None:
    worse = -1 if metric == "dissolved_oxygen_mg_l" else 1
    for index, limit in enumerate(RIVER[metric]):
        best = RIVER[metric].index(limit)  # COD: I and II have one limit
        assert judge_item(metric, limit) == CLASSES[best]
        assert CLASSES.index(judge_item(metric, limit + worse * 1e-6)) > index


def test_a_lake_has_stricter_limits_of_phosphorus_and_of_nothing_else() -> None:
    for limit, river, lake in ((0.01, "I", "I"), (0.02, "I", "II"), (0.05, "II", "III"), (0.2, "III", "V"), (0.21, "IV", "worse_than_V")):  # fmt: skip
        assert judge_item("total_phosphorus_mg_l", limit) == river
        assert judge_item("total_phosphorus_mg_l", limit, "lake") == lake
    assert judge_item("codmn_mg_l", 4.0, "lake") == "II"


@pytest.mark.parametrize(("ph", "verdict"), [(6.0, "I"), (9.0, "I"), (5.99, "worse_than_V"), (9.01, "worse_than_V")])
def test_ph_has_one_range_for_all_classes(ph: float, verdict: str) -> None:
    assert judge_item("ph", ph) == verdict


def test_turbidity_has_no_class() -> None:
    with pytest.raises(KeyError):
        judge_item("turbidity_ntu", 5.0)
    assert describe_water({"turbidity_ntu": {"value": 5.0, "at": NOW.isoformat()}}) is None


def test_the_worst_item_decides_and_what_is_missing_is_said() -> None:
    quality = judge_water(
        {
            "dissolved_oxygen_mg_l": (8.0, NOW),
            "ammonia_nitrogen_mg_l": (1.2, NOW),
            "codmn_mg_l": (3.0, NOW),
            "ph": (7.2, NOW),
        }
    )
    assert (quality.water_class, quality.deciding_items) == ("IV", ("ammonia_nitrogen_mg_l",))
    assert quality.missing == ("total_phosphorus_mg_l",)


def test_ph_alone_gives_no_class_but_can_spoil_one() -> None:
    assert judge_water({"ph": (7.0, NOW)}).water_class is None
    assert describe_water({"ph": {"value": 7.0, "at": NOW.isoformat()}}) is None
    spoiled = judge_water({"ph": (4.0, NOW), "dissolved_oxygen_mg_l": (9.0, NOW)})
    assert (spoiled.water_class, spoiled.deciding_items) == (WaterClass.WORSE_THAN_V, ("ph",))


def test_an_item_that_was_measured_long_before_the_others_counts_as_missing() -> None:
    quality = judge_water({"codmn_mg_l": (14.0, NOW - timedelta(hours=25)), "dissolved_oxygen_mg_l": (8.0, NOW)})
    assert quality.water_class == "I" and "codmn_mg_l" in quality.missing


def test_the_json_names_class_items_and_instants() -> None:
    metrics = {
        "codmn_mg_l": {"value": 5.0, "at": NOW.isoformat()},
        "ammonia_nitrogen_mg_l": {"value": 0.9, "at": NOW.isoformat()},
        "level_m": {"value": 1.0, "at": NOW.isoformat()},
    }
    found = describe_water(metrics)
    assert found is not None and found["class"] == "III" and found["deciding_item"] == "ammonia_nitrogen_mg_l"
    assert found["deciding_items"] == ["ammonia_nitrogen_mg_l", "codmn_mg_l"]
    assert [item["metric"] for item in found["items"]] == ["ammonia_nitrogen_mg_l", "codmn_mg_l"]


@given(st.dictionaries(st.sampled_from(ITEMS), st.floats(0, 50), min_size=1))
def test_the_class_is_never_better_than_that_of_any_item(values: dict[str, float]) -> None:
    quality = judge_water({metric: (value, NOW) for metric, value in values.items()})
    classes = [CLASSES.index(item.water_class) for item in quality.items if item.metric != "ph"]
    if quality.water_class is not None:
        assert CLASSES.index(quality.water_class) >= max(classes, default=0)
        assert quality.deciding_items
