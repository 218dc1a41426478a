"""Settings: one source, nothing unknown, no default secret."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from kernel.secret import read_secret
from kernel.settings import load_settings


def test_an_unknown_key_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "gridwarden.toml"
    config.write_text("[web]\nprot = 9000\n")
    monkeypatch.setenv("GRIDWARDEN_CONFIG", str(config))
    with pytest.raises(ValidationError, match="prot"):
        load_settings()


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "gridwarden.toml"
    config.write_text("[web]\nport = 9000\nhost = '127.0.0.1'\n")
    monkeypatch.setenv("GRIDWARDEN_CONFIG", str(config))
    monkeypatch.setenv("GRIDWARDEN_WEB__PORT", "9001")
    assert load_settings().web.port == 9001


def test_a_secret_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    first = read_secret(tmp_path, "key")
    assert len(first) >= 40
    assert read_secret(tmp_path, "key") == first
    assert read_secret(tmp_path, "other") != first
    assert (tmp_path / "secrets" / "key").stat().st_mode & 0o077 == 0
