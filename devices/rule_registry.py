"""The types of data-defined rule, found in devices/rules. A file that cannot be imported, or a double, stops the program."""

import importlib
import pkgutil

import devices.rules
from devices.rule_type import RuleType


def find_rule_types() -> dict[str, RuleType]:
    """Every TYPE in devices/rules by its name.

    Raises ImportError, or TypeError when a file has no TYPE or its name is not the file's.
    """
    found: dict[str, RuleType] = {}
    for module_info in sorted(pkgutil.iter_modules(devices.rules.__path__), key=lambda m: m.name):
        module = importlib.import_module(f"devices.rules.{module_info.name}")
        rule_type = getattr(module, "TYPE", None)
        if not isinstance(rule_type, RuleType):
            raise TypeError(f"devices/rules/{module_info.name}.py has no TYPE")
        if rule_type.name != module_info.name:
            raise TypeError(f"devices/rules/{module_info.name}.py describes {rule_type.name!r}")
        found[rule_type.name] = rule_type
    return found


RULE_TYPES: dict[str, RuleType] = find_rule_types()
