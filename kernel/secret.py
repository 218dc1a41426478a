"""Secrets of this installation: generated on first use into the data directory, one file each, readable by its owner."""

import os
import secrets
from pathlib import Path


def read_secret(data_dir: Path, name: str, make: str | None = None) -> str:
    """The secret `name`; made (43 random characters, or `make`) when it does not exist yet.

    Two processes that start together agree: the file is linked into place complete, and the first one wins.
    """
    folder = data_dir / "secrets"
    path = folder / name
    if path.exists():
        return path.read_text()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(make if make is not None else secrets.token_urlsafe(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return path.read_text()
