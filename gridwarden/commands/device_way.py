"""`gridwarden device bind-station|bind-number|use-mapping`: by what a device is known outside, and how its own JSON is read."""

import json
from pathlib import Path
from typing import Annotated

import typer

from devices.store import read_device
from gridwarden.session import open_session
from ingest.mapping import Mapping, apply, check_message
from ingest.mapping_store import add_mapping, change_mapping, read_mappings, use_mapping
from ingest.ways.push import AEP, ONENET
from ingest.ways.station_store import bind_number as bind
from ingest.ways.station_store import bind_station as bind_address
from kernel.audit import write_audit

_ACTOR = "command line"
Code = Annotated[str, typer.Argument(help="The device's code.")]


def bind_station(
    code: Code,
    address: Annotated[str, typer.Argument(help="The station's address: ten digits (eight get 00 in front).")],
    password: Annotated[str, typer.Option(help="Its password, four hexadecimal digits.")],
    level_base: Annotated[
        float, typer.Option(help="Metres that relative levels of hourly reports are added to.")
    ] = 0.0,
) -> None:
    """The SL 651 station with this address is this device from now on."""
    with open_session() as session:
        device = read_device(session.connection, code)
        bind_address(session.connection, device, address, password, session.now, level_base)
        write_audit(session.connection, session.now, actor=_ACTOR, action="station_bound", subject=code,
                    detail={"address": address})  # fmt: skip
        ways = session.settings.ways
    where = f"{ways.host}:{ways.sl651_port}" if ways.sl651_port else "nowhere yet: set ways.sl651_port"
    print(f"station {address} is {code}; stations report to {where}")


def bind_number(
    code: Code,
    way: Annotated[str, typer.Argument(help=f"Whose number: {AEP} or {ONENET}.")],
    number: Annotated[str, typer.Argument(help="An IMEI, or the platform's own id of the device.")],
) -> None:
    """An operator's platform knows the device under this number."""
    if way not in (AEP, ONENET):
        raise typer.BadParameter(f"{AEP} or {ONENET}", param_hint="WAY")
    with open_session() as session:
        device = read_device(session.connection, code)
        bind(session.connection, device, way, number, session.now)
        write_audit(session.connection, session.now, actor=_ACTOR, action="number_bound", subject=code,
                    detail={"way": way, "number": number})  # fmt: skip
    print(f"{way} {number} is {code}")


def use_mapping_file(
    code: Code,
    file: Annotated[Path | None, typer.Argument(exists=True, help="The mapping (JSON).")] = None,
    sample: Annotated[Path | None, typer.Option(exists=True, help="Only show what it makes of this payload.")] = None,
    none: Annotated[bool, typer.Option("--none", help="Use no mapping any more.")] = False,
) -> None:
    """Read the device's own JSON through a mapping: a new one, or a new version of the one with that name."""
    if (file is None) != none:
        raise typer.BadParameter("a file, or --none")
    mapping = Mapping.model_validate_json(file.read_text("utf-8")) if file is not None else None
    with open_session() as session:
        device = read_device(session.connection, code)
        if sample is not None and mapping is not None:
            document = json.loads(sample.read_text("utf-8"))
            messages, problems = apply(mapping, document, code, session.now, may_name=lambda other: True)
            for message in messages:
                wrong = check_message(mapping, message)
                print(
                    f"{message.device}/{message.topic_kind} {json.dumps(message.payload, ensure_ascii=False)} {wrong}"
                )
            for problem in problems:
                print(problem)
            if problems:
                raise typer.Exit(1)
            return
        if mapping is None:
            use_mapping(session.connection, device, None, session.now)
            print(f"{code} uses no mapping")
            return
        known = next((one for one in read_mappings(session.connection) if one.name == mapping.name), None)
        if known is None:
            stored = add_mapping(session.connection, mapping, _ACTOR, session.now)
        else:
            stored = change_mapping(session.connection, known.id, mapping, _ACTOR, session.now)
        use_mapping(session.connection, device, stored.id, session.now)
        write_audit(session.connection, session.now, actor=_ACTOR, action="device_mapping_chosen", subject=code,
                    detail={"mapping": str(stored.id), "version": stored.version})  # fmt: skip
    print(f"{code} uses {mapping.name}, version {stored.version}; raw topic gridwarden/{device.kind}/{code}/raw")
