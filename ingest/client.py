"""The platform's own clients of the broker: how they log in, by TLS or not, and how they come back."""

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from kernel.secret import read_secret
from kernel.settings import Settings


def find_login(settings: Settings) -> tuple[str, str]:
    """User and password of the platform on the broker."""
    return settings.mqtt.username, settings.mqtt.password or read_secret(settings.data_dir, "mqtt-platform")


def make_client(
    settings: Settings,
    client_id: str,
    *,
    modern: bool = False,
    keeps_session: bool = False,
    manual_ack: bool = False,
    most_wait_s: int = 4,
) -> Client:
    """A client that is not connected yet, of MQTT 3.1.1, or 5 when `modern`; a lost connection is tried again after 1 to
    `most_wait_s` seconds. `keeps_session`: what comes while it is away waits at the broker (3.1.1 only; version 5 says it
    when it connects)."""
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if modern else not keeps_session,
        protocol=MQTTProtocolVersion.MQTTv5 if modern else MQTTProtocolVersion.MQTTv311,
        manual_ack=manual_ack,
    )
    client.username_pw_set(*find_login(settings))
    if settings.mqtt.tls:
        client.tls_set(ca_certs=settings.mqtt.ca_file or None)
    client.reconnect_delay_set(min_delay=1, max_delay=most_wait_s)
    return client


def start_client(client: Client, settings: Settings) -> None:
    """Connect now, or as soon as the broker is there, in a thread of the client's own."""
    client.connect_async(settings.mqtt.host, settings.mqtt.port, keepalive=30)
    client.loop_start()
