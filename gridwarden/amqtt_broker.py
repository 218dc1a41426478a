"""amqtt as a process, for trials on machines without Mosquitto: no shared subscriptions, no MQTT 5, nothing is kept.

Topic rules are those of the Mosquitto configuration: one account for the platform, one for devices.
"""

import asyncio
import re
import signal

from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from gridwarden.broker import device_login, platform_login
from kernel.settings import load_settings

_IN = re.compile(r"gridwarden/[^/]+/[^/]+/(telemetry|event|state|reply)")
_OUT = re.compile(r"gridwarden/[^/]+/[^/]+/(receipt|command)")


class Login(BaseAuthPlugin):  # type: ignore[misc]
    """The two accounts of this installation."""

    async def authenticate(self, *, session: Session) -> bool | None:
        settings = load_settings()
        return (session.username, session.password) in (platform_login(settings), device_login(settings))


class Topics(BaseTopicPlugin):  # type: ignore[misc]
    """A device writes its own kinds of topics and reads receipts and commands; the platform does everything."""

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool | None:
        if session is None or topic is None:
            return False
        if session.username == load_settings().mqtt.username:
            return True
        pattern = _IN if action == Action.PUBLISH else _OUT
        return pattern.fullmatch(topic) is not None


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
