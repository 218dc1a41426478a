"""The embedded broker lets in whom the register names, each under its own topic, on a real Mosquitto."""

import contextlib
import datetime as dt
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from devices.access import Access, read_access
from devices.credential import issue_key, revoke_key
from devices.model import Device
from devices.store import DeviceRecord, add_device, read_device, set_device_enabled
from gridwarden.amqtt_broker import AccessFiles
from gridwarden.broker import (
    AccessKeeper,
    find_mosquitto,
    prepare_broker,
    wait_for_broker,
    write_access,
    write_configuration,
)
from ingest.client import find_login
from ingest.mqtt import client_ids, name_group
from kernel.db import Database
from kernel.settings import Settings
from tests.conftest import free_port
from tests.waiting import wait_until


def register(database: Database, code: str, kind: str = "smoke_alarm", parent: Device | None = None) -> Device:
    with database.transaction("*") as connection:
        record = DeviceRecord(
            code=code, kind=kind, name=code, lon=120.17, lat=30.28, parent_id=parent.id if parent else None
        )
        return add_device(connection, record, datetime.now(UTC))


def give_key(database: Database, device: Device, overlap: timedelta = timedelta(hours=1)) -> tuple[str, str]:
    with database.transaction("*") as connection:
        return issue_key(connection, device, datetime.now(UTC), overlap)


class Party:
    """One client on the broker: what it was told, and what came."""

    def __init__(self, settings: Settings, user: str, key: str, client_id: str = "", **options: object) -> None:
        self.answers: list[str] = []
        self.ends: list[str] = []
        self.heard: list[tuple[str, bytes]] = []
        self.subscribed = 0
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, reconnect_on_failure=False)
        if user:
            self.client.username_pw_set(user, key)
        self.client.on_connect = lambda *arguments: self.answers.append(str(arguments[3]))
        self.client.on_disconnect = lambda *arguments: self.ends.append(str(arguments[3]))
        self.client.on_message = lambda client, data, message: self.heard.append((message.topic, message.payload))
        self.client.on_subscribe = self._note_subscription
        port = int(str(options.get("port", settings.mqtt.port)))
        if "tls" in options:
            self.client.tls_set(**options["tls"])  # type: ignore[arg-type]
        with contextlib.suppress(OSError):  # a certificate that is refused
            self.client.connect("localhost" if "tls" in options else settings.mqtt.host, port)
            self.client.loop_start()

    def _note_subscription(self, *arguments: object) -> None:
        self.subscribed += 1

    @property
    def is_in(self) -> bool:
        wait_until(lambda: self.answers or self.ends, "an answer to the log-in")
        return self.answers[:1] == ["Success"]

    def listen(self, *filters: str) -> None:
        assert self.is_in
        self.client.subscribe([(name, 1) for name in filters])
        wait_until(lambda: self.subscribed, "a subscription")

    def say(self, topic: str, text: str = "x") -> None:
        assert self.is_in
        self.client.publish(topic, text, qos=1)

    def leave(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@dataclass
class Scene:
    """A broker of its own, kept as the register says."""

    settings: Settings
    database: Database
    folder: Path
    process: subprocess.Popen[bytes]
    parties: list[Party] = field(default_factory=list)
    keeper: AccessKeeper | None = None

    def enter(self, user: str, key: str, client_id: str = "", **options: object) -> Party:
        self.parties.append(Party(self.settings, user, key, client_id, **options))
        return self.parties[-1]

    def platform(self, *filters: str) -> Party:
        party = self.enter(*find_login(self.settings), client_id="")
        party.listen(*(filters or ("gridwarden/#",)))
        return party

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def renew(self) -> None:
        """Write what the register says now, and wait until the broker knows it."""
        user, key = f"probe-{time.monotonic_ns()}", ""
        device = register(self.database, user)
        name, key = give_key(self.database, device)
        keeper = AccessKeeper(self.settings, self.reload, folder=self.folder)
        assert keeper.look(self.database)
        wait_until(lambda: self.enter(name, key).is_in, "the broker took up the new log-ins")

    def settle(self, observer: Party) -> None:
        """Wait until everything said before has come, or never will."""
        mark = f"mark-{time.monotonic_ns()}".encode()
        teller = self.enter(*find_login(self.settings))
        teller.say("gridwarden/mark/mark/event", mark.decode())
        wait_until(lambda: any(payload == mark for _, payload in observer.heard), "the mark")

    def texts(self, observer: Party) -> list[str]:
        return [payload.decode() for topic, payload in observer.heard if "/mark/" not in topic]


@contextlib.contextmanager
def staged(settings: Settings, database: Database, folder: Path) -> Iterator[Scene]:
    program = find_mosquitto()
    if program is None:
        pytest.skip("mosquitto is not installed")
    mqtt_settings = settings.mqtt.model_copy(update={"port": free_port(), "embedded": "mosquitto"})
    settings = settings.model_copy(update={"mqtt": mqtt_settings})
    folder.mkdir(mode=0o700, exist_ok=True)
    with database.transaction("*") as connection:
        write_access(settings, read_access(connection, datetime.now(UTC)), folder)
    (folder / "mosquitto.conf").write_text(write_configuration(settings, folder))
    command = [program, "-c", str(folder / "mosquitto.conf")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ})
    scene = Scene(settings, database, folder, process)
    try:
        wait_for_broker(settings)
        yield scene
    finally:
        for party in scene.parties:
            party.leave()
        process.terminate()
        process.wait(10)


