"""The register over HTTP: who may read and change it, lists, keys, labels, and what is missing for a device."""

import base64
import hashlib
import io
import json
import re
import socket
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import openpyxl
import pytest

from dashboard.device_check import find_near
from devices.credential import issue_key, verify_key
from devices.store import read_device
from ingest.batch import take_batch
from ingest.decode import Raw
from kernel.db import Database
from tests.conftest import free_port
from tests.dashboard.conftest import STREET_A, STREET_B, Server, SignIn, now, put_device, tell_state

API = "/api/v1/devices"
NEW = {"code": "S-1", "kind": "smoke_alarm", "name": "7号楼", "lon": 120.17, "lat": 30.28}


@pytest.fixture
def engineer(server: Server, sign_in: SignIn, cells: None) -> httpx.Client:
    return sign_in("wang", ("engineer",))


@pytest.fixture
def open_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def add(engineer: httpx.Client, **more: Any) -> dict[str, Any]:
    answer = engineer.post(API, json=NEW | more)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def audit(database: Database) -> list[tuple[Any, ...]]:
    with database.transaction() as connection:
        rows = connection.execute("SELECT actor, action, subject FROM audit ORDER BY id").fetchall()
    return [row for row in rows if row[1] not in ("signed_in", "user_added", "login", "link_used")]


def upload(client: httpx.Client, name: str, data: bytes, **query: Any) -> httpx.Response:
    return client.post(f"{API}/import", files={"file": (name, data)}, params=query)


def test_an_engineer_registers_a_device_and_changes_it(engineer: httpx.Client, database: Database) -> None:
    made = add(
        engineer,
        crs="gcj02",
        owner_unit="城北街道",
        building="7号楼",
        floor="3",
        maker="某厂",
        settings={"offline_after_s": 60},
    )
    assert made["registry"]["source_crs"] == "gcj02" and made["registry"]["source_lon"] == 120.17
    assert abs(made["lon"] - 120.17) > 0.001 and made["cell_code"] == STREET_A + "001001"  # the map's place is another
    assert made["registry"]["owner_unit"] == "城北街道" and made["registry"]["settings"] == {"offline_after_s": 60}
    changed = engineer.patch(
        f"{API}/{made['id']}", json={"name": "8号楼", "floor": "4", "lon": 120.18, "lat": 30.28, "crs": "EPSG:4490"}
    )
    assert changed.status_code == 200, changed.text
    body = changed.json()
    assert (body["name"], body["registry"]["floor"], body["registry"]["building"]) == ("8号楼", "4", "7号楼")
    assert body["lon"] == 120.18 and body["cell_code"] == STREET_B + "001001"
    assert [row[1:] for row in audit(database)] == [("device_added", "S-1"), ("device_changed", "S-1")]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"code": "a/b"}, "bad_code"), ({"code": "#"}, "bad_code"), ({"code": "a+"}, "bad_code"),
        ({"code": "a\u0001"}, "bad_code"), ({"code": "platform"}, "reserved_code"), ({"kind": "toaster"}, "unknown_kind"),
        ({"lon": 121.5}, "outside_grid"), ({"crs": "EPSG:1"}, "unknown_crs"), ({"settings": {"nonsense": 1}}, "bad_settings"),
        ({"name": "a\u0007b"}, "bad_text"), ({"parent": "nobody"}, "unknown_parent"), ({"parent": "D-1"}, "not_a_gateway"),
        ({"kind": "camera"}, "no_address"), ({"kind": "camera", "url": "file:///etc/passwd"}, "bad_address"),
        ({"surprise": 1}, "invalid_request"),
    ],
)  # fmt: skip
def test_what_the_register_refuses_has_a_stable_code(
    engineer: httpx.Client, database: Database, change: dict[str, Any], code: str
) -> None:
    with database.transaction() as connection:
        put_device(connection, "D-1")
    answer = engineer.post(API, json=NEW | change)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert len(engineer.get(API).json()) == 1


def test_a_code_is_taken_once(engineer: httpx.Client) -> None:
    add(engineer)
    again = engineer.post(API, json=NEW)
    assert (again.status_code, again.json()["code"]) == (409, "code_taken")


