"""What deploy/ holds is what the system wants, and runs where it can be run here."""

import contextlib
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg.conninfo import make_conninfo

from devices.credential import check_password, issue_key, revoke_key
from gridwarden.access import export_emqx, export_mosquitto
from gridwarden.broker import find_mosquitto, write_configuration
from ingest.client import find_login
from kernel.db import Database, DbRole, conninfo
from kernel.secret import read_secret
from kernel.settings import Settings
from tests.conftest import free_port
from tests.gridwarden.test_broker import Authority, Party, register, wait_until

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def lines_of(text: str) -> dict[str, str]:
    """Settings of a mosquitto.conf by name; of a name that stands twice the last."""
    return dict(line.split(" ", 1) for line in text.splitlines() if " " in line and not line.startswith("#"))


def test_compose_asks_for_what_must_never_be_lost() -> None:
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    database, broker = document["services"]["database"], document["services"]["broker"]
    assert database["image"].startswith("timescale/timescaledb:")
    flags = [value for flag, value in zip(database["command"], database["command"][1:], strict=False) if flag == "-c"]
    for wanted in (
        "fsync=on",
        "synchronous_commit=on",
        "full_page_writes=on",
        "shared_preload_libraries=timescaledb",
        "timezone=UTC",
    ):
        assert wanted in flags
    assert "--data-checksums" in database["environment"]["POSTGRES_INITDB_ARGS"]
    published = [port.split(":") for service in (database, broker) for port in service["ports"]]
    outside = [port[-1] for port in published if port[0] != "127.0.0.1"]
    assert outside == ["8883"]  # the devices' port, over TLS, and nothing else
    assert {"/mosquitto/data", "/access-from-platform:ro"} <= {
        volume.split(":", 1)[1].rpartition("}:")[2] for volume in broker["volumes"]
    }
    for service in (database, broker):
        assert service["restart"] == "unless-stopped" and service["healthcheck"]["test"]


def test_every_variable_of_compose_is_in_the_example_or_has_a_default() -> None:
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    example = {line.split("=")[0] for line in (DEPLOY / ".env.example").read_text("utf-8").splitlines() if "=" in line}
    used = set(re.findall(r"\$\{([A-Z_]+)", text))
    assert used == example