@pytest.fixture
def scene(settings: Settings, database: Database, tmp_path: Path) -> Iterator[Scene]:
    with staged(settings, database, tmp_path / "broker") as made:
        yield made


def mosquitto_pub(scene: Scene, login: tuple[str, str], topic: str, text: str) -> None:
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("mosquitto_pub is not installed")
    address = ["-h", scene.settings.mqtt.host, "-p", str(scene.settings.mqtt.port), "-u", login[0], "-P", login[1]]
    subprocess.run(["mosquitto_pub", *address, "-q", "1", "-t", topic, "-m", text], check=True, timeout=20)


def test_a_device_writes_under_its_own_topic_and_nowhere_else(scene: Scene) -> None:
    login = give_key(scene.database, register(scene.database, "S1"))
    register(scene.database, "S2")
    scene.renew()
    platform = scene.platform("#")
    for kind in ("telemetry", "event", "state", "reply"):
        mosquitto_pub(scene, login, f"gridwarden/smoke_alarm/S1/{kind}", kind)
    forbidden = (
        "gridwarden/smoke_alarm/S2/event", "gridwarden/smoke_alarm/S1/receipt", "gridwarden/smoke_alarm/S1/command",
        "gridwarden/smoke_alarm/S1/event/more", "gridwarden/smoke_alarm/S1", "gridwarden-console/S1", "anything", "S1",
    )  # fmt: skip
    for topic in forbidden:
        mosquitto_pub(scene, login, topic, f"forbidden {topic}")
    scene.settle(platform)
    assert scene.texts(platform) == ["telemetry", "event", "state", "reply"]


def test_a_device_reads_its_own_receipts_and_commands_and_nobody_elses(scene: Scene) -> None:
    login = give_key(scene.database, register(scene.database, "S1"))
    register(scene.database, "S2")
    scene.renew()
    device = scene.enter(*login)
    device.listen("#", "$SYS/#", "gridwarden/+/+/receipt", "gridwarden/+/S2/command")
    platform = scene.platform()
    for code in ("S1", "S2"):
        for kind in ("receipt", "command", "event"):
            platform.say(f"gridwarden/smoke_alarm/{code}/{kind}", f"{code} {kind}")
    scene.settle(platform)
    wait_until(lambda: len(device.heard) >= 2, "its own two")
    platform.say("gridwarden/smoke_alarm/S1/receipt", "last")
    wait_until(lambda: any(payload == b"last" for _, payload in device.heard), "what was said last")
    # Mosquitto delivers once for each subscription that fits.
    assert {payload.decode() for _, payload in device.heard} == {"S1 receipt", "S1 command", "last"}