def test_operators_read_the_register_and_do_not_change_it(engineer: httpx.Client, sign_in: SignIn) -> None:
    device_id = add(engineer)["id"]
    operator, worker = sign_in("lin"), sign_in("chen", ("grid_worker",), STREET_A)
    shown = operator.get(f"{API}/{device_id}").json()
    assert shown["registry"]["enabled"] is True and shown["credentials"] == []
    assert operator.get(f"{API}/{device_id}/check").status_code == 200
    assert worker.get(f"{API}/{device_id}").json()["registry"] is None
    attempts = [
        ("POST", API, NEW), ("PATCH", f"{API}/{device_id}", {"name": "x"}),
        ("POST", f"{API}/{device_id}/credentials", {}), ("DELETE", f"{API}/{device_id}/credentials/1", None),
    ]  # fmt: skip
    for client in (operator, worker):
        for method, path, body in attempts:
            assert client.request(method, path, json=body).json()["code"] == "not_your_role", (method, path)
        assert upload(client, "a.csv", b"x").json()["code"] == "not_your_role"
    assert worker.get(f"{API}/{device_id}/check").json()["code"] == "not_your_role"


def test_an_engineer_of_one_street_reaches_no_other(engineer: httpx.Client, sign_in: SignIn) -> None:
    elsewhere = add(engineer, code="S-2", lon=120.18)["id"]
    local = sign_in("zhao", ("engineer",), STREET_A)
    assert local.post(API, json=NEW | {"code": "S-3", "lon": 120.18}).json()["code"] == "outside_scope"
    assert local.post(API, json=NEW).status_code == 201
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("POST", "/credentials"),
        ("GET", "/check"),
        ("GET", "/label.svg"),
    ):
        answer = local.request(method, f"{API}/{elsewhere}{path}", json={} if method != "GET" else None)
        assert answer.json()["code"] == "unknown_device", path
    assert [device["code"] for device in local.get(API).json()] == ["S-1"]


def test_the_list_is_narrowed_by_kind_state_text_and_gateway(engineer: httpx.Client, database: Database) -> None:
    gateway = add(engineer, code="G-1", kind="gateway", name="网关")
    child = add(engineer, code="S-1", parent="G-1", serial="SN-0815")
    off = add(engineer, code="S-2", name="停用的")
    with database.transaction() as connection:
        tell_state(connection, read_device(connection, "S-1").id, battery_pct=80.0)
    engineer.patch(f"{API}/{off['id']}", json={"enabled": False})

    def codes(**query: Any) -> list[str]:
        return [device["code"] for device in engineer.get(API, params=query).json()]

    assert codes() == ["G-1", "S-1"] and codes(disabled=True) == ["G-1", "S-1", "S-2"]
    assert codes(kind="gateway") == ["G-1"] and codes(status="ok") == ["S-1"] and codes(parent=gateway["id"]) == ["S-1"]
    assert codes(q="sn-08") == ["S-1"] and codes(q="%") == [] and codes(q="网关") == ["G-1"]
    shown = engineer.get(f"{API}/{child['id']}").json()["registry"]["parent"]
    assert (shown["code"], shown["name"]) == ("G-1", "网关")
    assert engineer.get(f"{API}/{gateway['id']}").json()["registry"]["children"] == 1
    loosened = engineer.patch(f"{API}/{child['id']}", json={"parent": ""}).json()
    assert loosened["registry"]["parent"] is None


LIST = "编码,类型,名称,经度,纬度,网关\nS-1,烟感,甲,120.17,30.28,G-1\nS-2,烟感,乙,120.171,30.28,\nG-1,网关,丙,120.17,30.28,\n"


def test_a_list_is_only_tried_until_it_is_asked_to_be_applied(engineer: httpx.Client) -> None:
    tried = upload(engineer, "list.csv", LIST.encode()).json()
    assert (tried["good"], tried["bad"], tried["applied"]) == (3, 0, False) and engineer.get(API).json() == []
    applied = upload(engineer, "list.csv", LIST.encode("gb18030"), apply=True).json()
    assert (applied["good"], applied["applied"]) == (3, True)
    assert [row["line"] for row in applied["rows"]] == [2, 3, 4]  # in the file's order, though the gateway went first
    assert {device["code"] for device in engineer.get(API).json()} == {"S-1", "S-2", "G-1"}
    again = upload(engineer, "list.csv", LIST.encode(), apply=True).json()
    assert (again["bad"], again["applied"]) == (3, False)
    assert {problem["code"] for row in again["rows"] for problem in row["problems"]} == {"code_taken"}


