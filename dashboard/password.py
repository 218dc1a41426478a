"""Passwords: argon2id, with a dummy so that an unknown name costs as much time as a known one."""

import threading
from functools import cache

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

# OWASP Password Storage Cheat Sheet (2025): argon2id with 19 MiB, two passes, one lane.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, type=Type.ID)
# A flood of log-ins must not take the machine's memory and both its cores.
_TURNS = threading.BoundedSemaphore(2)
MIN_LENGTH = 10
MAX_LENGTH = 256


class WeakPassword(ValueError):
    """The password is too short, too long, or the name itself."""


def hash_password(password: str, name: str) -> str:
    """The argon2id string to store.

    Raises WeakPassword (NIST SP 800-63B: length matters, composition rules do not).
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise WeakPassword(f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters")
    if password.casefold() == name.casefold():
        raise WeakPassword("a password is not the name")
    with _TURNS:
        return _HASHER.hash(password)


@cache
def _dummy() -> str:
    return _HASHER.hash("nobody has this password")


def verify_password(stored: str | None, password: str) -> bool:
    """Whether it fits. `stored` None (no such person, or log-in by link only) takes as long and is False."""
    with _TURNS:
        try:
            return _HASHER.verify(stored or _dummy(), password) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


def needs_rehash(stored: str) -> bool:
    """Whether the parameters have been raised since it was hashed."""
    return _HASHER.check_needs_rehash(stored)


def rehash_password(password: str) -> str:
    """A password that was right before, hashed with today's parameters."""
    with _TURNS:
        return _HASHER.hash(password)
