"""The vision rules, one file each. `discover` finds them; a broken or doubled one stops the start."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType, ModuleType

from vision.rule import AnyRule, Rule


class RuleError(Exception):
    """A rule file that cannot be used."""


def discover(package: ModuleType | None = None) -> Mapping[str, AnyRule]:
    """Every rule by its name.

    Raises RuleError for a file without RULE, and for two rules of one name; an import error is passed on.
    """
    path = list(package.__path__) if package is not None else list(__path__)
    prefix = package.__name__ if package is not None else __name__
    found: dict[str, AnyRule] = {}
    for module_info in sorted(pkgutil.iter_modules(path), key=lambda info: info.name):
        module = importlib.import_module(f"{prefix}.{module_info.name}")
        rule = getattr(module, "RULE", None)
        if not isinstance(rule, Rule):
            raise RuleError(f"{module.__name__} has no RULE")
        if rule.name in found:
            raise RuleError(f"{module.__name__}: there is already a rule {rule.name!r}")
        found[rule.name] = rule
    return MappingProxyType(found)