def test_a_list_with_one_bad_row_registers_nothing_and_says_which(engineer: httpx.Client) -> None:
    book = openpyxl.Workbook()
    for row in (
        ["code", "kind", "lon", "lat"],
        ["S-1", "smoke_alarm", 120.17, 30.28],
        ["S-2", "smoke_alarm", 121.9, 30.28],
    ):
        book.active.append(row)
    packed = io.BytesIO()
    book.save(packed)
    told = upload(engineer, "list.xlsx", packed.getvalue(), apply=True).json()
    assert (told["good"], told["bad"], told["applied"]) == (1, 1, False)
    [bad] = [row for row in told["rows"] if not row["ok"]]
    assert (bad["line"], bad["code"], bad["problems"][0]["code"]) == (3, "S-2", "outside_grid")
    assert engineer.get(API).json() == []


def test_geojson_and_files_that_are_no_list(engineer: httpx.Client) -> None:
    feature = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [120.17, 30.28]},
               "properties": {"code": "S-1", "kind": "smoke_alarm"}}  # fmt: skip
    data = json.dumps({"type": "FeatureCollection", "features": [feature]}).encode()
    assert upload(engineer, "list.geojson", data, apply=True).json()["applied"] is True
    assert upload(engineer, "list.pdf", data).json()["code"] == "unknown_format"
    assert upload(engineer, "list.csv", b"\xff\xfe\x00").json()["code"] == "not_csv"
    for suffix in ("csv", "xlsx"):
        template = engineer.get(f"{API}/import-template.{suffix}")
        assert template.status_code == 200 and "attachment" in template.headers["content-disposition"]
        assert upload(engineer, f"t.{suffix}", template.content).json()["rows"][0]["code"] == "smoke-001"


def test_a_key_is_told_once_and_opens_its_device(engineer: httpx.Client, database: Database) -> None:
    device_id = add(engineer)["id"]
    path = f"{API}/{device_id}/credentials"
    first = engineer.post(path, json={}, headers={"Idempotency-Key": "k1"}).json()
    assert first["user"] == "S-1" and first["previous_until"] is None
    second = engineer.post(path, json={"overlap_hours": 2}).json()
    assert (second["user"], second["number"]) == ("S-1@2", 2) and second["previous_until"] is not None
    shown = engineer.get(f"{API}/{device_id}")
    assert [c["number"] for c in shown.json()["credentials"]] == [1, 2]
    assert first["key"] not in shown.text and second["key"] not in shown.text
    with database.transaction() as connection:
        found = verify_key(connection, first["user"], first["key"], now() + timedelta(hours=1))
        assert found is not None and found.code == "S-1"
        kept = connection.execute("SELECT count(*) FROM idempotency WHERE body::text LIKE %s", (f"%{first['key']}%",))
        assert kept.fetchone() == (0,)
    ended = engineer.delete(f"{path}/2").json()
    assert ended["revoked_at"] is not None
    assert engineer.delete(f"{path}/9").json()["code"] == "unknown_credential"
    with database.transaction() as connection:
        assert verify_key(connection, "", second["key"], now()) is None
    assert [row[1] for row in audit(database)] == ["device_added", "key_issued", "key_issued", "key_revoked"]
    assert {row[0] for row in audit(database)} == {"wang"}


def test_a_label_is_a_drawing_with_a_code_to_scan(engineer: httpx.Client, server: Server) -> None:
    made = add(engineer, name='<b>&"7号楼"很长很长很长很长很长很长很长很长的名字</b>')
    label = engineer.get(f"{API}/{made['id']}/label.svg")
    assert label.headers["content-type"].startswith("image/svg+xml")
    root = ET.fromstring(label.text)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "S-1" and made["cell_code"] in texts and "烟感" in texts
    assert root.find(".//{http://www.w3.org/2000/svg}path") is not None
    answer = engineer.get(f"{API}/labels.html", params={"ids": made["id"]})
    sheet = answer.text
    [style] = re.findall("<style>(.*?)</style>", sheet)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in answer.headers["content-security-policy"]  # else a browser ignores it
    assert sheet.count("<svg") == 1 and "<script" not in sheet and "<b>" not in sheet
    assert engineer.get(f"{API}/labels.html", params={"ids": "x"}).json()["code"] == "bad_id"
    assert engineer.get(f"{API}/labels.html").text.count("<svg") == 1


def answers(engineer: httpx.Client, device_id: str) -> dict[str, dict[str, Any]]:
    answer = engineer.get(f"{API}/{device_id}/check")
    assert answer.status_code == 200, answer.text
    return {item["check"]: item for item in answer.json()}


def send(server: Server, database: Database, code: str, **fields: Any) -> None:
    body = {"v": 1, "id": "m1", "at": now().isoformat(), "status": "normal", **fields}
    payload = json.dumps(body).encode()
    raw = Raw(f"gridwarden/smoke_alarm/{code}/telemetry", payload, len(payload), now())
    take_batch(database, [raw], now(), server.settings.ingest, server.settings.city.timezone)


