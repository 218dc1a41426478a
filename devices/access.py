"""Who may log in at a broker and what each may write and read, out of the register: as data, and as Mosquitto's files.

A device writes `gridwarden/<kind>/<its code>/telemetry|event|state|reply|raw` and reads `…/receipt|command`. For a log-in that
is the device's code one set of patterns says so for all, which keeps the list short with 100,000 devices; a later key's
log-in (`<code>@<n>`) and a gateway's children are spelt out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from devices.credential import write_password
from devices.model import TopicKind
from kernel.db import Connection

READS = ("receipt", "command")
WRITES = (*(str(kind) for kind in TopicKind), "raw")  # raw: the vendor's own JSON, read through a mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """A log-in that is valid now. `own`: (kind, code) of its device; `children`: of those that hang on it."""

    username: str
    password: str  # hashed, as Mosquitto has it
    own: tuple[str, str]
    children: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """All of it, and the instant at which the next log-in ends (None: none does)."""

    logins: tuple[Login, ...]
    barred: tuple[
        str, ...
    ]  # codes that must not pass, whatever certificate they show: switched off, or all keys revoked
    next_end_at: datetime | None


def read_version(connection: Connection) -> tuple[int, int]:
    """Differs whenever something was committed that may change log-ins or rights."""
    row = connection.execute("SELECT count(*), coalesce(max(id), 0) FROM access_change").fetchone()
    return (row[0], row[1]) if row else (0, 0)


def forget_versions(connection: Connection, kept: int = 1000) -> None:
    """Keep the table of changes small."""
    connection.execute(
        "DELETE FROM access_change WHERE id < (SELECT max(id) - %s FROM access_change)", (kept,)
    )  # the count changes with it: one more look than needed


def read_access(connection: Connection, now: datetime) -> Access:
    """Log-ins and rights as they are at `now`. A device that is switched off cannot log in."""
    rows = connection.execute(
        """
        SELECT c.username, c.iterations, c.salt, c.hash, c.valid_until, d.id, d.kind, d.code
        FROM device_credential c JOIN device d ON d.id = c.device_id
        WHERE d.enabled AND c.revoked_at IS NULL AND (c.valid_until IS NULL OR c.valid_until > %s) ORDER BY c.username
        """,
        (now,),
    ).fetchall()
    children: dict[UUID, list[tuple[str, str]]] = {}
    for parent_id, kind, code in connection.execute(
        "SELECT parent_id, kind, code FROM device WHERE parent_id IS NOT NULL ORDER BY code"
    ).fetchall():
        children.setdefault(parent_id, []).append((kind, code))
    barred = connection.execute(
        """
        SELECT d.code FROM device d WHERE NOT d.enabled OR EXISTS (
            SELECT FROM device_credential c WHERE c.device_id = d.id
            HAVING count(*) > 0 AND count(*) = count(c.revoked_at)) ORDER BY d.code
        """
    ).fetchall()
    return Access(
        logins=tuple(
            Login(
                username=username,
                password=write_password(iterations, salt, bytes(key_hash)),
                own=(kind, code),
                children=tuple(children.get(device_id, ())),
            )
            for username, iterations, salt, key_hash, _, device_id, kind, code in rows
        ),
        barred=tuple(code for (code,) in barred),
        next_end_at=min((row[4] for row in rows if row[4] is not None), default=None),
    )


def write_passwords(access: Access, others: Mapping[str, str]) -> str:
    """Mosquitto's password file. `others`: hashed passwords by user of log-ins that are no device's; they go first."""
    lines = [f"{user}:{password}" for user, password in others.items()]
    lines += [f"{login.username}:{login.password}" for login in access.logins if login.username not in others]
    return "".join(f"{line}\n" for line in lines)


def write_acl(access: Access, platform: str) -> str:
    """Mosquitto's list of rights. A gateway's children take one line each way, since it is gone through at each message.

    Under a child's own topic its gateway may write everything, which harms nobody but the child that it speaks for.
    """
    parts = [f"user {platform}\ntopic readwrite #\ntopic read $SYS/#\n"]
    parts += [f"user {code}\ntopic deny #\n" for code in access.barred if code != platform]
    for login in access.logins:
        if login.username == platform:
            continue
        lines = []
        kind, code = login.own
        if login.username != code:
            lines += [f"topic write gridwarden/{kind}/{code}/{topic}" for topic in WRITES]
            lines += [f"topic read gridwarden/{kind}/{code}/{topic}" for topic in READS]
        lines += [f"topic readwrite gridwarden/{kind}/{code}/+" for kind, code in login.children]
        if lines:
            parts.append("\n".join([f"user {login.username}", *lines, ""]))
    # Mosquitto applies no pattern to a user or client id with + or # in it (CVE-2017-7650); ours hold no client id at all.
    patterns = [f"pattern write gridwarden/+/%u/{topic}" for topic in WRITES]
    patterns += [f"pattern read gridwarden/+/%u/{topic}" for topic in READS]
    return "\n".join([*parts, *patterns, ""])
