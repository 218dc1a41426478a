"""The SQL of SL 651's stations and of numbers under which other platforms know our devices."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from devices.model import Device
from devices.store import read_device
from ingest.ways.sl651 import is_station_address
from kernel.db import Connection


class BindingError(ValueError):
    """A station or number cannot be bound as asked; `code` is stable."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, kw_only=True, slots=True)
class Station:
    """A telemetry station: its address (ten hexadecimal digits), its password (four), and what levels are relative to."""

    address: str
    password: str
    level_base_m: float
    device_code: str

    def __repr__(self) -> str:
        return f"Station(address={self.address!r})"


def bind_station(
    connection: Connection, device: Device, address: str, password: str, now: datetime, level_base_m: float = 0.0
) -> None:
    """The station with this address is this device from now on. `address`: ten digits (eight get 00 in front).

    Raises BindingError (bad_address, bad_password, address_taken).
    """
    address = address.upper().rjust(10, "0") if len(address) in (8, 10) else address
    if not is_station_address(address):
        raise BindingError("bad_address", f"{address!r} is no station's address: ten digits, the first six decimal")
    if not re.fullmatch(r"[0-9A-Fa-f]{4}", password):
        raise BindingError("bad_password", "a station's password is four hexadecimal digits")
    row = _insert(
        connection,
        "INSERT INTO station (address, device_id, password, level_base_m, created_at) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (address) DO UPDATE SET password = EXCLUDED.password, level_base_m = EXCLUDED.level_base_m"
        " WHERE station.device_id = EXCLUDED.device_id RETURNING address",
        (address, device.id, password.upper(), level_base_m, now),
    )
    if row is None:
        raise BindingError("address_taken", f"station {address} belongs to another device")


def _insert(connection: Connection, sql: LiteralString, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The row; None when it belongs to a device that the row's writer may change or, out of their scope, may not even see."""
    try:
        with connection.transaction():
            return connection.execute(sql, values).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None


def unbind_station(connection: Connection, address: str) -> bool:
    """Forget a station; whether there was one."""
    return connection.execute("DELETE FROM station WHERE address = %s", (address.upper(),)).rowcount > 0


def find_station(connection: Connection, address: str) -> tuple[Station, Device] | None:
    """The station with this address, and its device."""
    with connection.cursor(row_factory=class_row(Station)) as cursor:
        station = cursor.execute(
            "SELECT s.address, s.password, s.level_base_m, d.code AS device_code"
            " FROM station s JOIN device d ON d.id = s.device_id WHERE s.address = %s",
            (address,),
        ).fetchone()
    return None if station is None else (station, read_device(connection, station.device_code))


def bind_number(connection: Connection, device: Device, way: str, number: str, now: datetime) -> None:
    """The platform `way` (aep, onenet) knows this device under `number`, an IMEI or an id of its own.

    Raises BindingError (bad_number, number_taken).
    """
    if not re.fullmatch(r"[!-~]{1,64}", number):
        raise BindingError("bad_number", "1 to 64 printable ASCII characters are wanted")
    row = _insert(
        connection,
        "INSERT INTO device_binding (way, external_id, device_id, created_at) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (way, external_id) DO UPDATE SET created_at = device_binding.created_at"
        " WHERE device_binding.device_id = EXCLUDED.device_id RETURNING external_id",
        (way, number, device.id, now),
    )
    if row is None:
        raise BindingError("number_taken", f"{number} belongs to another device")


def unbind_number(connection: Connection, way: str, number: str) -> bool:
    """Forget a number; whether there was one."""
    return (
        connection.execute("DELETE FROM device_binding WHERE way = %s AND external_id = %s", (way, number)).rowcount > 0
    )


def find_by_number(connection: Connection, way: str, numbers: list[str]) -> Device | None:
    """The device that has one of these numbers, the first that is known."""
    row = connection.execute(
        "SELECT d.code FROM device_binding b JOIN device d ON d.id = b.device_id"
        " WHERE b.way = %s AND b.external_id = ANY (%s) ORDER BY array_position(%s, b.external_id) LIMIT 1",
        (way, numbers, numbers),
    ).fetchone()
    return None if row is None else read_device(connection, row[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Bindings:
    """What a device is known under."""

    stations: list[tuple[str, float]]  # address, level_base_m
    numbers: list[tuple[str, str]]  # way, number


def read_bindings(connection: Connection, device_id: UUID) -> Bindings:
    """Everything that leads to this device. Passwords stay where they are."""
    stations = connection.execute(
        "SELECT address, level_base_m FROM station WHERE device_id = %s ORDER BY address", (device_id,)
    ).fetchall()
    numbers = connection.execute(
        "SELECT way, external_id FROM device_binding WHERE device_id = %s ORDER BY way, external_id", (device_id,)
    ).fetchall()
    return Bindings(stations=[(a, b) for a, b in stations], numbers=[(w, n) for w, n in numbers])