def test_docker_compose_accepts_the_file() -> None:
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    version = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if version.returncode:
        pytest.skip("docker has no compose plug-in")
    command = [
        "docker",
        "compose",
        "-f",
        str(DEPLOY / "compose.yaml"),
        "--env-file",
        str(DEPLOY / ".env.example"),
        "config",
        "-q",
    ]
    done = subprocess.run(
        command, env={"PATH": "/usr/bin:/bin", "DATABASE_PASSWORD": "x"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_deployed_broker_has_the_figures_of_the_embedded_one(settings: Settings, tmp_path: Path) -> None:
    ours = lines_of(write_configuration(settings, tmp_path))
    deployed = lines_of((DEPLOY / "mosquitto" / "mosquitto.conf").read_text())
    for name in ("max_queued_bytes", "max_queued_messages", "message_size_limit", "max_keepalive", "autosave_interval",
                 "persistence", "allow_anonymous"):  # fmt: skip
        assert deployed[name] == ours[name], name
    assert int(deployed["max_inflight_messages"]) >= int(ours["max_inflight_messages"])


@contextlib.contextmanager
def deployed_broker(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """deploy/mosquitto as the container runs it, with the container's folders below `tmp_path`."""
    program = find_mosquitto()
    if program is None or Path("/etc/passwd").read_text().find("\nmosquitto:") < 0:
        pytest.skip("mosquitto is not installed")
    plain, secure = free_port(), free_port()
    base = tmp_path / "mosquitto"
    for name in ("config", "data", "access", "tls"):
        (base / name).mkdir(parents=True)
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("localhost")
    shutil.copy(certificate, base / "tls" / "server.pem")
    shutil.copy(key, base / "tls" / "server.key")
    text = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text().replace("/mosquitto/", f"{base}/")
    text = text.replace("listener 1883", f"listener {plain} 127.0.0.1").replace(
        "listener 8883", f"listener {secure} 127.0.0.1"
    )
    (base / "config" / "mosquitto.conf").write_text(text + "user root\n")
    script = (DEPLOY / "mosquitto" / "run.sh").read_text().replace("/access-from-platform", str(tmp_path / "access"))
    script = (
        script.replace("/mosquitto/", f"{base}/")
        .replace("mosquitto -c", f"{program} -c")
        .replace("chown mosquitto", "chown root")
    )
    (tmp_path / "run.sh").write_text(script)
    process = subprocess.Popen(
        ["/bin/sh", str(tmp_path / "run.sh")], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    mqtt = settings.mqtt.model_copy(
        update={"port": plain, "tls_port": secure, "ca_file": str(authority.folder / "ca.pem")}
    )
    try:
        yield settings.model_copy(update={"mqtt": mqtt})
    finally:
        process.terminate()
        process.wait(15)


def test_the_deployed_broker_takes_up_log_ins_and_drops_revoked_ones(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    device = register(database, "S1")
    with database.transaction("*") as connection:
        login = issue_key(connection, device, datetime.now(UTC))
    parties: list[Party] = []
    stop = threading.Event()
    with deployed_broker(settings, tmp_path) as there:
        tls = {"ca_certs": there.mqtt.ca_file}

        def enter() -> Party:
            parties.append(Party(there, *login, client_id="whatever", port=there.mqtt.tls_port, tls=tls))
            return parties[-1]

        watcher = threading.Thread(
            target=export_mosquitto, args=(there, tmp_path / "access"), kwargs={"stop": stop}, daemon=True
        )
        watcher.start()
        try:
            wait_until(lambda: there_answers(there) and enter().is_in, "the device is let in", timeout_s=30)
            watched = enter()
            assert watched.is_in
            watched.say("gridwarden/smoke_alarm/S1/event")
            with database.transaction("*") as connection:
                revoke_key(connection, device, 1, datetime.now(UTC))
            wait_until(lambda: watched.ends and not enter().is_in, "it is thrown out", timeout_s=30)
        finally:
            stop.set()
            watcher.join(10)
            for party in parties:
                party.leave()


def there_answers(settings: Settings) -> bool:
    """Whether the TLS port is open yet."""
    import socket

    try:
        socket.create_connection(("127.0.0.1", settings.mqtt.tls_port), timeout=1).close()
    except OSError:
        time.sleep(0.2)
        return False
    return True


def test_files_for_a_broker_elsewhere_are_written_once_and_then_the_command_runs(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    register(database, "S1")
    said: list[str] = []
    marker = tmp_path / "ran"
    for _ in range(2):
        export_mosquitto(settings, tmp_path / "out", after=f"echo x >> {marker}", say=said.append)
    assert marker.read_text() == "x\n" and "nothing changed" in said[-1]
    user, key = find_login(settings)
    assert check_password(
        key, dict(line.split(":") for line in (tmp_path / "out" / "passwords").read_text().splitlines())[user]
    )


@pytest.fixture
def asking(settings: Settings, database: Database, tmp_path: Path) -> Iterator[tuple[psycopg.Connection, str]]:
    """EMQX's place: a connection as the role that role.sql makes, and gridwarden.conf."""
    export_emqx(settings, tmp_path)
    with psycopg.connect(conninfo(settings, DbRole.OWNER), autocommit=True) as owner:
        owner.execute((tmp_path / "role.sql").read_text())  # type: ignore[arg-type]
        try:
            info = make_conninfo(
                conninfo(settings, DbRole.OWNER), user="gw_broker", password=read_secret(settings.data_dir, "gw_broker")
            )
            with psycopg.connect(info, autocommit=True) as connection:
                yield connection, (tmp_path / "gridwarden.conf").read_text()
        finally:
            owner.execute("DROP OWNED BY gw_broker")
            owner.execute("DROP ROLE gw_broker")


def ask(connection: psycopg.Connection, configuration: str, table: str, **values: str) -> list[tuple[object, ...]]:
    """Run a query of the configuration as EMQX does: placeholders as bound parameters."""
    [query] = [q for q in re.findall(r'query = "(.*?)"\n', configuration) if f"FROM {table}" in q]
    bound = re.sub(r"\$\{(\w+)\}", r"%(\1)s", query.replace("%", "%%"))
    return connection.execute(bound, values).fetchall()  # type: ignore[arg-type]


def test_emqx_finds_a_devices_key_and_rights_and_nothing_else(
    asking: tuple[psycopg.Connection, str], database: Database
) -> None:
    connection, configuration = asking
    device = register(database, "S1")
    with database.transaction("*") as transaction:
        issue_key(transaction, device, datetime.now(UTC))
        issue_key(transaction, device, datetime.now(UTC), timedelta(hours=1))
    for user in ("S1", "S1@2"):
        assert len(ask(connection, configuration, "mqtt_login", username=user, clientid="dev-1")) == 1
    for user, client_id in (
        ("S2", "x"),
        ("S1", "a#"),
        ("S1", "+"),
        ("S1", "a/b"),
        ("S1", "a\x01b"),
        ("S1", "gridwarden-ingest-0"),
        ("' OR ''='", "x"),
    ):
        assert ask(connection, configuration, "mqtt_login", username=user, clientid=client_id) == []
    rights = ask(connection, configuration, "mqtt_permission", username="S1@2")
    assert ("allow", "publish", "gridwarden/smoke_alarm/S1/event") in rights
    assert ("allow", "subscribe", "gridwarden/smoke_alarm/S1/receipt") in rights
    for table in ("device_credential", "device", "app_user", "report"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"SELECT * FROM {table}")  # type: ignore[arg-type]


def test_emqx_is_told_how_keys_are_hashed_and_to_deny_by_default(settings: Settings, tmp_path: Path) -> None:
    written = export_emqx(settings, tmp_path)
    assert {path.name for path in written} == {"gridwarden.conf", "role.sql", "platform.csv"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in written)
    text = (tmp_path / "gridwarden.conf").read_text()
    assert "name = pbkdf2, mac_fun = sha512, iterations = 1, dk_length = 64" in text
    assert "no_match = deny" in text and "${username}" in text and "$$" not in text
    assert ",".join(find_login(settings)) in (tmp_path / "platform.csv").read_text()
