"""The kinds of device, found in devices/kinds. A file that cannot be imported, or a double, stops the program."""

import importlib
import pkgutil
from typing import Any

from pydantic.json_schema import models_json_schema

import devices.kinds
from devices.model import DeviceKind


def find_kinds() -> dict[str, DeviceKind]:
    """Every KIND in devices/kinds by its name.

    Raises ImportError, or TypeError when a file has no KIND, or its name is not the file's, or a metric or rule is double.
    """
    found: dict[str, DeviceKind] = {}
    for module_info in sorted(pkgutil.iter_modules(devices.kinds.__path__), key=lambda m: m.name):
        module = importlib.import_module(f"devices.kinds.{module_info.name}")
        kind = getattr(module, "KIND", None)
        if not isinstance(kind, DeviceKind):
            raise TypeError(f"devices/kinds/{module_info.name}.py has no KIND")
        if kind.name != module_info.name:
            raise TypeError(f"devices/kinds/{module_info.name}.py describes {kind.name!r}")
        for names in ([m.name for m in kind.metrics], [r.name for r in kind.rules]):
            if len(names) != len(set(names)):
                raise TypeError(f"{kind.name} has a double among {names}")
        found[kind.name] = kind
    return found


KINDS: dict[str, DeviceKind] = find_kinds()


def describe_schema(kind: DeviceKind) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of what a device of this kind may send; `x-topics` says which part goes where."""
    models = sorted(set(kind.payloads.values()), key=lambda m: m.__name__)
    references, definitions = models_json_schema([(model, "validation") for model in models], title=kind.name)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"/api/v1/schemas/{kind.name}.json",
        "title": kind.name,
        "description": f"{kind.title_zh} / {kind.title_en}",
        "anyOf": [references[(model, "validation")] for model in models],
        "x-topics": {str(topic): references[(model, "validation")] for topic, model in kind.payloads.items()},
        "$defs": definitions["$defs"],
    }
