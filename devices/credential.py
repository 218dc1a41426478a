"""Keys of devices: issued at random and shown once, checked by us and by brokers, rotated with an overlap, revoked.

A key is drawn, never chosen: 28 characters of an alphabet of 57 are more than 160 bits, which nobody guesses, hash or no
hash. So one round of PBKDF2 serves (RFC 8018 stretches what people choose), which matters where a broker checks every
connected device again at each reload. The format is Mosquitto's own, `$7$<iterations>$<salt>$<hash>`: PBKDF2-HMAC-SHA512
with a derived key of 64 bytes, both parts in base64 (mosquitto 2.0, src/password_mosq.c); EMQX reads the same numbers.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from devices.model import Device
from devices.store import DeviceError, read_device
from kernel.db import Connection

ITERATIONS = 1
_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"  # none that people mistake: 0 O 1 I l
_KEY_CHARACTERS = 28
_SALT_BYTES = 12  # Mosquitto 2.0 drops a line whose salt has any other length


@dataclass(frozen=True, kw_only=True, slots=True)
class Credential:
    """One log-in of a device. Valid until `valid_until` (None: for good) unless revoked."""

    device_id: UUID
    number: int
    username: str
    created_at: datetime
    valid_until: datetime | None
    revoked_at: datetime | None

    def is_valid(self, now: datetime) -> bool:
        """Whether it opens anything at `now`."""
        return self.revoked_at is None and (self.valid_until is None or now < self.valid_until)


_COLUMNS = "device_id, number, username, created_at, valid_until, revoked_at"


def draw_key() -> str:
    """A new key."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_KEY_CHARACTERS))


def hash_key(key: str, salt: str, iterations: int = ITERATIONS) -> bytes:
    """What is kept of a key: 64 bytes."""
    return hashlib.pbkdf2_hmac("sha512", key.encode(), salt.encode("ascii"), iterations, 64)


def write_password(iterations: int, salt: str, key_hash: bytes) -> str:
    """As Mosquitto's password file has it, behind the user and a colon."""
    return f"$7${iterations}${base64.b64encode(salt.encode('ascii')).decode()}${base64.b64encode(key_hash).decode()}"


def make_password(key: str) -> str:
    """A key as a line of Mosquitto's password file ends, for a log-in that is in no table (the platform's own)."""
    salt = secrets.token_hex(_SALT_BYTES // 2)
    return write_password(ITERATIONS, salt, hash_key(key, salt))


def check_password(key: str, password: str) -> bool:
    """Whether `password`, as Mosquitto's file has it, is that of `key`. False for a text in no such form."""
    parts = password.split("$")
    if len(parts) != 5 or parts[1] != "7" or not parts[2].isdecimal():
        return False
    try:
        salt, known = base64.b64decode(parts[3], validate=True), base64.b64decode(parts[4], validate=True)
    except ValueError:
        return False
    found = hashlib.pbkdf2_hmac("sha512", key.encode("utf-8", "surrogatepass"), salt, max(1, int(parts[2])), 64)
    return hmac.compare_digest(found, known)


def write_username(code: str, number: int) -> str:
    """The log-in's name: the device's code for its first key, `<code>@<n>` for key number n. A code has no @."""
    return code if number == 1 else f"{code}@{number}"


def issue_key(
    connection: Connection, device: Device, now: datetime, overlap: timedelta = timedelta(hours=24)
) -> tuple[str, str]:
    """A new log-in, (user, key); the key is told here and never again. Earlier ones end after `overlap`.

    Raises DeviceError (unknown_device) for a device that is gone.
    """
    row = connection.execute("SELECT FROM device WHERE id = %s FOR NO KEY UPDATE", (device.id,)).fetchone()
    if row is None:  # the lock makes two callers take two numbers
        raise DeviceError("unknown_device", f"no device {device.code!r}")
    last = connection.execute(
        "SELECT coalesce(max(number), 0) FROM device_credential WHERE device_id = %s", (device.id,)
    ).fetchone()
    number = (last[0] if last else 0) + 1
    connection.execute(
        "UPDATE device_credential SET valid_until = %(until)s WHERE device_id = %(device)s AND revoked_at IS NULL"
        " AND (valid_until IS NULL OR valid_until > %(until)s)",
        {"device": device.id, "until": now + overlap},
    )
    user, key, salt = write_username(device.code, number), draw_key(), secrets.token_hex(_SALT_BYTES // 2)
    connection.execute(
        "INSERT INTO device_credential (device_id, number, username, iterations, salt, hash, key_digest, created_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (device.id, number, user, ITERATIONS, salt, hash_key(key, salt), _digest(key), now),
    )
    return user, key


def revoke_key(connection: Connection, device: Device, number: int, now: datetime) -> Credential:
    """End a log-in at once.

    Raises DeviceError (unknown_credential).
    """
    with connection.cursor(row_factory=class_row(Credential)) as cursor:
        found = cursor.execute(
            "UPDATE device_credential SET revoked_at = coalesce(revoked_at, %s) WHERE device_id = %s AND number = %s"
            f" RETURNING {_COLUMNS}",
            (now, device.id, number),
        ).fetchone()
    if found is None:
        raise DeviceError("unknown_credential", f"{device.code} has no key number {number}")
    return found


def read_credentials(connection: Connection, device_id: UUID) -> list[Credential]:
    """Every log-in the device ever had, oldest first."""
    with connection.cursor(row_factory=class_row(Credential)) as cursor:
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM device_credential WHERE device_id = %s ORDER BY number", (device_id,)
        ).fetchall()


def verify_key(connection: Connection, user: str, key: str, now: datetime) -> Device | None:
    """The device whose key this is, enabled or not; None for a wrong, ended or revoked one.

    `user` empty: a token alone, as ThingsBoard's devices and HTTP's Bearer have it. Found by the key's digest, so an
    unknown key costs one look into an index.
    """
    row = connection.execute(
        """
        SELECT d.code, c.username, c.key_digest FROM device_credential c JOIN device d ON d.id = c.device_id
        WHERE c.key_digest = %s AND c.revoked_at IS NULL AND (c.valid_until IS NULL OR c.valid_until > %s)
        """,
        (_digest(key), now),
    ).fetchone()
    if row is None:
        return None
    code, username, digest = row
    if not hmac.compare_digest(bytes(digest), _digest(key)):
        return None
    if user and not hmac.compare_digest(user.encode("utf-8", "surrogatepass"), username.encode()):
        return None
    return read_device(connection, code)


def may_write_for(connection: Connection, login: Device, code: str) -> Device | None:
    """The device `code` when `login` may speak for it: itself, or a gateway's child; else None."""
    if code == login.code:
        return login
    row = connection.execute("SELECT FROM device WHERE code = %s AND parent_id = %s", (code, login.id)).fetchone()
    return read_device(connection, code) if row is not None else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
