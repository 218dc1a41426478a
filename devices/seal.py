"""Names and telephone numbers of people, encrypted in the database: who has only the rows can read neither.

AES-256-GCM with this installation's key; what a text belongs to is authenticated with it, so that a sealed text moved
to another row does not open.
"""

import hashlib
import json
import secrets
from pathlib import Path
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kernel.secret import read_secret

_SECRET = "contact-key"
_NONCE_BYTES = 12


class SealError(Exception):
    """A sealed text cannot be opened: another key, another row, or changed."""


class Seal:
    """Seals and opens with one key."""

    def __init__(self, key: str) -> None:
        self._cipher = AESGCM(hashlib.sha256(key.encode()).digest())

    @classmethod
    def of(cls, data_dir: Path) -> "Seal":
        """This installation's; its key is made on first use. Whoever restores the database needs the key too."""
        return cls(read_secret(data_dir, _SECRET))

    def close(self, owner: UUID, fields: dict[str, str]) -> bytes:
        """The fields, readable only with the key and for `owner`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        text = json.dumps(fields, ensure_ascii=False).encode()
        return nonce + self._cipher.encrypt(nonce, text, owner.bytes)

    def open(self, owner: UUID, sealed: bytes) -> dict[str, str]:
        """The fields again. Raises SealError."""
        try:
            text = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], owner.bytes)
        except (InvalidTag, ValueError):
            raise SealError("this cannot be opened with this installation's contact key") from None
        fields: dict[str, str] = json.loads(text)
        return fields