def test_the_check_names_what_is_missing_one_after_the_other(
    engineer: httpx.Client, server: Server, database: Database
) -> None:
    device_id = add(engineer)["id"]
    first = answers(engineer, device_id)
    assert {name for name, item in first.items() if item["ok"] is False} == {"key", "broker", "seen"}
    assert "rotate-key S-1" in first["key"]["mend_zh"]
    assert all(item["mend_zh"] and item["mend_en"] for item in first.values() if item["ok"] is False)
    with database.transaction() as connection:
        issue_key(connection, read_device(connection, "S-1"), now())
    send(server, database, "S-1", status="on fire")
    send(server, database, "s_1")
    second = answers(engineer, device_id)
    assert second["key"]["ok"] is True and "bad_payload" in second["refused"]["text_en"]
    assert "s_1" in second["near_miss"]["text_zh"]
    send(server, database, "S-1", id="m2")
    assert answers(engineer, device_id)["seen"]["ok"] is True
    engineer.patch(f"{API}/{device_id}", json={"enabled": False})
    assert answers(engineer, device_id)["enabled"]["ok"] is False


def test_the_check_tells_of_ended_keys_and_silent_gateways(engineer: httpx.Client, database: Database) -> None:
    gateway = add(engineer, code="G-1", kind="gateway")
    child = add(engineer, parent="G-1")
    assert answers(engineer, child["id"])["gateway"]["ok"] is None
    assert "G-1" in answers(engineer, child["id"])["key"]["mend_en"]
    key = engineer.post(f"{API}/{gateway['id']}/credentials", json={}).json()
    assert answers(engineer, child["id"])["key"]["text_en"].endswith("G-1")
    with database.transaction() as connection:
        connection.execute(
            "UPDATE device_state SET status = 'offline', last_seen_at = %s WHERE device_id = %s",
            (now() - timedelta(hours=3), gateway["id"]),
        )
    assert answers(engineer, child["id"])["gateway"]["ok"] is False
    engineer.delete(f"{API}/{gateway['id']}/credentials/{key['number']}")
    assert "revoked" in answers(engineer, child["id"])["key"]["text_en"]


def test_the_check_knows_codes_that_are_not_registered(
    engineer: httpx.Client, server: Server, database: Database
) -> None:
    add(engineer, code="smoke-001")
    send(server, database, "smoke_001")
    told = {item["check"]: item for item in engineer.get(f"{API}/check", params={"code": "smoke_001"}).json()}
    assert told["registered"]["ok"] is False and "smoke-001" in told["registered"]["text_en"]
    assert "unknown_device" in told["refused"]["text_en"]
    odd = {item["check"]: item for item in engineer.get(f"{API}/check", params={"code": "a#"}).json()}
    assert "cannot be" in odd["registered"]["text_en"]
    assert find_near("S-1", ["s_1", "S-1", "completely-different"]) == ["s_1"]


def test_the_devices_own_word_about_its_firmware_wins(
    engineer: httpx.Client, server: Server, database: Database
) -> None:
    device_id = add(engineer, firmware="1.0 as ordered")["id"]
    send(server, database, "S-1", firmware="1.4.2")
    assert engineer.get(f"{API}/{device_id}").json()["registry"]["firmware"] == "1.4.2"
    send(server, database, "S-1", id="m0", firmware="0.9", at=(now() - timedelta(hours=1)).isoformat())
    assert (
        engineer.get(f"{API}/{device_id}").json()["registry"]["firmware"] == "1.4.2"
    )  # what comes late says nothing new


def test_the_broker_is_looked_for_where_the_settings_say(open_port: int) -> None:
    from dashboard.device_check import check_broker
    from kernel.settings import MqttSettings

    assert check_broker(MqttSettings(port=open_port)).ok is True
    closed = check_broker(MqttSettings(port=free_port()))
    assert closed.ok is False and re.search(r"127\.0\.0\.1:\d+", closed.text_zh)


def test_a_long_list_is_read_in_pages_and_nothing_is_left_out_or_told_twice(engineer: httpx.Client) -> None:
    for number in range(5):
        add(engineer, code=f"P-{number}")
    whole = [device["code"] for device in engineer.get(API).json()]
    paged: list[str] = []
    after = 0
    while page := engineer.get(API, params={"limit": 2, "after": after}).json():
        assert len(page) <= 2
        paged += [device["code"] for device in page]
        after = page[-1]["map_id"]
    assert paged == whole and len(paged) >= 5
