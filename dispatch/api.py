"""HTTP routes of incidents, reports and categories. Who asks and in which transaction comes from the web process."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Header, Query
from fastapi.responses import JSONResponse

from dispatch import flow, similar, store
from dispatch.intake_form import post_report, read_categories
from dispatch.model import Action, ActionRefused, Actor, Inputs
from dispatch.schema import (
    ActionIn,
    CandidateOut,
    CategoryFull,
    IncidentDetail,
    IncidentPage,
    ReportAnswer,
    ReportIn,
    SimilarOut,
    SummonsOut,
)
from dispatch.transition import REASON_CODES
from grid.coordinates import CoordinateError, CrsError, to_cgcs2000
from kernel.clock import Clock
from kernel.db import Connection
from kernel.settings import Settings

Transaction = Callable[[Actor], AbstractContextManager[Connection]]
MOST = 2_000  # incidents in one page


def make_router(get_actor: Callable[..., Actor], transaction: Transaction, settings: Settings) -> APIRouter:
    """The routes. `get_actor` is a FastAPI dependency, `transaction(actor)` a transaction in the actor's scope.

    Raises ActionRefused (with `code`, `status`, `params`) for the web process to answer.
    """
    router = APIRouter(tags=["incidents"])
    clock = Clock.of(settings.clock)
    Me = Annotated[Actor, Depends(get_actor)]

    @router.get("/incidents", response_model=None, responses={200: {"model": IncidentPage}})
    def list_incidents(
        actor: Me,
        state: Literal["open", "closed", "all"] = "open",
        assignee: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 200,
        cursor: str | None = None,
        q: Annotated[str, Query(max_length=100)] = "",
    ) -> JSONResponse:
        """Incidents in my scope, the newest first. `assignee`: "me" or a person's id; `q`: in number, place or category."""
        with transaction(actor) as connection:
            items, following = store.read_page(
                connection,
                now=clock.now(),
                state=state,
                assignee_id=_read_assignee(assignee, actor),
                before=_read_id(cursor, "bad_cursor"),
                limit=limit,
                words=q.strip(),
            )
        return JSONResponse({"items": items, "next": str(following) if following else None})

    @router.get("/incidents/{incident_id}", response_model=None, responses={200: {"model": IncidentDetail}})
    def read_incident(actor: Me, incident_id: UUID) -> JSONResponse:
        """One incident in full, with what I may do now."""
        with transaction(actor) as connection:
            view = store.read_incident(connection, incident_id, now=clock.now(), actor=actor)
        if view is None:
            raise ActionRefused("unknown_incident")
        return JSONResponse(view, headers={"ETag": f'"{view["version"]}"'})

    @router.post(
        "/incidents/{incident_id}/actions/{action}", response_model=None, responses={200: {"model": IncidentDetail}}
    )
    def act(
        actor: Me,
        incident_id: UUID,
        action: Action,
        inputs: Annotated[ActionIn, Body(default_factory=ActionIn)],
        if_match: Annotated[str | None, Header()] = None,
    ) -> JSONResponse:
        """Do an action; the incident in full as it is then. `If-Match`: the version it was seen in."""
        with transaction(actor) as connection:
            view = flow.act(
                connection, incident_id, action, actor, _read_inputs(inputs), clock.now(), _read_version(if_match),
                settings.city.timezone,
            )  # fmt: skip
        return JSONResponse(view, headers={"ETag": f'"{view["version"]}"'})

    @router.get(
        "/incidents/{incident_id}/candidates", response_model=None, responses={200: {"model": list[CandidateOut]}}
    )
    def list_candidates(actor: Me, incident_id: UUID) -> JSONResponse:
        """Who might go, the best first, and why or why not."""
        with transaction(actor) as connection:
            return JSONResponse(flow.candidates(connection, incident_id, actor, clock.now(), settings))

    @router.get("/incidents/{incident_id}/similar", response_model=None, responses={200: {"model": list[SimilarOut]}})
    def list_similar(actor: Me, incident_id: UUID) -> JSONResponse:
        """What may be the same: this category within 50 m, opened 14 days before or after, the nearest first."""
        with transaction(actor) as connection:
            return JSONResponse(similar.read_similar(connection, incident_id))

    @router.get("/incidents/{incident_id}/summons", response_model=None, responses={200: {"model": list[SummonsOut]}})
    def list_summons(actor: Me, incident_id: UUID) -> JSONResponse:
        """Who was summoned to it, whether they are there, and how they did."""
        with transaction(actor) as connection:
            return JSONResponse(flow.read_summons(connection, incident_id, clock.now()))

    @router.get("/reason-codes")
    def list_reason_codes(actor: Me) -> dict[str, list[str]]:
        """Reasons that can be counted, by action; words may stand beside or instead of them."""
        return {action.value: list(codes) for action, codes in REASON_CODES.items()}

    @router.post("/reports", status_code=201, response_model=None, responses={201: {"model": ReportAnswer}})
    def report(actor: Me, body: ReportIn) -> JSONResponse:
        """Say that something is wrong. A known `source_key` gives the report that is there."""
        with transaction(actor) as connection:
            answer, is_new = post_report(connection, body, actor, clock.now())
        return JSONResponse(answer, 201 if is_new else 200)

    @router.get("/categories", response_model=None, responses={200: {"model": list[CategoryFull]}})
    def list_categories(actor: Me) -> JSONResponse:
        """Categories of incidents with their codes, limits and checks."""
        with transaction(actor) as connection:
            return JSONResponse(read_categories(connection))

    return router


def _read_assignee(assignee: str | None, actor: Actor) -> UUID | None:
    return actor.user_id if assignee == "me" else _read_id(assignee, "unknown_user")


def _read_id(text: str | None, code: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise ActionRefused(code) from None


def _read_version(if_match: str | None) -> int | None:
    """The version in `If-Match`, quoted or not; "*" and nothing mean any. What is no number matches no version."""
    text = (if_match or "*").strip().removeprefix("W/").strip('"')
    if text == "*":
        return None
    return int(text) if text.isascii() and text.isdigit() else -1


def _read_inputs(body: ActionIn) -> Inputs:
    values: dict[str, Any] = body.model_dump(exclude={"crs"})
    values |= {"user_ids": tuple(body.user_ids), "report_ids": tuple(body.report_ids)}
    if body.lon is not None and body.lat is not None:
        try:
            values["lon"], values["lat"] = to_cgcs2000(body.lon, body.lat, body.crs)
        except CrsError:
            raise ActionRefused("unknown_crs", crs=body.crs) from None
        except CoordinateError:
            raise ActionRefused("bad_position") from None
    return Inputs(**values)
