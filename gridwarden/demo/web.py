"""The web role with one page more: /demo, wall and phone side by side, with buttons that reach the simulated street.

`python -m gridwarden.demo.web CONTROL_PORT`; the simulators listen for buttons on that loopback port.
"""

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse, JSONResponse

from dashboard.auth import require
from dashboard.run import run
from dashboard.session import User
from gridwarden.role import stop_on_signal, wait_for_schema
from kernel.log import configure_log
from kernel.settings import load_settings
from kernel.types import Role

PAGE = Path(__file__).parent / "page"
ACTIONS = ("drop_rubbish", "park_here", "gather", "light_smoke", "raise_river")


def make_router(control_port: int) -> APIRouter:
    """The demo page and its buttons; an action needs an operator's log-in."""
    router = APIRouter(include_in_schema=False)

    @router.get("/demo")
    def show_page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @router.get("/demo/page.{suffix}")
    def show_part(suffix: str) -> FileResponse:
        return FileResponse(PAGE / ("page.css" if suffix == "css" else "page.js"))

    @router.post("/demo/act/{action}")
    def act(action: str, user: Annotated[User, Depends(require(Role.OPERATOR, Role.ADMIN))]) -> JSONResponse:
        if action not in ACTIONS:
            return JSONResponse({"detail": f"there is no action {action}"}, 404)
        status, body = send_to_city(control_port, action)
        return JSONResponse(body, status)

    return router


def send_to_city(control_port: int, action: str) -> tuple[int, dict[str, Any]]:
    """Pass a button on to the simulators; their answer's status and body."""
    request = urllib.request.Request(f"http://127.0.0.1:{control_port}/act/{action}", method="POST", data=b"")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError as error:
        return 503, {"detail": f"the simulated city does not answer: {error}"}


def main(control_port: int) -> None:
    """Run until SIGTERM, as `gridwarden.role web` does."""
    settings = load_settings()
    configure_log("web", settings.log.level)
    stop = stop_on_signal()
    wait_for_schema(settings, stop)
    if not stop.is_set():
        run(settings, stop, extra_routers=[make_router(control_port)])


if __name__ == "__main__":
    main(int(sys.argv[1]))
