"""A camera's scene: read, checked, put live as a new version. What each rule wants is told by its JSON schema."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict

from dashboard.auth import CurrentWeb, require
from dashboard.errors import Problem
from dashboard.session import User
from dashboard.staff import WATCHERS
from kernel.audit import write_audit
from kernel.change import ChangeKind, note_change
from kernel.db import Connection
from kernel.types import Role
from vision.rule import AnyRule
from vision.rules import discover
from vision.scene import SceneError, parse_scene

router = APIRouter(tags=["cameras"])
Engineer = Annotated[User, Depends(require(Role.ENGINEER, Role.ADMIN))]
Watcher = Annotated[User, Depends(require(*WATCHERS))]


class ZoneRule(BaseModel):
    """A rule that a zone may be watched by, and the JSON schema of its parameters."""

    name: str
    title_zh: str
    title_en: str
    schema_: dict[str, Any]

    model_config = ConfigDict(alias_generator=lambda name: name.rstrip("_"), populate_by_name=True)


class SceneView(BaseModel):
    """A camera's scene as it is live; `version` goes into If-Match of the next change."""

    scene: dict[str, Any]
    version: int
    rules: list[ZoneRule]


class SceneBody(BaseModel):
    """A scene that is to be live."""

    model_config = ConfigDict(extra="forbid")
    scene: dict[str, Any]


@cache
def known_rules() -> Mapping[str, AnyRule]:
    """Every vision rule of this installation."""
    return discover()


@cache
def _describe_rules() -> tuple[ZoneRule, ...]:
    return tuple(
        ZoneRule(
            name=rule.name,
            title_zh=rule.title_zh,
            title_en=rule.title_en,
            schema_=rule.parameters.model_json_schema(),
        )
        for rule in known_rules().values()
    )


def check_scene(scene: Mapping[str, Any]) -> None:
    """Raises Problem 422 `scene_refused`: the zone's name ("" for the scene as a whole), `why` as a code with what its words need
    (`field`, `limit`, `preset` …), and the reason in English."""
    try:
        parse_scene(dict(scene), known_rules())
    except SceneError as error:
        told = {name: value for name, value in error.params.items() if value is not None}
        raise Problem(
            422, "scene_refused", "This scene cannot be used",
            zone=error.zone, why=error.code, reason=str(error), **told,
        ) from None  # fmt: skip


def find_camera(connection: Connection, camera_id: UUID, *, lock: bool = False) -> tuple[str, str]:
    """Code and area of a camera in scope. Raises Problem 404 `unknown_camera`."""
    row = connection.execute(
        "SELECT d.code, d.area_code FROM camera c JOIN device d ON d.id = c.device_id WHERE d.id = %s"
        + (" FOR UPDATE OF c" if lock else ""),
        (camera_id,),
    ).fetchone()
    if row is None:
        raise Problem(404, "unknown_camera", "There is no such camera in your scope")
    return str(row[0]), str(row[1])


def _read_scene(connection: Connection, camera_id: UUID) -> tuple[dict[str, Any], int]:
    row = connection.execute("SELECT scene, scene_version FROM camera WHERE device_id = %s", (camera_id,)).fetchone()
    assert row is not None
    return row


@router.get("/cameras/{camera_id}/scene")
def show_scene(camera_id: UUID, user: Watcher, web: CurrentWeb, response: Response) -> SceneView:
    """The zones as they are live, their version, and the rules there are."""
    with web.transaction(user) as connection:
        find_camera(connection, camera_id)
        scene, version = _read_scene(connection, camera_id)
    response.headers["ETag"] = f'"{version}"'
    return SceneView(scene=scene, version=version, rules=list(_describe_rules()))


@router.put("/cameras/{camera_id}/scene")
def change_scene(
    camera_id: UUID, body: SceneBody, user: Engineer, web: CurrentWeb, request: Request, response: Response
) -> SceneView:
    """Put a scene live; vision takes it up within seconds. If-Match: the version it was made from (412 `version_conflict`).

    422 `scene_refused` {zone, why, reason …}. What is remembered of a zone stays only where its outline and parameters did.
    """
    check_scene(body.scene)
    now = web.now()
    with web.transaction(user) as connection:
        code, area_code = find_camera(connection, camera_id, lock=True)
        before, version = _read_scene(connection, camera_id)
        wanted = request.headers.get("if-match", "").strip().removeprefix("W/").strip('"')
        if wanted not in ("", "*", str(version)):
            raise Problem(412, "version_conflict", "Somebody changed the scene meanwhile", version=version)
        if before != body.scene:
            connection.execute(
                "INSERT INTO camera_scene (device_id, version, scene, changed_by, changed_at) VALUES (%s, %s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                (camera_id, version, Jsonb(before), user.name, now),
            )
            version += 1
            connection.execute(
                "UPDATE camera SET scene = %s, scene_version = %s WHERE device_id = %s",
                (Jsonb(body.scene), version, camera_id),
            )
            zones = [str(zone.get("name", "")) for zone in body.scene.get("zones", [])]
            detail = {"version": version, "zones": zones}
            write_audit(connection, now, actor=user.name, action="scene_changed", subject=code, detail=detail)
            note_change(connection, ChangeKind.DEVICE, camera_id, area_code, now)
    response.headers["ETag"] = f'"{version}"'
    return SceneView(scene=body.scene, version=version, rules=list(_describe_rules()))
