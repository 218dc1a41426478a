"""Makes the demo's city and registers it, as a process of its own: importing maps takes memory that a supervisor need not keep.

`python -m gridwarden.demo.prepare FOLDER SEED RTSP_PORT [TAMPER]` writes FOLDER/plan.json (the city) and FOLDER/people.json, FOLDER/visitor.json
(one-time log-in tokens) and FOLDER/gateway.json (the log-in that all simulated devices speak through).
"""

import json
import sys
from pathlib import Path

from gridwarden.demo.install import import_district, register_plan, write_private
from gridwarden.demo.tamper import tamper_with_grid, tamper_with_plan
from kernel.clock import Clock
from kernel.settings import load_settings
from simulators.city import City
from simulators.district import write_district


def prepare(folder: Path, seed: int, rtsp_port: int, tamper: str) -> None:
    """Everything that must be there before the city can begin to live."""
    settings = load_settings()
    district = write_district(folder / "district", seed)
    city = City.build(seed, district, Clock.of(settings.clock).now(), settings.city.timezone)
    plan = city.plan("127.0.0.1", rtsp_port)
    tamper_with_grid(folder / "district", plan, tamper)
    cells = import_district(settings, folder / "district")
    registered = register_plan(settings, tamper_with_plan(plan, tamper))
    write_private(folder / "plan.json", plan)
    write_private(folder / "people.json", registered.people)
    write_private(folder / "visitor.json", registered.visitor)
    write_private(folder / "gateway.json", registered.gateway)
    print(
        json.dumps(
            {
                "cells": cells,
                "devices": len(plan["devices"]),
                "cameras": len(plan["cameras"]),
                "people": len(plan["people"]),
            }
        )
    )


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else "")
