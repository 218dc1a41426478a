"""amqtt as a process, for trials on machines without Mosquitto: no shared subscriptions, no MQTT 5, no TLS, nothing is kept.

Log-ins and rights come from the same two files that Mosquitto has, looked at again every second. What amqtt cannot do:
end the connection of a log-in that was revoked (its messages are dropped, since the rights are gone with it).
"""

import asyncio
import signal
import time
from pathlib import Path

from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from devices.credential import check_password
from gridwarden.broker import access_dir
from kernel.settings import load_settings

_EVERY_S = 1.0


class AccessFiles:
    """`passwords` and `acl` as devices/access.py writes them; read anew when they changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looked_s = 0.0
        self._stamps: tuple[int, ...] = ()
        self._passwords: dict[str, str] = {}
        self._rules: dict[str, list[tuple[str, str]]] = {}  # of a user: (write | read | readwrite | deny, filter)
        self._patterns: list[tuple[str, str]] = []

    def admits(self, user: str, key: str) -> bool:
        """Whether this is a log-in."""
        self._look()
        return check_password(key, self._passwords.get(user, ""))

    def allows(self, user: str, client_id: str, topic: str, *, writes: bool) -> bool:
        """Whether `user` may write to a topic, or read what comes on it."""
        self._look()
        if user not in self._passwords:
            return False
        rules = self._rules.get(user, [])
        if any(right == "deny" and covers(pattern, topic) for right, pattern in rules):
            return False
        if not set("+#") & set(user + client_id):
            rules = rules + [(right, pattern.replace("%u", user)) for right, pattern in self._patterns]
        wanted = ("readwrite", "write" if writes else "read")
        return any(right in wanted and covers(pattern, topic) for right, pattern in rules)

    def _look(self) -> None:
        if time.monotonic() - self._looked_s < _EVERY_S and self._stamps:
            return
        self._looked_s = time.monotonic()
        paths = [self._folder / "passwords", self._folder / "acl"]
        stamps = tuple(path.stat().st_mtime_ns for path in paths if path.exists())
        if stamps == self._stamps or len(stamps) < len(paths):
            return
        self._stamps = stamps
        lines = (line.partition(":") for line in paths[0].read_text().splitlines())
        self._passwords = {user: password for user, _, password in lines}
        self._read_rights(paths[1].read_text())

    def _read_rights(self, text: str) -> None:
        self._rules, self._patterns, user = {}, [], ""
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            if word == "user":
                user = rest
            elif word in ("topic", "pattern"):
                right, _, pattern = rest.partition(" ")
                (self._patterns if word == "pattern" else self._rules.setdefault(user, [])).append((right, pattern))


def covers(pattern: str, topic: str) -> bool:
    """Whether `topic`, which has no wildcards, is one that `pattern` means."""
    ours, theirs = pattern.split("/"), topic.split("/")
    if topic.startswith("$") and not pattern.startswith("$"):
        return False
    for number, part in enumerate(ours):
        if part == "#":
            return True
        if number >= len(theirs) or part not in ("+", theirs[number]):
            return False
    return len(ours) == len(theirs)


_FILES: AccessFiles | None = None


def _files() -> AccessFiles:
    global _FILES  # amqtt makes its plugins itself, without a way to hand them anything
    if _FILES is None:
        _FILES = AccessFiles(access_dir(load_settings()))
    return _FILES


class Login(BaseAuthPlugin):  # type: ignore[misc]
    """The platform's log-in and the devices'."""

    async def authenticate(self, *, session: Session) -> bool | None:
        return _files().admits(session.username or "", session.password or "")


class Topics(BaseTopicPlugin):  # type: ignore[misc]
    """A device writes and reads under its own topic, a gateway under its children's too; the platform everywhere.

    As with Mosquitto, anybody may subscribe to anything and receives what it may read.
    """

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool | None:
        if session is None or topic is None:
            return False
        if action == Action.SUBSCRIBE:
            return True
        writes = action == Action.PUBLISH
        return _files().allows(session.username or "", session.client_id or "", topic, writes=writes)


async def serve() -> None:
    """Run until SIGTERM."""
    settings = load_settings()
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{settings.mqtt.host}:{settings.mqtt.port}"}},
            "plugins": {"gridwarden.amqtt_broker.Login": {}, "gridwarden.amqtt_broker.Topics": {}},
        }
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await broker.start()
    await stop.wait()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(serve())
