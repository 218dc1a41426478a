"""What is known about a camera beside its address and scene: its second stream, ONVIF's and GB/T 28181's names for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from devices.store import DeviceError, check_texts
from kernel.db import Connection

FACTS = (
    "substream_url", "onvif_profile", "onvif_address", "ptz", "gb_device_id", "gb_channel_id", "platform",
)  # fmt: skip
"""Columns of `camera` that are said about it; `heading_deg`, `fov_deg` and `range_m` are besides."""
_CAMERA_TYPES = range(131, 200)
"""Type codes of things that give pictures or hang on what does (GB/T 28181-2016 appendix D); 200 and above are platforms, areas, groups."""
_DEVICE_TYPES = range(111, 200)


@dataclass(frozen=True, slots=True)
class GbCode:
    """A code of GB/T 28181 taken apart: 8 digits of the centre, 2 of the trade, 3 of the type, 1 of the network, 6 of the number."""

    centre: str
    trade: str
    type: int
    network: str
    number: str


def read_gb_code(text: str) -> GbCode:
    """Raises DeviceError (bad_gb_code)."""
    if len(text) != 20 or not (text.isascii() and text.isdigit()):
        raise DeviceError("bad_gb_code", f"{text[:40]!r}: a GB/T 28181 code has 20 digits")
    return GbCode(text[:8], text[8:10], int(text[10:13]), text[13], text[14:])


def check_facts(values: Mapping[str, Any]) -> None:
    """Raises DeviceError (bad_gb_code, bad_text, bad_onvif_address) for what does not fit; addresses of streams are
    checked by who opens them."""
    check_texts({name: values[name] for name in ("onvif_profile", "onvif_address", "platform") if name in values})
    for name, types in (("gb_device_id", _DEVICE_TYPES), ("gb_channel_id", _CAMERA_TYPES)):
        if values.get(name) and read_gb_code(str(values[name])).type not in types:
            raise DeviceError(
                "bad_gb_code", f"{name} {values[name]}: this type of code (digits 11 to 13) is no camera's"
            )
    address = str(values.get("onvif_address") or "")
    if address and (not address.startswith(("http://", "https://")) or "@" in address or " " in address):
        raise DeviceError(
            "bad_onvif_address", "onvif_address: http(s)://host/onvif/device_service, without user and password"
        )


def write_facts(connection: Connection, device_id: UUID, values: Mapping[str, Any]) -> None:
    """Write columns of a camera's row; the values are checked by the caller."""
    if not values:
        return
    connection.execute(
        f"UPDATE camera SET {', '.join(f'{name} = %({name})s' for name in values)} WHERE device_id = %(device_id)s",
        {**values, "device_id": device_id},
    )
