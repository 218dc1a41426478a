"""Cameras behind a GB/T 28181 gateway come into the register once, and importing again renews only their log-in."""

from collections.abc import Iterator

import pytest

from dashboard.platform_import import Login, Placing, import_channels, read_channels
from grid.locate import Locator
from ingest.address import AddressError
from ingest.source import Platform, find_address, make_platform_url
from kernel.db import Database
from kernel.settings import Settings
from tests.dashboard.conftest import now
from tests.ingest.test_source import CHANNEL, DEVICE, LOCAL, SECRET, Gateway, gateway

__all__ = ["gateway"]
OTHER = "34020000001320000002"


@pytest.fixture
def stocked(gateway: Gateway) -> Iterator[Gateway]:
    gateway.channels = [
        {"deviceId": CHANNEL, "parentDeviceId": DEVICE, "name": "凯旋路口", "manufacturer": "Dahua", "model": "SD-49",
         "longitude": 120.17, "latitude": 30.28, "ptzType": 1, "directionType": 6, "status": "ON", "channelType": 0},
        {"deviceId": DEVICE, "channelId": OTHER, "name": "no position", "longitude": 0.0, "latitude": 0.0, "status": True},
        {"deviceId": "34020000002150000001", "name": "业务分组", "channelType": 2, "subCount": 3},
    ]  # fmt: skip
    yield gateway


def test_channels_become_cameras_once(stocked: Gateway, settings: Settings, database: Database, cells: None) -> None:
    settings = settings.model_copy(update={"camera": settings.camera.model_copy(update={"allowed_networks": LOCAL})})
    login = Login(stocked.base, "admin", SECRET)
    channels = list(read_channels(Platform(make_platform_url(stocked.base, "admin", SECRET), LOCAL)))
    assert [channel.channel_id for channel in channels] == [CHANNEL, OTHER]

    def run(login: Login, *, apply: bool) -> list[str]:
        with database.transaction() as connection:
            locator = Locator.load(connection)
            done = import_channels(connection, login, channels, Placing(), locator, settings, now(), apply=apply)
        return [one.outcome for one in done]

    assert run(login, apply=False) == ["added", "no_position"] and run(login, apply=True) == ["added", "no_position"]
    assert run(login, apply=True) == ["kept", "no_position"]
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT d.code, d.name, d.maker, c.heading_deg, c.ptz, c.gb_device_id, c.gb_channel_id, c.platform, c.url"
            " FROM camera c JOIN device d ON d.id = c.device_id"
        ).fetchone()
    assert row is not None
    assert row[:7] == (CHANNEL, "凯旋路口", "Dahua", 45.0, True, DEVICE, CHANNEL) and SECRET not in row[7]
    assert find_address(row[8], LOCAL).url.endswith("?sign=1")
    assert run(Login(stocked.base, "admin", "f" * 32), apply=True)[0] == "renewed"
    with database.transaction() as connection:
        connection.execute("UPDATE camera SET url = 'rtsp://admin:x@198.51.100.7/own'")
    assert run(login, apply=True)[0] == "kept"  # an address of its own can't be read back: no list takes it away


def test_a_log_in_within_the_gateways_address_is_refused_since_that_is_shown() -> None:
    with pytest.raises(AddressError):
        make_platform_url("http://admin:Xq7@127.0.0.1:18080", "admin", SECRET)


def test_figures_that_are_none_do_not_end_the_import(stocked: Gateway) -> None:
    stocked.channels[0] |= {"longitude": "nan", "directionType": "inf"}
    first, _ = read_channels(Platform(make_platform_url(stocked.base, "admin", SECRET), LOCAL))
    assert (first.lon, first.heading_deg) == (None, None)
