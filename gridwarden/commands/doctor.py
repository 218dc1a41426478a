"""`gridwarden doctor`"""

import dataclasses
import json
from typing import Annotated

import typer

from kernel.settings import load_settings

_MARKS = {"ok": "✓", "warn": "!", "fail": "✗"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Check settings, database, broker, model, cameras, clock and disk; say what is wrong and how to mend it."""
    from gridwarden.doctor import Level, examine

    findings = examine(load_settings())  # settings that cannot be read are told by the command line itself
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], ensure_ascii=False, indent=2))
    else:
        for finding in findings:
            print(f"{_MARKS[finding.level]} {finding.check:12} {finding.says}")
            if finding.mend:
                print(f"{'':15}→ {finding.mend}")
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(1)
