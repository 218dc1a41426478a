"""What the command line says about how readings are stored and about messages that could not be used."""

from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from gridwarden.cli import app
from gridwarden.doctor import Level, check_storage
from ingest.house import keep_house
from kernel.db import Database
from kernel.settings import Settings
from tests.conftest import ON_TIMESCALE
from tests.devices.test_reading import put_device, put_readings
from tests.ingest.test_batch import message, register, rows, take


@pytest.mark.skipif(ON_TIMESCALE, reason="about native partitions")
def test_the_doctor_says_how_readings_are_stored_and_what_lags(database: Database, settings: Settings) -> None:
    now = datetime.now(UTC)
    keep_house(database, now, settings, lambda: False)
    [finding] = check_storage(settings)
    assert finding.level is Level.OK and "no hour summed yet" in finding.says
    with database.transaction() as connection:
        device_id = put_device(connection)
        put_readings(connection, device_id, [(now, 1.0)])
        connection.execute(
            "INSERT INTO reading_rollup (until_at) VALUES (%s)",
            (now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=30),),
        )
    [finding] = check_storage(settings)
    assert finding.level is Level.WARN and "h behind" in finding.says
    keep_house(database, now, settings, lambda: False)
    [finding] = check_storage(settings)
    assert finding.level is Level.OK and "hours summed until" in finding.says
    with database.transaction() as connection:
        put_readings(connection, device_id, [(now + timedelta(days=300), 1.0)])
    [finding] = check_storage(settings)
    assert finding.level is Level.WARN and "default" in finding.says and "ingest" in finding.mend


def test_dead_letters_are_listed_replayed_and_emptied_from_the_command_line(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDWARDEN_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("GRIDWARDEN_DATABASE__DSN", settings.database.dsn)
    now = datetime.now(UTC)
    for code in ("R1", "R2"):
        raw = message("river_sluice", code, "telemetry", now, "m", level_m=1.0)
        take(database, settings, raw._replace(received_at=now), now=now)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["device", "dead-letters", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    assert "2 unknown_device" in run() and "R2" not in run("--device", "R1").split("newest")[1]
    register(database, "R1", "river_sluice")
    assert "tried 2: taken 1, known before 0, remaining 1" in run("--replay", "--reason", "unknown_device")
    assert "deleted 0" in run("--empty-days", "1")
    assert "deleted 1" in run("--empty-days", "0")
    assert rows(database, "SELECT FROM dead_letter") == []
