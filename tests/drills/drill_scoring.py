"""The demo must fail when something is wrong, and name it: a rule disabled, a case reported twice, two cells exchanged.

scripts/drill scoring
"""

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tests.flows.test_demo import run_demo

TAMPERS = ("disable:crowding", "duplicate", "swap-cell")


def main() -> int:
    """Exit status 0 when every tampered demo exits 1 and names a case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=12)
    options = parser.parse_args()
    lines = [
        "# Drill: the score finds what is wrong",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, seed {options.seed}. Each run must exit 1 and name the case.",
        "",
        "| switch | exit status | named |",
        "|---|---|---|",
    ]
    good = True
    for tamper in TAMPERS:
        status, _, printed = run_demo(
            Path(tempfile.mkdtemp(prefix="gw-drill-")), "--seed", str(options.seed), "--tamper", tamper
        )
        named = [
            line.strip().removeprefix("FAILED ") for line in printed.splitlines() if line.strip().startswith("FAILED")
        ]
        good = good and status == 1 and bool(named)
        lines.append(f"| `{tamper}` | {status} | {'; '.join(named) or 'nothing'} |")
        print(lines[-1], flush=True)
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text("\n".join([*lines, ""]))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
