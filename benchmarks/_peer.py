"""Where the peers of `bench vision` and `bench tracking` live: a Python with ultralytics, named by GRIDWARDEN_BENCH_PEER_PYTHON.

Ultralytics is AGPL-3.0 and brings torch; the product and its developers' tools do without, so it runs in a process and an
environment of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

PYTHON_VARIABLE = "GRIDWARDEN_BENCH_PEER_PYTHON"
DATA_VARIABLE = "GRIDWARDEN_BENCH_DATA"
_HERE = Path(__file__).resolve().parent


def find_peer() -> Path | None:
    """The peer's Python, None where there is none or it has no ultralytics."""
    named = os.environ.get(PYTHON_VARIABLE, "")
    if not named or not Path(named).is_file():
        return None
    tried = subprocess.run(
        [named, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('ultralytics') is None)"], check=False
    )
    return Path(named) if tried.returncode == 0 else None


def run_peer(python: Path, script: str, *words: str, core: int | None = None) -> str:
    """What a peer's script prints; pinned to one core if asked. Raises CalledProcessError with what it said."""
    command = [str(python), str(_HERE / script), *words]
    environment = {**os.environ, "YOLO_VERBOSE": "False", "YOLO_OFFLINE": "True", "PYTHONPATH": str(_HERE)}
    pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
    done = subprocess.run(command, env=environment, preexec_fn=pin, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        done.check_returncode()
    return done.stdout


def find_data() -> Path:
    """Footage and public models to measure with: GRIDWARDEN_BENCH_DATA, else `../shared/data` beside the repository."""
    named = os.environ.get(DATA_VARIABLE, "")
    return Path(named) if named else _HERE.parent.parent / "shared" / "data"
