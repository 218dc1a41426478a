"""The embedded broker: Mosquitto with a configuration we write; amqtt for trials where Mosquitto is not installed.

Mosquitto's defaults keep 1,000 queued messages and lose acknowledged ones at a kill. Ours keep ten minutes at 1,000 messages/s by
bytes, allow two batches in flight, and save often. What survives a broker's own kill are the device's repeats (receipts).
"""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from kernel.secret import read_secret
from kernel.settings import Settings

DEVICE_LOGIN = "device"  # one shared log-in for devices until they have their own keys


class BrokerError(RuntimeError):
    """The embedded broker cannot be prepared; the text says how to mend it."""


@dataclass(frozen=True, slots=True)
class Broker:
    """How to run the embedded broker. `trial`: amqtt, which is not for production."""

    command: list[str]
    trial: bool
    account: str | None


def platform_login(settings: Settings) -> tuple[str, str]:
    """User and password of the platform itself."""
    return settings.mqtt.username, settings.mqtt.password or read_secret(settings.data_dir, "mqtt-platform")


def device_login(settings: Settings) -> tuple[str, str]:
    """User and password that devices (and simulators) use on the embedded broker."""
    return DEVICE_LOGIN, read_secret(settings.data_dir, "mqtt-device")


def find_mosquitto() -> str | None:
    """Mosquitto's server, which Debian puts in /usr/sbin, often not on an ordinary user's path."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def prepare_broker(settings: Settings) -> Broker:
    """Write the broker's configuration and passwords.

    Raises BrokerError when the settings ask for Mosquitto and it is not there.
    """
    program = find_mosquitto()
    if settings.mqtt.embedded == "mosquitto" and program is None:
        raise BrokerError(
            "mosquitto is not installed: `apt-get install mosquitto`, or set mqtt.embedded = 'amqtt' for a trial"
        )
    folder = settings.data_dir / "broker"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if program is None or settings.mqtt.embedded == "amqtt":
        return Broker([sys.executable, "-m", "gridwarden.amqtt_broker"], trial=True, account=None)
    return _prepare_mosquitto(settings, program, folder)


def _prepare_mosquitto(settings: Settings, program: str, folder: Path) -> Broker:
    passwords, acl, config = folder / "passwords", folder / "acl", folder / "mosquitto.conf"
    tool = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
    plain = folder / f".passwords.{os.getpid()}"
    plain.touch(mode=0o600)
    plain.write_text("".join(f"{user}:{key}\n" for user, key in (platform_login(settings), device_login(settings))))
    done = subprocess.run([tool, "-U", plain], capture_output=True, text=True, check=False)
    if done.returncode:
        plain.unlink()
        raise BrokerError(f"mosquitto_passwd failed: {done.stderr.strip()}")
    plain.rename(passwords)
    acl.write_text(_acl(settings.mqtt.username))
    config.write_text(_configuration(settings, folder))
    config.chmod(0o600)
    acl.chmod(0o600)
    # Started as root Mosquitto drops to an account that could not read a data directory inside root's home: stay who we are.
    return Broker([program, "-c", str(config)], trial=False, account=pwd.getpwuid(os.geteuid()).pw_name)


def _acl(platform: str) -> str:
    ways_in = "\n".join(f"topic write gridwarden/+/+/{kind}" for kind in ("telemetry", "event", "state", "reply"))
    ways_out = "\n".join(f"topic read gridwarden/+/+/{kind}" for kind in ("receipt", "command"))
    return f"user {platform}\ntopic readwrite #\n\nuser {DEVICE_LOGIN}\n{ways_in}\n{ways_out}\n"


def _configuration(settings: Settings, folder: Path) -> str:
    return f"""# Written by gridwarden at every start.
listener {settings.mqtt.port} {settings.mqtt.host}
allow_anonymous false
password_file {folder / "passwords"}
acl_file {folder / "acl"}
user {pwd.getpwuid(os.geteuid()).pw_name}
persistence true
persistence_location {folder}/
autosave_interval 5
max_inflight_messages {settings.ingest.batch_messages * 2}
max_queued_messages 0
max_queued_bytes {settings.mqtt.queue_bytes}
message_size_limit 2000000
max_keepalive 600
log_dest stderr
log_type error
log_type warning
connection_messages false
"""


def wait_for_broker(settings: Settings, timeout_s: float = 15.0) -> None:
    """Wait until the broker's port answers.

    Raises BrokerError naming the address after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with socket.create_connection((settings.mqtt.host, settings.mqtt.port), timeout=1.0):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                address = f"{settings.mqtt.host}:{settings.mqtt.port}"
                raise BrokerError(f"no broker answers at {address} after {timeout_s:.0f} s: {error}") from error
            time.sleep(0.1)
