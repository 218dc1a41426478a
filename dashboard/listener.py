"""One open socket as the hub knows it: whose it is, what waits for it, and when it is given up."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

from dashboard.feed import Delta
from kernel.types import Role

BYTE_LIMIT = 4_000_000  # waiting for one socket, its first snapshot not counted
CLOSE_REVOKED, CLOSE_SLOW, CLOSE_RESTART = 4401, 4408, 1012


@dataclass(frozen=True, slots=True)
class Audience:
    """Sockets that see the same: one scope, with or without the staff's positions."""

    scope: str
    sees_staff: bool


@dataclass(eq=False, slots=True)
class Socket:
    """One open socket as the hub knows it. Only the event loop touches it."""

    audience: Audience
    user_id: UUID
    roles: frozenset[Role]
    token_hash: bytes
    seq: int = 0
    joining: bool = True
    held: list[Delta] = field(default_factory=list)
    texts: deque[tuple[str, int]] = field(default_factory=deque)  # with what each counts
    queued_bytes: int = 0
    wants_full: bool = False  # telemetry was left out while it lagged
    told: set[UUID] = field(default_factory=set)  # tasks that were sent on this socket
    close_code: int | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, text: str, *, counted: bool = True) -> None:
        """Queue a message; a socket that has too much waiting already is given up instead of growing for ever.

        What it needs to begin with is not counted: a large city's snapshot is no sign of a slow browser.
        """
        if self.close_code is not None:
            return
        cost = len(text) if counted else 0
        if self.queued_bytes and self.queued_bytes + cost > BYTE_LIMIT:
            self.close(CLOSE_SLOW)
            return
        self.texts.append((text, cost))
        self.queued_bytes += cost
        self.ready.set()

    def close(self, code: int) -> None:
        """Ask for its end; what waits is let go at once."""
        if self.close_code is None:
            self.close_code = code
            self.texts.clear()
            self.held.clear()
            self.closing.set()
