"""The buttons' little server answers with what was done, or why not."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from simulators.control import ControlServer


def act(button: str) -> dict[str, Any]:
    if button == "park_here":
        return {"button": button, "device": "CAM-01"}
    if button == "gather":
        raise LookupError("gather: every place for it is taken")
    if button == "light_smoke":
        raise TimeoutError("the platform gave no answer in 10 s")
    raise KeyError(button)


@pytest.fixture
def server() -> Iterator[ControlServer]:
    server = ControlServer(act, lambda: {"seed": 3}, 0)
    server.start()
    yield server
    server.stop()


def ask(server: ControlServer, method: str, path: str) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}", method=method, data=b"" if method == "POST" else None
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(
    ("method", "path", "status", "word"),
    [
        ("POST", "/act/park_here", 200, "CAM-01"),
        ("POST", "/act/gather", 409, "taken"),
        ("POST", "/act/light_smoke", 503, "no answer"),
        ("POST", "/act/fly", 404, "fly"),
        ("POST", "/elsewhere", 404, "act"),
        ("GET", "/status", 200, "3"),
        ("GET", "/", 404, "status"),
    ],
)
def test_each_request_gets_its_answer(server: ControlServer, method: str, path: str, status: int, word: str) -> None:
    answered, body = ask(server, method, path)
    assert answered == status
    assert word in json.dumps(body)
