"""Web Push: RFC 8030 delivery, RFC 8291 encryption (aes128gcm), RFC 8292 identification (VAPID).

The VAPID key is made on first start and kept with the other secrets. Changing it silently ends every subscription.
"""

import base64
import ipaddress
import json
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid02
from pywebpush import WebPushException, webpush

from dispatch.model import PushKind
from dispatch.outbox import Delivery, Push, Subscription
from kernel.db import Database
from kernel.secret import read_secret
from kernel.settings import Settings

log = logging.getLogger(__name__)
NAME = "web_push"
TIMEOUT_S = 5.0
KEEP_S = 3600  # how long the push service keeps it for a phone that is off
_SECRET = "vapid_private_pem"
_GONE = (404, 410)  # RFC 8030, 7.3: the subscription has ended


def read_vapid_key(data_dir: Path) -> Vapid02:
    """This installation's VAPID key, made when there is none."""
    fresh = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Vapid02.from_pem(read_secret(data_dir, _SECRET, fresh.decode()).encode())


def read_public_key(data_dir: Path) -> str:
    """The public key as browsers want it for `applicationServerKey`: base64url of the uncompressed point, unpadded."""
    point = read_vapid_key(data_dir).public_key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return base64.urlsafe_b64encode(point).rstrip(b"=").decode()


def check_endpoint(address: str) -> str | None:
    """Why a subscription's address may not be called, or None: it comes from a browser, and we would call it from inside.

    Only https, and only hosts all of whose addresses are public.
    """
    try:
        parts = urlsplit(address)
        if parts.scheme != "https" or not parts.hostname:
            return "not_https"
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, proto=socket.IPPROTO_TCP)
    except (ValueError, OSError):
        return "unknown_host"
    if not all(ipaddress.ip_address(str(entry[4][0]).split("%")[0]).is_global for entry in found):
        return "not_public"
    return None


class _NoRedirects(requests.Session):
    """A push service has no reason to send us elsewhere, and elsewhere might be inside."""

    def __init__(self) -> None:
        super().__init__()
        self.max_redirects = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class WebPushChannel:
    """Sends to browsers' push services. `public_only` False is for tests that run their own."""

    key: Vapid02
    contact: str
    public_only: bool = True
    name: str = NAME

    def deliver(self, push: Push, subscriptions: Sequence[Subscription], now: datetime) -> Delivery:
        """Send to every browser of the person; sent when one push service took it."""
        sent, errors, gone = False, [], []
        for subscription in subscriptions:
            error, ended = self._send(push, subscription)
            sent = sent or error is None
            if error is not None:
                errors.append(f"web_push: {error}")
            if ended:
                gone.append(subscription.id)
        return Delivery(sent=sent, error="; ".join(errors) or None, gone=tuple(gone))

    def _send(self, push: Push, subscription: Subscription) -> tuple[str | None, bool]:
        """(why it failed, whether the subscription has ended)."""
        refusal = check_endpoint(subscription.address) if self.public_only else None
        if refusal is not None:
            return refusal, refusal != "unknown_host"
        try:
            with _NoRedirects() as session:
                webpush(
                    {"endpoint": subscription.address, "keys": subscription.keys},
                    data=json.dumps(push.body, ensure_ascii=False),
                    vapid_private_key=self.key,
                    vapid_claims={"sub": self.contact},
                    timeout=TIMEOUT_S,
                    ttl=0 if push.kind == PushKind.WITHDRAWN else KEEP_S,
                    headers={"Urgency": "high", "Topic": _topic(push)},
                    requests_session=session,
                )
        except WebPushException as error:
            if error.status_code is None:  # nothing was sent: the keys are no keys
                return "bad subscription", True
            return f"status {error.status_code}", error.status_code in _GONE
        except requests.RequestException as error:
            return type(error).__name__, False
        except (ValueError, TypeError, LookupError):
            return "bad subscription", True
        return None, False


def _topic(push: Push) -> str:
    """A newer message about the same incident replaces one that waits: at most 32 base64url characters (RFC 8030, 5.4)."""
    name = (push.incident_id or push.id).bytes
    return base64.urlsafe_b64encode(name).rstrip(b"=").decode()


def make_channel(settings: Settings, database: Database) -> WebPushChannel:
    """The channel of this installation."""
    return WebPushChannel(key=read_vapid_key(settings.data_dir), contact=settings.web.push_contact)