def test_a_gateway_speaks_for_its_children_and_for_nobody_else(scene: Scene) -> None:
    gateway = register(scene.database, "G1", "gateway")
    other = register(scene.database, "G2", "gateway")
    register(scene.database, "C1", parent=gateway)
    register(scene.database, "C2", parent=other)
    register(scene.database, "S1")
    login = give_key(scene.database, gateway)
    scene.renew()
    platform, through = scene.platform(), scene.enter(*login)
    through.listen("gridwarden/+/+/receipt", "gridwarden/+/+/command")
    for code, kind in (("G1", "gateway"), ("C1", "smoke_alarm"), ("C2", "smoke_alarm"), ("S1", "smoke_alarm")):
        through.say(f"gridwarden/{kind}/{code}/event", code)
        platform.say(f"gridwarden/{kind}/{code}/receipt", f"to {code}")
    through.say("gridwarden/gateway/G1/event", "last")
    wait_until(lambda: "last" in scene.texts(platform), "what was said last")  # what is forbidden ended nothing
    scene.settle(platform)
    assert [text for text in scene.texts(platform) if not text.startswith("to ")] == ["G1", "C1", "last"]
    platform.say("gridwarden/gateway/G1/receipt", "to the end")
    wait_until(lambda: any(payload == b"to the end" for _, payload in through.heard), "what the platform said last")
    assert {payload.decode() for _, payload in through.heard} == {"to G1", "to C1", "to the end"}


def test_keys_overlap_at_a_rotation_and_the_old_one_ends(scene: Scene) -> None:
    device = register(scene.database, "S1")
    first = give_key(scene.database, device)
    second = give_key(scene.database, device, timedelta(hours=1))
    scene.renew()
    platform = scene.platform()
    assert second[0] == "S1@2"
    for name, (user, key) in {"first": first, "second": second}.items():
        scene.enter(user, key).say("gridwarden/smoke_alarm/S1/event", name)
    wait_until(lambda: sorted(scene.texts(platform)) == ["first", "second"], "both")
    third = give_key(scene.database, device, timedelta(0))
    scene.renew()
    assert not scene.enter(*first).is_in
    assert not scene.enter(*second).is_in
    assert scene.enter(*third).is_in
    assert not scene.enter(third[0], first[1]).is_in


def test_a_key_that_is_revoked_ends_its_connection_within_seconds(scene: Scene) -> None:
    device, stays = register(scene.database, "S1"), register(scene.database, "S2")
    login, other = give_key(scene.database, device), give_key(scene.database, stays)
    keeper = AccessKeeper(scene.settings, scene.reload, folder=scene.folder, every_s=0.1)
    keeper.start()
    try:
        wait_until(lambda: scene.enter(*other).is_in and scene.enter(*login).is_in, "both are let in")
        watched, kept = scene.enter(*login), scene.enter(*other)
        assert watched.is_in and kept.is_in
        with scene.database.transaction("*") as connection:
            revoke_key(connection, device, 1, datetime.now(UTC))
        wait_until(lambda: watched.ends, "its connection ends")
        assert not scene.enter(*login).is_in
        assert not kept.ends  # nobody else noticed
    finally:
        keeper.stop()


def test_a_key_ends_by_itself_when_its_overlap_is_over(scene: Scene) -> None:
    device = register(scene.database, "S1")
    login = give_key(scene.database, device)
    give_key(scene.database, device, timedelta(seconds=4))
    keeper = AccessKeeper(scene.settings, scene.reload, folder=scene.folder, every_s=0.1)
    keeper.start()
    try:
        wait_until(lambda: scene.enter(*login).is_in, "it is let in at first", timeout_s=4)
        wait_until(lambda: not scene.enter(*login).is_in, "it is refused after its end")
    finally:
        keeper.stop()


def test_a_device_that_is_switched_off_cannot_log_in(scene: Scene) -> None:
    login = give_key(scene.database, register(scene.database, "S1"))
    scene.renew()
    assert scene.enter(*login).is_in
    with scene.database.transaction("*") as connection:
        set_device_enabled(connection, "S1", False, datetime.now(UTC))
    scene.renew()
    assert not scene.enter(*login).is_in


@pytest.mark.parametrize("client_id", ["S2#", "#", "+", "a+b", "x\x01y", "x\x7fy"])
def test_a_client_id_with_a_wildcard_or_a_control_character_opens_nothing(scene: Scene, client_id: str) -> None:
    login = give_key(scene.database, register(scene.database, "S1"))
    scene.renew()
    platform, odd = scene.platform(), scene.enter(*login, client_id=client_id)
    with contextlib.suppress(AssertionError):  # a control character: not even let in
        odd.say("gridwarden/smoke_alarm/S1/event", "odd")
    ordinary = scene.enter(*login, client_id="S1")
    ordinary.say("gridwarden/smoke_alarm/S1/event", "ordinary")
    wait_until(lambda: "ordinary" in scene.texts(platform), "the ordinary one")
    scene.settle(platform)
    assert scene.texts(platform) == ["ordinary"]


