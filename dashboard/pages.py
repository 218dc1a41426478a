"""The front ends' files, as scripts/setup builds them: pages, assets, the service worker, the manifest."""

import gzip
import mimetypes
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse

from dashboard.auth import CurrentWeb, find_session
from dashboard.errors import Problem
from dashboard.session import Seat
from kernel.types import Role

router = APIRouter(include_in_schema=False)
_PAGES = {
    "login": "index.html",
    "wall": "wall.html",
    "phone": "phone.html",
    "cameras": "cameras.html",
    "devices": "engineer.html",
    "device": "scan.html",
}
_FOLDERS = ("assets", "fonts", "icons")
_ROOT_SUFFIXES = {".js", ".html", ".webmanifest", ".png", ".svg", ".ico", ".txt"}
_TEXT_SUFFIXES = {".js", ".css", ".html", ".svg", ".json", ".webmanifest"}
_FOR_EVER = "public, max-age=31536000, immutable"  # their names have a hash of what is in them
_ASK_AGAIN = "no-cache"
mimetypes.add_type("application/manifest+json", ".webmanifest")
mimetypes.add_type("font/woff2", ".woff2")
mimetypes.add_type("text/javascript", ".js")
_NOT_BUILT = """<!doctype html><html lang="zh-CN"><meta charset="utf-8"><title>网格卫士 Gridwarden</title>
<h1>页面尚未构建</h1><p>请运行 <code>scripts/setup</code>，然后刷新本页。</p>
<h1 lang="en">Front ends not built</h1><p lang="en">Run <code>scripts/setup</code>, then reload this page.</p></html>"""


@lru_cache(maxsize=200)
def _pack(path: Path, modified_ns: int, size: int) -> bytes:
    del modified_ns, size  # parts of the key: a file that was built anew is packed anew
    return gzip.compress(path.read_bytes(), 6, mtime=0)


def _send_file(request: Request, path: Path, cache: str) -> Response:
    stat = path.stat()
    headers = {"Cache-Control": cache}
    accepts = request.headers.get("accept-encoding", "")
    if path.suffix not in _TEXT_SUFFIXES or stat.st_size < 1_000 or "gzip" not in accepts:
        return FileResponse(path, headers=headers)
    etag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}-gz"'
    headers |= {"ETag": etag, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    body = _pack(path, stat.st_mtime_ns, stat.st_size)
    return Response(body, media_type=media_type, headers={**headers, "Content-Encoding": "gzip"})


def _find(folder: Path, relative: str) -> Path:
    """The file in `folder`, never one beside it. Raises Problem 404."""
    try:
        folder = folder.resolve()
        path = (folder / relative).resolve()
        if path.is_relative_to(folder) and path.is_file():
            return path
    except (OSError, ValueError):  # a name that no file can have
        pass
    raise Problem(404, "not_found", "There is no such file")


@router.get("/")
def open_front(request: Request, web: CurrentWeb) -> Response:
    """To the page that fits whoever is signed in, else to the log-in."""
    session = find_session(request, web.worker_database, web.now())
    if session is None:
        return RedirectResponse("/login", 303)
    goes_out = session.user.roles <= {Role.GRID_WORKER, Role.HANDLING_DEPT}
    return RedirectResponse("/phone" if goes_out or session.seat is Seat.PHONE else "/wall", 303)


@router.get("/login")
@router.get("/wall")
@router.get("/phone")
@router.get("/cameras")
@router.get("/devices")
@router.get("/devices/{path:path}")  # the engineers' page finds its own way from here
@router.get("/device/{code}")  # where the label on a device leads
def open_page(request: Request, web: CurrentWeb) -> Response:
    """A page. It holds nothing secret: what it shows, it asks for with its cookie."""
    name = _PAGES[request.url.path.strip("/").partition("/")[0]]
    if not (web.settings.web.dist_dir / name).is_file():
        return HTMLResponse(_NOT_BUILT, 503)
    return _send_file(request, web.settings.web.dist_dir / name, _ASK_AGAIN)


@router.get("/{folder}/{path:path}")
def open_asset(folder: str, path: str, request: Request, web: CurrentWeb) -> Response:
    """A file that a page loads."""
    if folder not in _FOLDERS:
        raise Problem(404, "not_found", "There is nothing at this address")
    found = _find(web.settings.web.dist_dir / folder, path)
    return _send_file(request, found, _FOR_EVER if folder == "assets" else _ASK_AGAIN)


@router.get("/{name}")
def open_root_file(name: str, request: Request, web: CurrentWeb) -> Response:
    """The service worker, which must lie at the root to serve all of it, the manifest, icons."""
    path = _find(web.settings.web.dist_dir, name)
    if path.suffix not in _ROOT_SUFFIXES:
        raise Problem(404, "not_found", "There is no such file")
    return _send_file(request, path, _ASK_AGAIN)
