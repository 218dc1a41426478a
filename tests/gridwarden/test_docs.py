"""Every setting and every command is documented; the READMEs name files that exist."""

import re
from pathlib import Path

import typer.main
from pydantic import BaseModel

from gridwarden.cli import app
from kernel.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent


def keys_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += keys_of(inner, f"{name}.")
        else:
            found.append(prefix + name)
    return found


def commands_of(group: typer.main.TyperGroup, prefix: str = "") -> list[str]:
    found = []
    for name, command in group.commands.items():
        path = f"{prefix} {name}".strip()
        found += commands_of(command, path) if hasattr(command, "commands") else [path]
    return found


def test_every_setting_is_in_the_settings_page() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    documented = set(re.findall(r"`([a-z0-9_.]+)`", page))
    missing = [key for key in keys_of(Settings) if key not in documented]
    assert not missing
    assert len(keys_of(Settings)) > 40  # the walk above found the settings at all


def test_every_command_is_in_the_command_page() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    commands = commands_of(typer.main.get_command(app))  # type: ignore[arg-type]
    assert "grid locate" in commands
    missing = [command for command in commands if f"gridwarden {command}" not in page]
    assert not missing


def test_both_readmes_link_to_files_that_exist() -> None:
    for name in ("README.md", "README.zh-CN.md"):
        links = re.findall(r"\]\(([^)#:]+?)\)", (ROOT / name).read_text())
        assert links, name
        assert not [link for link in links if not (ROOT / link).exists()]