def test_a_device_can_neither_join_the_platforms_group_nor_take_its_session(scene: Scene) -> None:
    rogue_login = give_key(scene.database, register(scene.database, "S1"))
    login = give_key(scene.database, register(scene.database, "S2"))
    scene.renew()
    settings = scene.settings
    group = name_group(settings)
    platform = scene.enter(*find_login(settings), client_id=client_ids(settings)[0])
    platform.listen(f"{group}gridwarden/+/+/event")
    rogue = scene.enter(*rogue_login, client_id="gridwarden-ingest-0")
    rogue.listen("$share/gridwarden/gridwarden/+/+/event", "$share/+/gridwarden/+/+/event", "gridwarden/+/+/event")
    device = scene.enter(*login)
    for number in range(20):
        device.say("gridwarden/smoke_alarm/S2/event", str(number))
    wait_until(lambda: len(platform.heard) == 20, "all twenty at the platform")
    assert not rogue.heard and not platform.ends
    other = settings.model_copy(update={"mqtt": settings.mqtt.model_copy(update={"password": "another"})})
    assert name_group(other) != group and not set(client_ids(other)) & set(client_ids(settings))


def test_the_platforms_own_name_is_not_to_be_had(scene: Scene) -> None:
    user, key = find_login(scene.settings)
    stolen = give_key(scene.database, register(scene.database, user))
    scene.renew()
    assert not scene.enter(*stolen).is_in
    assert scene.enter(user, key).is_in
    assert (scene.folder / "acl").read_text().count(f"user {user}\n") == 1


def test_devices_are_let_in_before_the_database_is_up(scene: Scene) -> None:
    login = give_key(scene.database, register(scene.database, "S1"))
    scene.renew()
    target = scene.settings.data_dir / "broker"
    kept = {path.name: path.read_text() for path in target.glob("*") if path.name in ("passwords", "acl")}
    try:
        for name in ("passwords", "acl"):
            target.mkdir(exist_ok=True)
            shutil.copy(scene.folder / name, target / name)
        prepare_broker(scene.settings)
        assert f"\n{login[0]}:" in (target / "passwords").read_text()
        changed = scene.settings.mqtt.model_copy(update={"password": "a new one"})
        prepare_broker(scene.settings.model_copy(update={"mqtt": changed}))
        assert AccessFiles(target).admits("platform", "a new one")
    finally:
        for name in ("passwords", "acl"):
            (target / name).unlink(missing_ok=True)
        for name, text in kept.items():
            (target / name).write_text(text)


