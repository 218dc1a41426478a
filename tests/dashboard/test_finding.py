"""Findings over HTTP: judged by operators, counted by week, and what lies behind a mask opened once and for a reason."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from devices.store import DeviceRecord, add_camera
from kernel.db import Database
from kernel.ids import new_id
from kernel.report import Report, insert_report
from kernel.types import Source
from tests.dashboard.conftest import STREET_A, STREET_B, Server, SignIn, now
from vision.evidence import Original, Shown, keep_original, write_evidence, write_whole

PICTURE, ORIGINAL = b"\xff\xd8 masked", b"\xff\xd8 with a face"
MOVIE = bytes(range(256)) * 8


def put_camera(database: Database, code: str, area: str = STREET_A + "001") -> UUID:
    record = DeviceRecord(code=code, kind="camera", name=f"天水 {code}", lon=120.17, lat=30.28, area_code=area)
    with database.transaction("*") as connection:
        return add_camera(connection, record, "rtsp://10.0.0.1/a", now(), scene={"zones": []}).id


def put_finding(
    database: Database, camera: UUID, occurred_at: datetime | None = None, area: str = STREET_A + "001", **more: Any
) -> UUID:
    report_id = new_id(now())
    report = Report(
        id=report_id, source=Source.CAMERA, source_key=str(report_id), category="illegal_parking", lon=120.17, lat=30.28,
        occurred_at=occurred_at or now(), received_at=now(), device_id=camera, rule="illegal_parking", zone="kerb",
        area_code=area, detail={"box": [0.1, 0.1, 0.2, 0.2]}, **more,
    )  # fmt: skip
    with database.transaction("*") as connection:
        insert_report(connection, report)
    return report_id


def put_evidence(server: Server, database: Database, kind: str = "snapshot", *, original: bool = True) -> UUID:
    """A masked file and, unless it is not kept, its original."""
    settings, evidence_id = server.settings, new_id(now())
    clip = kind == "clip"
    mime, suffix = ("video/mp4", ".mp4") if clip else ("image/jpeg", ".jpg")
    shown = Shown(
        id=evidence_id, kind=kind, mime=mime, suffix=suffix, content=MOVIE if clip else PICTURE, width=64, height=36,
        taken_at=now(), masked=True, area_code=STREET_A + "001", lon=None, lat=None, detail={},
    )  # fmt: skip
    path = f"{evidence_id}{suffix}"
    with database.transaction("*") as connection:
        write_evidence(connection, settings.evidence_dir, shown)
        if original:
            write_whole(settings.originals_dir / path, ORIGINAL, mode=0o600)
            keep_original(
                connection, evidence_id,
                Original(path=path, sha256=b"x" * 32, mime=mime, width=64, height=36, masks=()), now(),
            )  # fmt: skip
    return evidence_id


def judge(client: httpx.Client, report_id: UUID, **body: Any) -> httpx.Response:
    return client.put(f"/api/v1/findings/{report_id}/judgement", json=body)


def audits(database: Database, *actions: str) -> list[tuple[Any, ...]]:
    with database.transaction("*") as connection:
        return connection.execute(
            "SELECT action, actor, detail ->> 'reason' FROM audit WHERE action = ANY (%s) ORDER BY id", (list(actions),)
        ).fetchall()


def test_operators_judge_findings_and_may_change_their_mind(
    server: Server, sign_in: SignIn, database: Database
) -> None:
    camera = put_camera(database, "cam-a")
    first, second = put_finding(database, camera), put_finding(database, camera)
    elsewhere = put_finding(database, put_camera(database, "cam-b", STREET_B + "001"), area=STREET_B + "001")
    operator = sign_in("lin", ("operator",), STREET_A)
    page = operator.get("/api/v1/findings?limit=1").json()
    assert [item["report_id"] for item in page["items"]] == [str(second)] and page["items"][0]["judgement"] is None
    rest = operator.get("/api/v1/findings", params={"cursor": page["next"]}).json()
    assert [item["report_id"] for item in rest["items"]] == [str(first)] and rest["next"] is None
    assert judge(operator, first, right=True).json()["why"] == "as_reported"
    assert judge(operator, first, right=False, why="nothing_there", note=" 反光 ").json()["note"] == "反光"
    found = operator.get(f"/api/v1/findings/{first}").json()
    assert (found["judgement"]["right"], found["judgement"]["by"], found["camera"]["code"]) == (False, "lin", "cam-a")
    assert [i["report_id"] for i in operator.get("/api/v1/findings?judged=false").json()["items"]] == [str(second)]
    assert len(audits(database, "finding_judged")) == 2
    assert judge(operator, first, right=True, why="moving").status_code == 422
    assert judge(operator, elsewhere, right=True).json()["code"] == "unknown_finding"
    assert judge(sign_in("wu", ("engineer",)), first, right=True).status_code == 403
    assert sign_in("chen", ("grid_worker",), STREET_A).get("/api/v1/findings").status_code == 403


def test_precision_is_counted_by_camera_and_week_of_the_citys_time(
    server: Server, sign_in: SignIn, database: Database
) -> None:
    camera = put_camera(database, "cam-a")
    local = now().astimezone(UTC) + timedelta(hours=8)
    monday = (local - timedelta(days=local.weekday())).replace(hour=0, minute=30, second=0, microsecond=0)
    this_week = monday - timedelta(hours=8)  # Monday 00:30 in the city is still Sunday in UTC
    last_week = this_week - timedelta(hours=1)
    operator = sign_in("lin", ("operator",))
    for right in (True, True, True, False):
        judge(operator, put_finding(database, camera, this_week), right=right, why="as_reported" if right else "other")
    put_finding(database, camera, last_week)
    put_finding(database, camera, this_week - timedelta(weeks=5))
    answer = operator.get("/api/v1/findings/precision?weeks=2").json()
    newer, older = answer["rows"]
    assert (newer["week"], newer["right"], newer["wrong"], newer["precision"]) == (str(monday.date()), 3, 1, 0.75)
    assert (newer["low"], newer["high"]) == pytest.approx((0.3006, 0.9544), abs=1e-4)
    assert (older["found"], older["right"], older["precision"], older["low"]) == (1, 0, None, None)
    assert (answer["total"]["found"], answer["total"]["precision"]) == (5, 0.75)


def test_what_is_masked_is_opened_once_by_its_role_with_a_reason_and_is_audited(
    server: Server, sign_in: SignIn, database: Database
) -> None:
    evidence_id = put_evidence(server, database)
    operator = sign_in("lin", ("operator",), STREET_A)
    officer = sign_in("han", ("operator", "unmask"), STREET_A)
    ask = f"/api/v1/evidence/{evidence_id}/unmask"
    assert operator.get(f"/api/v1/evidence/{evidence_id}").content == PICTURE
    assert operator.post(ask, json={"reason": "车牌核对"}).json()["code"] == "not_your_role"
    assert officer.post(ask, json={"reason": "      "}).status_code == 422
    assert sign_in("bai", ("unmask",), STREET_B).post(ask, json={"reason": "车牌核对 一"}).status_code == 404
    opening = officer.post(ask, json={"reason": "车牌核对 一"}).json()
    assert sign_in("du", ("operator", "unmask"), STREET_A).get(opening["url"]).json()["code"] == "unknown_opening"
    answer = officer.get(opening["url"])
    assert answer.content == ORIGINAL and answer.headers["cache-control"] == "no-store"
    assert officer.get(opening["url"]).json()["code"] == "opening_used"
    assert audits(database, "unmask_asked", "unmasked") == [
        ("unmask_asked", "han", "车牌核对 一"), ("unmasked", "han", "车牌核对 一"),
    ]  # fmt: skip
    moved = officer.post(ask, json={"reason": "车牌核对 二"}).json()
    with database.transaction() as connection:
        connection.execute("UPDATE app_user SET scope = %s WHERE name = 'han'", (STREET_B,))
    assert officer.get(moved["url"]).json()["code"] == "unknown_evidence"  # asked for, but no longer in scope
    with database.transaction() as connection:
        connection.execute("UPDATE app_user SET scope = %s WHERE name = 'han'", (STREET_A,))
    late = officer.post(ask, json={"reason": "车牌核对 三"}).json()
    with database.transaction() as connection:
        connection.execute("UPDATE evidence_opening SET expires_at = %s WHERE opened_at IS NULL", (now(),))
    assert officer.get(late["url"]).json()["code"] == "opening_expired"
    bare = put_evidence(server, database, original=False)
    assert officer.post(f"/api/v1/evidence/{bare}/unmask", json={"reason": "车牌核对"}).json()["code"] == "no_original"
    with server.web.app_database.transaction("*") as connection, pytest.raises(Exception, match="permission denied"):
        connection.execute("SELECT path FROM evidence_original")


def test_a_clip_answers_ranges_and_what_was_deleted_by_rule_says_so(
    server: Server, sign_in: SignIn, database: Database
) -> None:
    client = sign_in("lin", ("operator",), STREET_A)
    clip, picture = put_evidence(server, database, "clip"), put_evidence(server, database)
    part = client.get(f"/api/v1/evidence/{clip}", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, MOVIE[10:20])
    whole = client.get(f"/api/v1/evidence/{clip}")
    assert (whole.content, whole.headers["accept-ranges"], whole.headers["content-type"]) == (
        MOVIE, "bytes", "video/mp4",
    )  # fmt: skip
    with database.transaction() as connection:
        connection.execute("UPDATE evidence SET detail = %s::jsonb WHERE id = %s", (f'{{"poster": "{picture}"}}', clip))
    assert client.get(f"/api/v1/evidence/{clip}?w=160").content == PICTURE
    with database.transaction() as connection:
        connection.execute("UPDATE evidence SET deleted_at = %s WHERE id = %s", (now(), clip))
    gone = client.get(f"/api/v1/evidence/{clip}")
    assert (gone.status_code, gone.json()["code"]) == (410, "evidence_gone")
    assert Path(server.settings.evidence_dir).is_dir()


def test_a_named_site_keeps_its_clips_longer(server: Server, sign_in: SignIn, database: Database) -> None:
    camera = put_camera(database, "cam-a")
    engineer, record = sign_in("wu", ("engineer",), STREET_A), f"/api/v1/cameras/{camera}/record"
    assert engineer.get(record).json()["evidence_days"] is None
    assert engineer.patch(record, json={"evidence_days": 90}).json()["evidence_days"] == 90
    assert engineer.patch(record, json={"maker": "海康"}).json()["evidence_days"] == 90
    assert engineer.patch(record, json={"evidence_days": 0}).json()["evidence_days"] is None
