"""HTTP routes of handling units: their own page, and what they answer."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from dispatch import store, unit
from dispatch.model import ActionRefused, Actor
from dispatch.schema import IncidentDetail, IncidentOut
from kernel.clock import Clock
from kernel.db import Connection
from kernel.settings import Settings

Transaction = Callable[[Actor], AbstractContextManager[Connection]]
_Text = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AskBody(_Body):
    """Which unit, and why."""

    unit_id: UUID
    reason: _Text = ""


class AnswerBody(_Body):
    """Whether the unit takes it; a refusal needs its reason."""

    accepted: bool
    reason: _Text = ""


class CrewBody(_Body):
    """Who of the unit goes."""

    user_id: UUID


class FeedbackBody(_Body):
    """What there is to say."""

    text: _Text


class UnitOut(_Body):
    """A unit in a list. `leads`: whether I do."""

    id: str
    code: str
    name: str
    kind: unit.UnitKind
    assigns_itself: bool
    leads: bool
    people: int
    open_incidents: int


class MemberOut(_Body):
    id: str
    name: str
    on_duty: bool
    leads: bool
    open_tasks: int


class HeldOut(_Body):
    """An incident that the unit is asked to handle, or handles."""

    unit_state: unit.UnitState
    incident: IncidentOut


class UnitPage(_Body):
    """A unit's own page."""

    id: str
    code: str
    name: str
    kind: unit.UnitKind
    leads: bool
    people: list[MemberOut]
    incidents: list[HeldOut]


class SuggestionOut(_Body):
    """A unit that handles there. `by_rule`: the duty rules name it."""

    id: str
    name: str
    kind: unit.UnitKind
    by_rule: bool


def make_unit_router(get_actor: Callable[..., Actor], transaction: Transaction, settings: Settings) -> APIRouter:
    """The routes, as dispatch.api.make_router makes those of incidents."""
    router = APIRouter(tags=["units"])
    clock = Clock.of(settings.clock)
    Me = Annotated[Actor, Depends(get_actor)]
    detail: dict[int | str, dict[str, Any]] = {200: {"model": IncidentDetail}}

    def answer(connection: Connection, incident_id: UUID, actor: Actor) -> JSONResponse:
        view = store.read_incident(connection, incident_id, now=clock.now(), actor=actor)
        if view is None:
            raise ActionRefused("unknown_incident")
        return JSONResponse(view, headers={"ETag": f'"{view["version"]}"'})

    @router.get("/units", response_model=None, responses={200: {"model": list[UnitOut]}})
    def list_units(actor: Me, mine: bool = False) -> JSONResponse:
        """Units that serve my area; `mine`: those I belong to."""
        with transaction(actor) as connection:
            return JSONResponse(unit.read_units(connection, member_id=actor.user_id if mine else None))

    @router.get("/units/{unit_id}", response_model=None, responses={200: {"model": UnitPage}})
    def show_unit(actor: Me, unit_id: UUID) -> JSONResponse:
        """A unit's page: its people and its open incidents, for its people and operators."""
        with transaction(actor) as connection:
            return JSONResponse(unit.read_page(connection, unit_id, actor, clock.now()))

    @router.get("/incidents/{incident_id}/units", response_model=None, responses={200: {"model": list[SuggestionOut]}})
    def suggest_units(actor: Me, incident_id: UUID) -> JSONResponse:
        """Who could handle it: first the unit that the duty rules name."""
        with transaction(actor) as connection:
            return JSONResponse(unit.suggest_units(connection, incident_id))

    @router.post("/incidents/{incident_id}/unit", response_model=None, responses=detail)
    def ask_unit(actor: Me, incident_id: UUID, body: AskBody) -> JSONResponse:
        """An operator asks a unit to handle it."""
        with transaction(actor) as connection:
            unit.ask_unit(connection, incident_id, body.unit_id, actor, body.reason, clock.now())
            return answer(connection, incident_id, actor)

    @router.post("/incidents/{incident_id}/unit/answer", response_model=None, responses=detail)
    def answer_unit(actor: Me, incident_id: UUID, body: AnswerBody) -> JSONResponse:
        """The unit's head accepts, or refuses with a reason."""
        with transaction(actor) as connection:
            unit.answer_unit(connection, incident_id, body.accepted, actor, body.reason, clock.now())
            return answer(connection, incident_id, actor)

    @router.post("/incidents/{incident_id}/unit/crew", response_model=None, responses=detail)
    def send_crew(actor: Me, incident_id: UUID, body: CrewBody) -> JSONResponse:
        """The unit's head sends one of its people."""
        with transaction(actor) as connection:
            unit.send_crew(connection, incident_id, body.user_id, actor, clock.now())
            return answer(connection, incident_id, actor)

    @router.post("/incidents/{incident_id}/unit/feedback", response_model=None, responses=detail)
    def note_feedback(actor: Me, incident_id: UUID, body: FeedbackBody) -> JSONResponse:
        """One of the unit's people says something about it."""
        with transaction(actor) as connection:
            unit.note_feedback(connection, incident_id, actor, body.text, clock.now())
            return answer(connection, incident_id, actor)

    return router
