"""Log-ins and rights for a broker that is not ours to start: files for Mosquitto, settings for EMQX."""

import logging
import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from string import Template

from psycopg.conninfo import conninfo_to_dict

from devices.credential import ITERATIONS
from gridwarden.broker import AccessKeeper
from ingest.client import find_login
from kernel.db import Database, DbRole
from kernel.secret import read_secret
from kernel.settings import Settings

log = logging.getLogger(__name__)
TEMPLATES = Path(__file__).resolve().parent.parent / "deploy" / "emqx"


def export_mosquitto(
    settings: Settings,
    folder: Path,
    *,
    after: str = "",
    stop: threading.Event | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Write `passwords` and `acl` into `folder`, and run `after` when they changed. With `stop`: go on until it is set.

    Raises subprocess.CalledProcessError when `after` fails the only time; while watching that is logged.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def reload() -> None:
        say(f"wrote {folder / 'passwords'} and {folder / 'acl'}")
        if after:
            subprocess.run(after, shell=True, check=stop is None)

    keeper = AccessKeeper(settings, reload, folder=folder)
    if stop is None:
        with closing(Database(settings, DbRole.WORKER)) as database:
            if not keeper.look(database):
                say("nothing changed")
        return
    keeper.start()
    stop.wait()
    keeper.stop()


def export_emqx(settings: Settings, folder: Path) -> list[Path]:
    """Write EMQX's settings (`gridwarden.conf`), the platform's own log-in (`platform.csv`) and the SQL that makes the
    role with which EMQX asks the database (`role.sql`), all readable by us alone; which files they are."""
    user, key = find_login(settings)
    given = conninfo_to_dict(settings.database.dsn) if settings.database.dsn else {}
    values = {
        "host": str(given.get("host") or "database.example.org"),
        "port": str(given.get("port") or 5432),
        "database": str(given.get("dbname") or "gridwarden"),
        "password": read_secret(settings.data_dir, "gw_broker"),
        "iterations": str(ITERATIONS),
        "platform": user,
    }
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        name: Template((TEMPLATES / name).read_text("utf-8")).substitute(values)
        for name in ("gridwarden.conf", "role.sql")
    }
    texts["platform.csv"] = f"user_id,password,is_superuser\n{user},{key},true\n"
    for name, text in texts.items():
        (folder / name).unlink(missing_ok=True)
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    return [folder / name for name in texts]
