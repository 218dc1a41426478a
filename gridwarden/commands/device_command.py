"""`gridwarden device command`: ask for a command from the command line. A second person approves on the wall."""

import getpass
import json
from typing import Annotated

import typer

from devices.command_model import CommandActor, CommandState
from devices.commands import request_command
from devices.store import read_device
from gridwarden.session import open_session
from kernel.audit import write_audit


def ask(
    code: Annotated[str, typer.Argument(help="The device's code.")],
    name: Annotated[str, typer.Argument(help="The command, see docs/commands-to-devices.md.")],
    reason: Annotated[str, typer.Option(help="Why; it stands on the record.")],
    parameters: Annotated[str, typer.Option(help="Its parameters, as a JSON object.")] = "{}",
) -> None:
    """Ask for a command to a device; exit 1 when an interlock refuses it. Ingest sends it, the wall shows it."""
    given = json.loads(parameters)
    if not isinstance(given, dict):
        raise typer.BadParameter('a JSON object, such as {"opening_m": 0.8}', param_hint="--parameters")
    with open_session() as session:
        actor = CommandActor(name=f"{getpass.getuser()} (gridwarden device command)")
        device = read_device(session.connection, code)
        command = request_command(session.connection, device, name, given, actor=actor, reason=reason, now=session.now)
        detail = {"device": code, "name": name, "parameters": given, "reason": reason, "state": str(command.state)}
        write_audit(
            session.connection,
            session.now,
            actor=actor.name,
            action="command_requested",
            subject=str(command.id),
            detail=detail,
        )
    print(f"{command.id}  {command.state}")
    for interlock in command.interlocks:
        print(f"  {'ok    ' if interlock['ok'] else 'NOT OK'}  {interlock['code']}  {json.dumps(interlock['params'])}")
    if command.state is CommandState.REQUESTED:
        print("waits for a second person: an operator approves it on the wall")
    if command.state is CommandState.REFUSED:
        raise typer.Exit(1)