def test_files_are_written_only_when_they_say_something_new_and_to_nobody_else(
    settings: Settings, tmp_path: Path
) -> None:
    nothing = Access(logins=(), barred=(), next_end_at=None)
    assert write_access(settings, nothing, tmp_path)
    assert not write_access(settings, nothing, tmp_path)
    for name in ("passwords", "acl"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


# ---- TLS -----------------------------------------------------------------------------------------------------------


class Authority:
    """Certificates for a broker and for devices, signed by one of our own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "devices of a test")])
        self.certificate = self._sign(self.name, self.key.public_key(), authority=True)
        (folder / "ca.pem").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool = False) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )  # fmt: skip
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, common_name: str) -> tuple[str, str]:
        """Files of certificate and key for a name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        certificate = self._sign(subject, key.public_key())
        stem = self.folder / f"{len(list(self.folder.iterdir()))}"
        stem.with_suffix(".pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        stem.with_suffix(".key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return str(stem.with_suffix(".pem")), str(stem.with_suffix(".key"))


def with_tls(settings: Settings, authority: Authority, *, client_certificates: bool) -> Settings:
    certificate, key = authority.issue("localhost")
    changed = {"tls_cert": certificate, "tls_key": key, "tls_host": "127.0.0.1", "tls_port": free_port()}
    if client_certificates:
        changed["tls_client_ca"] = str(authority.folder / "ca.pem")
    return settings.model_copy(update={"mqtt": settings.mqtt.model_copy(update=changed)})


def test_a_certificate_whose_name_is_the_log_in_opens_the_devices_own_topic(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "tls")
    register(database, "S1")
    register(database, "S2")
    barred = register(database, "S3")
    give_key(database, barred)
    with database.transaction("*") as connection:
        revoke_key(connection, read_device(connection, "S3"), 1, datetime.now(UTC))
    ca = {"ca_certs": str(authority.folder / "ca.pem")}
    with staged(with_tls(settings, authority, client_certificates=True), database, tmp_path / "broker") as scene:
        port = scene.settings.mqtt.tls_port
        platform = scene.platform()
        for code in ("S1", "S3"):
            certificate, key = authority.issue(code)
            tls = {**ca, "certfile": certificate, "keyfile": key}
            party = scene.enter("S2", "pretended", port=port, tls=tls)
            party.say(f"gridwarden/smoke_alarm/{code}/event", f"{code} as itself")
            party.say("gridwarden/smoke_alarm/S2/event", f"{code} as another")
            if code == "S1":
                wait_until(lambda: "S1 as itself" in scene.texts(platform), "its event")
        assert not scene.enter("S1", "x", port=port, tls=ca).answers  # no certificate, no connection
        stranger = Authority(tmp_path / "stranger")
        certificate, key = stranger.issue("S1")
        foreign = scene.enter("", "", port=port, tls={**ca, "certfile": certificate, "keyfile": key})
        wait_until(lambda: foreign.ends or not foreign.client.is_connected(), "a foreign authority's is refused")
        scene.settle(platform)
        assert scene.texts(platform) == ["S1 as itself"]
        assert not foreign.answers


def test_over_tls_a_devices_client_id_is_its_log_in(settings: Settings, database: Database, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    first, second = (give_key(database, register(database, code)) for code in ("S1", "S2"))
    with staged(with_tls(settings, authority, client_certificates=False), database, tmp_path / "broker") as scene:
        options = {"port": scene.settings.mqtt.tls_port, "tls": {"ca_certs": str(authority.folder / "ca.pem")}}
        victim = scene.enter(*first, client_id="S1", **options)
        assert victim.is_in
        for client_id in ("S1", "a/b"):
            assert scene.enter(*second, client_id=client_id, **options).is_in
        platform = scene.platform()
        victim.say("gridwarden/smoke_alarm/S1/event", "still here")
        wait_until(lambda: "still here" in scene.texts(platform), "the first one's event")
        assert not victim.ends
        assert not scene.enter("S1", "wrong", **options).is_in


# ---- amqtt -----------------------------------------------------------------------------------------------------------


def test_the_trial_broker_goes_by_the_same_files(settings: Settings, database: Database, tmp_path: Path) -> None:
    gateway = register(database, "G1", "gateway")
    register(database, "C1", parent=gateway)
    device = register(database, "S1")
    user, key = give_key(database, device)
    rotated, new_key = give_key(database, device)
    with database.transaction("*") as connection:
        write_access(settings, read_access(connection, datetime.now(UTC)), tmp_path)
    gateway_user, gateway_key = give_key(database, gateway)
    files = AccessFiles(tmp_path)
    assert files.admits(user, key) and files.admits(rotated, new_key)
    assert not files.admits(user, new_key) and not files.admits(gateway_user, gateway_key) and not files.admits("", "")
    with database.transaction("*") as connection:
        write_access(settings, read_access(connection, datetime.now(UTC)), tmp_path)
    wait_until(lambda: files.admits(gateway_user, gateway_key), "the new file is read")
    own, foreign = "gridwarden/smoke_alarm/S1", "gridwarden/smoke_alarm/C1"
    for name in (user, rotated):
        assert files.allows(name, "c", f"{own}/event", writes=True)
        assert files.allows(name, "c", f"{own}/receipt", writes=False)
        assert not files.allows(name, "c", f"{own}/receipt", writes=True)
        assert not files.allows(name, "c", f"{foreign}/event", writes=True)
        assert not files.allows(name, "c", f"{foreign}/command", writes=False)
    assert not files.allows(user, "a#", f"{own}/event", writes=True)
    assert files.allows("G1", "c", f"{foreign}/event", writes=True)
    assert files.allows("G1", "c", f"{foreign}/command", writes=False)
    assert not files.allows("G1", "c", f"{own}/event", writes=True)
    assert files.allows("platform", "c", f"{own}/receipt", writes=True)
    assert not files.allows("stranger", "c", f"{own}/event", writes=True)
