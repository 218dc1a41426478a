"""The web application: routers, gates before them, and what lives as long as the process."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI
from starlette.middleware import Middleware

from dashboard import (
    answer,
    camera_record,
    commands,
    console_api,
    dead_letter,
    device,
    evidence,
    finding,
    health,
    home,
    live,
    live_video_api,
    login,
    map_layers,
    mappings,
    pages,
    parking,
    place,
    push,
    readings,
    registry,
    rehearsal,
    rules,
    scene,
    staff,
    ways,
)
from dashboard.auth import get_user
from dashboard.boxes import BoxFeed
from dashboard.camera import LiveCameras
from dashboard.console import Console
from dashboard.context import Web
from dashboard.errors import CatchAll, ProblemBody, install_errors
from dashboard.hub import Hub
from dashboard.idempotency import Idempotency, claim_request
from dashboard.limits import BodyLimit, OriginCheck, SecurityHeaders
from dashboard.live_video import LiveVideo
from dashboard.map_layers import LayerCache
from dashboard.metrics import API, MeasureRequests, Metrics
from dashboard.session import User
from dispatch.api import make_router
from dispatch.model import Actor
from dispatch.time_api import make_time_router
from dispatch.unit_api import make_unit_router
from kernel.clock import Clock
from kernel.db import Connection, Database, DbRole
from kernel.settings import Settings

VERSION = "0.1.0"
_WAIT_S = 3.0  # people rather hear soon that the database is away


def get_actor(user: Annotated[User, Depends(get_user)]) -> Actor:
    """Dependency: the person who asks, as dispatch knows people."""
    return Actor(user_id=user.id, name=user.display_name, roles=user.roles, scope=user.scope)


def open_web(settings: Settings) -> Web:
    """Pools, hub and cameras; the pools connect in the background, so a database that is away delays nothing."""
    clock = Clock.of(settings.clock)
    app_database = Database(settings, DbRole.APP, wait_s=_WAIT_S)
    worker_database = Database(settings, DbRole.WORKER, wait_s=_WAIT_S)
    metrics = Metrics()
    web = Web(
        settings=settings,
        clock=clock,
        app_database=app_database,
        worker_database=worker_database,
        hub=Hub(app_database, worker_database, clock.now, metrics, settings.vision.model),
        metrics=metrics,
        cameras=LiveCameras(settings.camera, clock.now),
        console=Console(settings, worker_database, clock.now),
        video=LiveVideo(settings.camera, clock.now, settings.data_dir),
        boxes=BoxFeed(settings),
    )
    metrics.registry.register(health.StoredNumbers(web))
    return web


def create_app(settings: Settings, *, extra_routers: Sequence[APIRouter] = ()) -> FastAPI:
    """The application. `extra_routers` are served at the root, before the pages (the demo's page is one)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        web = open_web(settings)
        app.state.web = web
        app.state.layer_cache = LayerCache()
        web.hub.start()
        try:
            yield
        finally:
            web.cameras.close()
            web.video.close()
            web.boxes.close()
            web.console.close()
            ways.close_gate(app)
            web.hub.stop()
            web.app_database.close()
            web.worker_database.close()

    # Last in the list is nearest to the routes.
    app = FastAPI(
        title="Gridwarden 网格卫士",
        version=VERSION,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses={"4XX": {"model": ProblemBody}, "5XX": {"model": ProblemBody}},
        middleware=[
            Middleware(MeasureRequests),
            Middleware(SecurityHeaders, public_url=settings.public_url, tiles_url=settings.web.map_tiles_url),
            Middleware(CatchAll),
            Middleware(OriginCheck, public_url=settings.public_url),
            Middleware(BodyLimit, picture_bytes=settings.evidence.max_upload_bytes),
            Middleware(Idempotency),
        ],
    )
    install_errors(app)

    def transaction(actor: Actor) -> AbstractContextManager[Connection]:
        web: Web = app.state.web
        assert actor.user_id is not None
        return claim_request(web.app_database.transaction(actor.scope), actor.user_id, web.now())

    api = [
        login,
        staff,
        registry,
        device,
        camera_record,
        scene,
        rehearsal,
        readings,
        dead_letter,
        console_api,
        commands,
        rules,
        home,
        parking,
        mappings,
        ways,
        answer,
        map_layers,
        place,
        evidence,
        finding,
        push,
        live,
        live_video_api,
    ]
    incidents = [make(get_actor, transaction, settings) for make in (make_router, make_time_router, make_unit_router)]
    for router in [*incidents, *(module.router for module in api)]:
        app.include_router(router, prefix=API)
    for router in [health.router, answer.page_router, *extra_routers, pages.router]:
        app.include_router(router)
    return app
