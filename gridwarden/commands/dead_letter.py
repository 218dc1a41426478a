"""`gridwarden device dead-letters`"""

from contextlib import closing
from datetime import timedelta
from typing import Annotated

import typer

from gridwarden.supervise import database_running
from ingest.dead_letter import count_letters, empty_letters, read_letters, replay_letters
from kernel.audit import write_audit
from kernel.clock import Clock
from kernel.db import Database, DbRole
from kernel.settings import load_settings

_TEXT = 160


def browse(
    reason: Annotated[str | None, typer.Option(help="Only those with this reason.")] = None,
    device: Annotated[str | None, typer.Option(help="Only those under this device's code.")] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Try them again, the oldest first.")] = False,
    empty_days: Annotated[
        float | None, typer.Option(min=0, help="Delete those that are older, of whatever reason and device.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="So many at most.")] = 20,
) -> None:
    """Messages that could not be used, newest first; try them again after what was wrong has been mended, or empty them."""
    settings = load_settings()
    now = Clock.of(settings.clock).now()
    which = {"reason": reason, "device": device}
    with database_running(settings), closing(Database(settings, DbRole.WORKER)) as database:
        if empty_days is not None:
            with database.transaction() as connection:
                deleted = empty_letters(connection, now - timedelta(days=empty_days))
                detail = {"days": empty_days, "deleted": deleted}
                write_audit(connection, now, actor="command line", action="dead_letters_emptied", detail=detail)
            print(f"deleted {deleted}")
            return
        if replay:
            with database.transaction() as connection:
                write_audit(connection, now, actor="command line", action="dead_letters_replayed", detail=which)
            done = replay_letters(
                database, now, settings.ingest, settings.city.timezone, reason=reason, device_code=device, limit=limit
            )
            print(f"tried {done.replayed}: taken {done.taken}, known before {done.repeated}, remaining {done.dead}")
            return
        with database.transaction() as connection:
            for row in count_letters(connection):
                print(f"{row.count:8} {row.reason:16} newest {row.newest_at:%Y-%m-%d %H:%M:%S}")
            letters = read_letters(connection, reason=reason, device_code=device, before=None, limit=limit)
    for letter in letters:
        cut = "" if letter.replayable else "  (cannot be replayed)"
        print(f"\n{letter.received_at:%Y-%m-%d %H:%M:%S}  {letter.topic}  {letter.reason}: {letter.detail}{cut}")
        print(f"  {letter.payload.decode('utf-8', 'replace')[:_TEXT]!r}")
