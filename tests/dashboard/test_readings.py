"""Curves, water class and forecast as the pages ask for them."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from psycopg.types.json import Jsonb

from devices.forecast import STEP_S
from kernel.db import Connection, Database
from tests.dashboard.conftest import STREET_A, STREET_B, Server, SignIn, now, put_device, tell_state


def put_levels(connection: Connection, device_id: UUID, count: int, step_s: float, end_at: datetime) -> None:
    """`count` levels, one centimetre higher each, the last of which at `end_at`."""
    with connection.cursor() as cursor, cursor.copy("COPY reading FROM STDIN") as copy:
        for index in range(count):
            at = end_at - timedelta(seconds=step_s * (count - 1 - index))
            copy.write_row((device_id, "level_m", 1 + index / 100, at, at))


def test_a_span_from_one_instant_to_another_is_served_with_its_gaps(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    end_at = now().replace(microsecond=0) - timedelta(hours=2)
    with database.transaction() as connection:
        device_id = put_device(connection, "river-1", "river_sluice")
        put_levels(connection, device_id, 61, 60, end_at)
    client = sign_in()
    url = f"/api/v1/devices/{device_id}/readings"
    span = {"from": (end_at - timedelta(hours=1)).isoformat(), "to": (end_at + timedelta(hours=1)).isoformat()}
    body = client.get(url, params={"metric": "level_m", **span}).json()
    assert (body["unit"], body["bucket_s"], len(body["points"])) == ("m", None, 61)
    assert body["points"][0].keys() == {"at", "value", "least", "greatest", "n"}
    assert [datetime.fromisoformat(gap["from"]) for gap in body["gaps"]] == [end_at]
    buckets = client.get(url, params={"metric": "level_m", "bucket_s": 600, **span}).json()
    assert buckets["bucket_s"] == 600 and sum(point["n"] for point in buckets["points"]) == 61
    assert client.get(url, params={"metric": "level_m", "hours": 24 * 365}).json()["bucket_s"] % 3600 == 0


def test_a_span_that_cannot_be_served_is_refused_with_its_code(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    with database.transaction() as connection:
        device_id = put_device(connection, "river-1", "river_sluice")
    client = sign_in()
    url = f"/api/v1/devices/{device_id}/readings"
    here = now().isoformat()
    for params, code in (
        ({"from": here, "to": here}, "bad_span"),
        ({"bucket_s": 1.5}, "bad_bucket"),
        ({"bucket_s": 1, "hours": 48}, "too_many_points"),
        ({"from": "2026-11-20T08:00:00"}, "invalid_value"),
        ({"bucket_s": -1}, "invalid_request"),
        ({"max_points": 10**9}, "invalid_request"),
    ):
        answer = client.get(url, params={"metric": "level_m", **params})
        assert (answer.status_code, answer.json()["code"]) == (422, code), params


def test_readings_water_and_forecast_are_for_the_devices_own_district(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    with database.transaction() as connection:
        device_id = put_device(connection, "river-1", "river_sluice", STREET_A + "001")
    stranger = sign_in("wang", ("operator",), STREET_B)
    for path in ("readings?metric=level_m", "water", "forecast"):
        answer = stranger.get(f"/api/v1/devices/{device_id}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_device"), path


def test_the_water_class_names_the_item_that_decides_it(server: Server, database: Database, sign_in: SignIn) -> None:
    with database.transaction() as connection:
        device_id = put_device(connection, "river-1", "river_sluice")
        door_id = put_device(connection, "door-1")
        client = sign_in()
        url = f"/api/v1/devices/{device_id}/water"
    assert client.get(url).json()["code"] == "too_little_data"
    with database.transaction() as connection:
        tell_state(connection, device_id, dissolved_oxygen_mg_l=6.5, total_phosphorus_mg_l=0.04, codmn_mg_l=1.9)
    body = client.get(url).json()
    assert (body["class"], body["deciding_item"]) == ("II", "total_phosphorus_mg_l")
    assert body["missing"] == ["ammonia_nitrogen_mg_l"]
    with database.transaction() as connection:
        connection.execute("UPDATE device SET settings = %s WHERE id = %s", (Jsonb({"water_body": "lake"}), device_id))
    assert client.get(url).json()["class"] == "III"  # the same phosphorus, in a lake
    devices = {one["code"]: one for one in client.get("/api/v1/devices").json()}
    assert devices["river-1"]["water"]["class"] == "III" and devices["door-1"]["water"] is None
    assert client.get(f"/api/v1/devices/{door_id}/water").json()["code"] == "no_water"


def test_a_rising_level_is_forecast_with_its_error(server: Server, database: Database, sign_in: SignIn) -> None:
    end_at = now() - timedelta(seconds=60)
    with database.transaction() as connection:
        device_id = put_device(connection, "river-1", "river_sluice")
        put_levels(connection, device_id, 20 * 60, 60, end_at)  # 20 hours, a centimetre a minute
    client = sign_in()
    body = client.get(f"/api/v1/devices/{device_id}/forecast", params={"hours": 2}).json()
    assert body["method"] == "damped_holt" and len(body["points"]) == 12
    assert body["points"][0]["value"] > 12.9 and body["points"][-1]["value"] > body["points"][0]["value"] + 0.5
    assert all(p["low"] < p["value"] < p["high"] for p in body["points"])
    assert body["mean_absolute_error_m"] < body["persistence_error_m"]
    assert body["trained_on"]["steps"] in (120, 121)
    first_at = datetime.fromisoformat(body["points"][0]["at"])
    assert abs(first_at - end_at.astimezone(UTC)) <= timedelta(seconds=STEP_S)


def test_a_short_record_is_answered_with_what_is_missing(server: Server, database: Database, sign_in: SignIn) -> None:
    with database.transaction() as connection:
        device_id = put_device(connection, "river-1", "river_sluice")
        put_levels(connection, device_id, 60, 60, now())
    client = sign_in()
    answer = client.get(f"/api/v1/devices/{device_id}/forecast")
    assert (answer.status_code, answer.json()["code"]) == (409, "too_little_data")
    assert answer.json()["params"]["needs"] == 84 and answer.json()["params"]["has"] in (6, 7)
    answer = client.get(f"/api/v1/devices/{device_id}/forecast", params={"metric": "voltage_v"})
    assert answer.json()["code"] == "unknown_metric"
