"""Routes of push: the key a browser needs, where it can be reached, and its receipts."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from dashboard.auth import CurrentUser, CurrentWeb
from dashboard.errors import Problem
from dashboard.tasks import confirm_task
from dispatch.push.web_push import NAME, check_endpoint, read_public_key
from kernel.ids import new_id

router = APIRouter(prefix="/push", tags=["push"])
_MOST_BROWSERS = 10  # of one person; the oldest give way
Base64Url = Annotated[str, StringConstraints(max_length=200, pattern=r"^[A-Za-z0-9_=-]+$")]


class PushKey(BaseModel):
    """What the browser takes as `applicationServerKey`: base64url, unpadded."""

    key: str


class SubscriptionKeys(BaseModel):
    """The browser's keys (RFC 8291)."""

    p256dh: Base64Url
    auth: Base64Url


class Subscription(BaseModel):
    """A PushSubscription as the browser gives it; what else it holds (expirationTime) is left out."""

    model_config = ConfigDict(extra="ignore")

    endpoint: Annotated[str, Field(min_length=10, max_length=1000, pattern=r"^[!-~]+$")]
    keys: SubscriptionKeys


class Unsubscription(BaseModel):
    """Which address is to be forgotten."""

    endpoint: Annotated[str, Field(max_length=1000, pattern=r"^[!-~]+$")]


@router.get("/key")
def show_key(user: CurrentUser, web: CurrentWeb) -> PushKey:
    """The public key of this installation."""
    return PushKey(key=read_public_key(web.settings.data_dir))


@router.post("/subscriptions", status_code=204)
def subscribe(body: Subscription, user: CurrentUser, web: CurrentWeb) -> None:
    """Tell me on this browser. Whoever signed in last on a shared phone is told there. 422 `push_endpoint_refused`."""
    refusal = check_endpoint(body.endpoint)
    if refusal is not None:
        raise Problem(422, "push_endpoint_refused", "This push service may not be called", reason=refusal)
    now = web.now()
    with web.transaction(user) as connection:
        connection.execute(
            "INSERT INTO push_subscription (id, user_id, channel, address, keys, created_at)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (address) DO UPDATE"
            " SET user_id = excluded.user_id, keys = excluded.keys, created_at = excluded.created_at",
            (new_id(now), user.id, NAME, body.endpoint, Jsonb(body.keys.model_dump()), now),
        )
        connection.execute(
            "DELETE FROM push_subscription WHERE id IN (SELECT id FROM push_subscription WHERE user_id = %s"
            " ORDER BY created_at DESC OFFSET %s)",
            (user.id, _MOST_BROWSERS),
        )


@router.delete("/subscriptions", status_code=204)
def unsubscribe(body: Unsubscription, user: CurrentUser, web: CurrentWeb) -> None:
    """Do not tell me on this browser any more; for a phone that signs out."""
    with web.transaction(user) as connection:
        connection.execute(
            "DELETE FROM push_subscription WHERE address = %s AND user_id = %s", (body.endpoint, user.id)
        )


@router.post("/{push_id}/receipt", status_code=204)
def take_receipt(push_id: UUID, user: CurrentUser, web: CurrentWeb) -> None:
    """The phone has it; said again, it changes nothing."""
    with web.transaction(user) as connection:
        if not confirm_task(connection, push_id, user.id, web.now()):
            raise Problem(404, "unknown_push", "You were sent no such message")
