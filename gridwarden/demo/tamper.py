"""Switches of the scoring test: each makes one thing wrong that the score must find and name.

`disable:<rule>` leaves a rule's zones out of every camera, `swap-cell` imports the grid with the codes of two cells
exchanged, `duplicate` reports a finished case a second time from a neighbouring place. Without a switch nothing is touched.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KINDS = ("disable:<rule>", "duplicate", "swap-cell")


def check_tamper(tamper: str) -> None:
    """Raises ValueError for anything but a known switch."""
    if tamper not in ("", "duplicate", "swap-cell") and not tamper.startswith("disable:"):
        raise ValueError(f"{tamper!r} is none of {', '.join(KINDS)}")


def tamper_with_plan(plan: Mapping[str, Any], tamper: str) -> Mapping[str, Any]:
    """The plan as it is registered: without the zones of a disabled rule."""
    if not tamper.startswith("disable:"):
        return plan
    rule = tamper.partition(":")[2]
    changed = copy.deepcopy(dict(plan))
    for camera in changed["cameras"]:
        camera["scene"]["zones"] = [zone for zone in camera["scene"]["zones"] if zone["rule"] != rule]
    return changed


def tamper_with_grid(folder: Path, plan: Mapping[str, Any], tamper: str) -> None:
    """Exchange, in the file to be imported, the code of the silent door's cell with another one's of its community."""
    if tamper != "swap-cell":
        return
    path = folder / "cell.geojson"
    value = json.loads(path.read_text("utf-8"))
    first = next(device["cell"] for device in plan["devices"] if device["role"] == "silent")
    codes = [feature["properties"]["code"] for feature in value["features"]]
    second = next(code for code in codes if code != first and code[:12] == first[:12])
    for feature in value["features"]:
        properties = feature["properties"]
        properties["code"] = {first: second, second: first}.get(properties["code"], properties["code"])
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
