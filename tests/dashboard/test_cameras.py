"""Cameras: the list, the record, the scene with its versions, and a scene tried before it is live."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from kernel.db import Database
from tests.dashboard.conftest import STREET_A, STREET_B, Server, SignIn, now, tell_state
from tests.dashboard.test_camera import put_camera, server
from vision.store import save_states

__all__ = ["server"]
KERB = {
    "name": "南侧路缘",
    "rule": "illegal_parking",
    "polygon": [[0.1, 0.5], [0.6, 0.5], [0.6, 0.9]],
    "parameters": {},
}
SECRET = "rtsp://admin:pa55@127.0.0.1:8554/main"


def test_a_scene_is_checked_versioned_and_audited(server: Server, database: Database, sign_in: SignIn) -> None:
    path = f"/api/v1/cameras/{put_camera(database, SECRET)}/scene"
    engineer, operator = sign_in(roles=("engineer",)), sign_in("wang")
    shown = operator.get(path).json()
    assert shown["version"] == 1 and shown["scene"]["zones"][0]["name"] == "north kerb"
    rules = {rule["name"]: rule for rule in shown["rules"]}
    assert rules["illegal_parking"]["title_zh"] and "dwell_s" in rules["illegal_parking"]["schema"]["properties"]
    assert operator.put(path, json={"scene": {"zones": []}}).status_code == 403
    bow = {**KERB, "polygon": [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]}
    refused = engineer.put(path, json={"scene": {"zones": [bow]}}, headers={"If-Match": "1"})
    assert (refused.status_code, refused.json()["code"]) == (422, "scene_refused")
    params = refused.json()["params"]
    assert (params["zone"], params["why"]) == ("南侧路缘", "crosses") and "crosses itself" in params["reason"]
    changed = engineer.put(path, json={"scene": {"zones": [KERB]}}, headers={"If-Match": '"1"'})
    assert changed.status_code == 200 and changed.json()["version"] == 2 and changed.headers["etag"] == '"2"'
    late = engineer.put(path, json={"scene": {"zones": []}}, headers={"If-Match": "1"})
    assert (late.status_code, late.json()["code"]) == (412, "version_conflict")
    assert operator.get(path).json()["scene"]["zones"] == [KERB]
    with database.transaction() as connection:
        before = connection.execute("SELECT version, scene, changed_by FROM camera_scene").fetchall()
        audited = connection.execute("SELECT actor FROM audit WHERE action = 'scene_changed'").fetchall()
    assert [(row[0], row[1]["zones"][0]["name"], row[2]) for row in before] == [(1, "north kerb", "lin")]
    assert audited == [("lin",)]


def test_the_list_says_at_which_preset_a_moving_camera_stands(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    camera_id = UUID(put_camera(database, SECRET))
    with database.transaction() as connection:
        tell_state(connection, camera_id, looks_per_s=2.0)
        connection.execute(
            "UPDATE camera SET scene = scene || %s", (Jsonb({"presets": [{"name": "gate", "view": ""}]}),)
        )
        save_states(connection, camera_id, {("", "turn"): {"preset": "gate"}}, now())
    client = sign_in()
    assert client.get("/api/v1/cameras").json()[0]["watch"]["preset"] == "gate"
    with database.transaction() as connection:
        save_states(connection, camera_id, {("", "turn"): {"preset": "gate"}}, now() - timedelta(minutes=1))
    assert client.get("/api/v1/cameras").json()[0]["watch"]["preset"] is None


def test_a_record_takes_addresses_and_never_tells_them(server: Server, database: Database, sign_in: SignIn) -> None:
    camera_id = put_camera(database, SECRET)
    path = f"/api/v1/cameras/{camera_id}/record"
    engineer = sign_in(roles=("engineer",))
    said = {
        "substream_url": "rtsp://admin:pa55@127.0.0.1:8554/sub?key=s3cret", "maker": "海康威视", "model": "DS-2CD",
        "onvif_profile": "Profile_1", "ptz": True,
        "gb_device_id": "34020000001110000001", "gb_channel_id": "34020000001320000001",
    }  # fmt: skip
    record = engineer.patch(path, json=said)
    assert record.status_code == 200, record.text
    assert record.json()["substream_address"] == "rtsp://127.0.0.1:8554/sub?…" and record.json()["maker"] == "海康威视"
    assert record.json()["gb_channel_id"] == "34020000001320000001" and record.json()["ptz"] is True
    for wrong, code in (
        ({"url": "rtsp://169.254.169.254/latest"}, "bad_address"),
        ({"url": "http://127.0.0.1/"}, "bad_address"),
        ({"gb_channel_id": "34020000002150000001"}, "bad_gb_code"),
        ({"gb_device_id": "123"}, "bad_gb_code"),
        ({"onvif_address": "http://admin:pa55@10.0.0.1/onvif"}, "bad_onvif_address"),
    ):
        answer = engineer.patch(path, json=wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
        assert "pa55" not in answer.text.replace(str(wrong), "")
    listed = engineer.get("/api/v1/cameras")
    assert listed.json()[0]["live"] == {
        "mode": "mse", "codec": None, "width": None, "height": None, "substream": True, "reason": None,
    }  # fmt: skip
    with database.transaction() as connection:
        connection.execute("""UPDATE camera SET encoder = '{"main": {"codec": "hevc"}, "sub": {"codec": "hevc"}}'""")
        audited = connection.execute("SELECT detail::text FROM audit WHERE action = 'camera_changed'").fetchone()
        tell_state(connection, UUID(camera_id), frame_age_s=0.1, moved_s=45.0, looks_per_s=2.5, skipped_fps=0.5, fps=12)
    live, watch = (engineer.get("/api/v1/cameras").json()[0][part] for part in ("live", "watch"))
    assert (live["mode"], live["reason"]) == ("jpeg", "h265")
    assert (watch["blind"], watch["moved"], watch["looks_per_s"], watch["skipped_fps"]) == ("moved", True, 2.5, 0.5)
    for text in (listed.text, engineer.get(path).text, str(audited)):
        assert "pa55" not in text and "s3cret" not in text and "admin" not in text
    assert sign_in("zhao", scope=STREET_B).get("/api/v1/cameras").json() == []
    assert sign_in("qian", scope=STREET_B).get(path).status_code == 404


def test_a_view_is_confirmed_and_a_rehearsal_asked_for_watched_and_cancelled(
    server: Server, database: Database, sign_in: SignIn
) -> None:
    camera_id = put_camera(database, SECRET)
    engineer = sign_in(roles=("engineer",), scope=STREET_A)
    assert engineer.post(f"/api/v1/cameras/{camera_id}/view/confirm").status_code == 200
    base = f"/api/v1/cameras/{camera_id}/rehearsals"
    wrong = {**KERB, "rule": "no_such_rule"}
    assert engineer.post(base, json={"scene": {"zones": [wrong]}}).json()["code"] == "scene_refused"
    ids = [engineer.post(base, json={"scene": {"zones": [KERB]}, "minutes": 60}).json()["id"] for _ in range(3)]
    assert engineer.post(base, json={"scene": {"zones": [KERB]}}).json()["code"] == "too_many_rehearsals"
    shown: dict[str, Any] = engineer.get(f"{base}/{ids[0]}").json()
    assert (shown["state"], shown["progress"], shown["findings"], shown["error"]) == ("waiting", 0.0, [], None)
    assert sign_in("wang").get(f"{base}/{ids[0]}").status_code == 403
    assert engineer.delete(f"{base}/{ids[0]}").status_code == 204
    assert engineer.get(f"{base}/{ids[0]}").json()["code"] == "unknown_rehearsal"
    with database.transaction() as connection:
        row = connection.execute("SELECT view_confirmed_at FROM camera").fetchone()
    assert row is not None and row[0] is not None
