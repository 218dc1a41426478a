"""Installing a detector: fetched or copied, its digest checked, loaded once to see that it fits, then moved into place."""

import hashlib
import shutil
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

from kernel.settings import Settings

_MAX_BYTES = 500_000_000


class ModelRefusedError(RuntimeError):
    """The model is not what was asked for, or cannot be run; the text says why."""


def install_model(source: str, sha256: str, settings: Settings) -> Path:
    """Install the model at `source` (path or https address) under the data directory; where it is now.

    Raises ModelRefusedError when digest, size or form do not fit; nothing is left behind then.
    """
    from vision.detect import ModelError, open_detector
    from vision.registry import SUFFIXES

    folder = settings.data_dir / "models"
    folder.mkdir(parents=True, exist_ok=True)
    name = Path(urlparse(source).path).name
    if Path(name).suffix not in SUFFIXES or name.endswith(".xml"):
        raise ModelRefusedError(f"{name!r} is not an .onnx, .pt or .engine file")
    # Everything is tried in a folder of its own: an installed model of the same name stays until this one can be used.
    with tempfile.TemporaryDirectory(prefix=".trial-", dir=folder) as trial:
        staged = Path(trial) / name
        _copy(source, staged)
        digest = hashlib.sha256(staged.read_bytes()).hexdigest()
        if digest != sha256.lower():
            raise ModelRefusedError(f"its SHA-256 is {digest}, not {sha256}")
        description = Path(source).with_suffix(".toml") if "://" not in source else None
        if description and description.exists():
            shutil.copyfile(description, staged.with_suffix(".toml"))
        try:
            open_detector(settings.vision, staged)
        except ModelError as error:
            raise ModelRefusedError(f"{name} cannot be used: {error}") from error
        for part in (staged.with_suffix(".toml"), staged):
            if part.exists():
                part.replace(folder / part.name)
            else:  # a description that belonged to an earlier model of this name would be wrong about the new one
                (folder / part.name).unlink(missing_ok=True)
    return folder / name


def _copy(source: str, target: Path) -> None:
    scheme = urlparse(source).scheme
    if scheme == "":
        shutil.copyfile(source, target)
        return
    if scheme != "https":
        raise ModelRefusedError(f"{scheme} addresses are refused: https or a file")
    with urllib.request.urlopen(source, timeout=30) as response, target.open("wb") as file:
        while block := response.read(1 << 20):
            file.write(block)
            if file.tell() > _MAX_BYTES:
                raise ModelRefusedError(f"larger than {_MAX_BYTES} bytes")
