"""How somebody who was told of smoke in a home answers: by a page behind the link they were sent, or by the gateway's own
call. The link is the permission; there is nothing to sign in to."""

from datetime import datetime
from html import escape
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Form
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import HTMLResponse

from dashboard.auth import CurrentWeb, require
from dashboard.context import Web
from dashboard.errors import Problem
from dashboard.session import User
from dispatch.escalation import Answer, read_notices, take_answer
from dispatch.notice import ANSWER_WITHIN, read_token
from kernel.types import Role

router = APIRouter(tags=["homes"])
page_router = APIRouter(include_in_schema=False)
_PAGE = """<!doctype html><html lang="zh-CN"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex"><title>{city}</title><h1>{city}</h1>{body}</html>"""
_ASK = """<p>烟感报警。请选择：</p><p lang="en">A smoke alarm went off. Please choose:</p>
<form method="post"><p><button name="answer" value="help">需要帮助 · I need help</button></p>
<p><button name="answer" value="safe">平安无事 · Everything is safe</button></p></form>"""
_THANKS = """<p>已收到，谢谢。{zh}</p><p lang="en">Received, thank you. {en}</p>"""
_SAID = {
    Answer.SAFE: ("工作人员仍会前来确认。", "Somebody will still come and check."),
    Answer.HELP: (
        "正在通知更多人员。如有危险请立即离开并拨打 119。",
        "More people are being told. In danger leave and call 119.",
    ),
}
_GONE = """<p>链接无效或已过期。如有危险请拨打 119。</p><p lang="en">This link is not valid any more. In danger call 119.</p>"""


class AnswerBody(BaseModel):
    """What the gateway passes on. `token`: the last part of the notice's `answer_url`."""

    model_config = ConfigDict(extra="forbid")
    token: Annotated[str, Field(max_length=100)]
    answer: Answer


class NoticeView(BaseModel):
    """One step of an escalation, without names or numbers."""

    position: int
    role: str
    state: str
    due_at: datetime | None
    sent_at: datetime | None
    answer: Answer | None


def _answer(web: Web, token: str, answer: Answer) -> bool:
    notice_id = read_token(web.settings.data_dir, token)
    if notice_id is None:
        return False
    with web.worker_database.transaction() as connection:
        return take_answer(connection, notice_id, answer, ANSWER_WITHIN, web.now())


@router.post("/answers", status_code=204)
def take_gateway_answer(body: AnswerBody, web: CurrentWeb) -> None:
    """An answer by SMS or by keys on a call. 404 `answer_invalid`: no such link, or its time is over."""
    if not _answer(web, body.token, body.answer):
        raise Problem(404, "answer_invalid", "There is no such link, or its time is over")


@router.get("/incidents/{incident_id}/notices", response_model=list[NoticeView])
def list_notices(
    incident_id: UUID,
    user: Annotated[User, Depends(require(Role.OPERATOR, Role.GRID_WORKER, Role.ADMIN))],
    web: CurrentWeb,
) -> list[dict[str, Any]]:
    """Who of the home, its neighbours and the community was told, and what they answered."""
    with web.transaction(user) as connection:
        return [
            {
                "position": notice.position,
                "role": notice.role,
                "state": notice.state,
                "due_at": notice.due_at,
                "sent_at": notice.sent_at,
                "answer": notice.answer,
            }
            for notice in read_notices(connection, incident_id)
        ]


def _page(web: Web, body: str, status: int = 200) -> HTMLResponse:
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return HTMLResponse(_PAGE.format(city=escape(web.settings.city.name), body=body), status, headers)


@page_router.get("/answer/{token}")
def show_answer_page(token: str, web: CurrentWeb) -> HTMLResponse:
    """The question. Looking answers nothing: links in messages are opened by previews too."""
    if read_token(web.settings.data_dir, token) is None:
        return _page(web, _GONE, 404)
    return _page(web, _ASK)


@page_router.post("/answer/{token}")
def take_page_answer(token: str, answer: Annotated[Answer, Form()], web: CurrentWeb) -> HTMLResponse:
    """The answer from the page."""
    if not _answer(web, token, answer):
        return _page(web, _GONE, 404)
    zh, en = _SAID[answer]
    return _page(web, _THANKS.format(zh=zh, en=en))
