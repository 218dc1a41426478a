"""A detector is installed only when it can be used, and what was installed before stays until then."""

import hashlib
import shutil
from pathlib import Path

import pytest

from gridwarden.model_install import ModelRefusedError, install_model
from kernel.settings import Settings

BUNDLED = Path(__file__).resolve().parent.parent.parent / "vision" / "models" / "bundled.onnx"


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def own_settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


def test_a_model_that_loads_takes_its_place_with_its_description(own_settings: Settings, tmp_path: Path) -> None:
    source = tmp_path / "street.onnx"
    shutil.copyfile(BUNDLED, source)
    shutil.copyfile(BUNDLED.with_suffix(".toml"), source.with_suffix(".toml"))
    installed = install_model(str(source), digest_of(source), own_settings)
    assert digest_of(installed) == digest_of(BUNDLED)
    assert installed.with_suffix(".toml").exists()
    assert sorted(p.name for p in installed.parent.iterdir()) == ["street.onnx", "street.toml"]


def test_a_model_that_cannot_be_used_leaves_the_installed_one_of_the_same_name(
    own_settings: Settings, tmp_path: Path
) -> None:
    source = tmp_path / "street.onnx"
    shutil.copyfile(BUNDLED, source)
    shutil.copyfile(BUNDLED.with_suffix(".toml"), source.with_suffix(".toml"))
    installed = install_model(str(source), digest_of(source), own_settings)
    source.write_bytes(b"no model")
    source.with_suffix(".toml").write_text("classes = 3")
    with pytest.raises(ModelRefusedError, match="cannot be used"):
        install_model(str(source), digest_of(source), own_settings)
    assert digest_of(installed) == digest_of(BUNDLED)
    assert installed.with_suffix(".toml").read_text() == BUNDLED.with_suffix(".toml").read_text()
    assert sorted(p.name for p in installed.parent.iterdir()) == ["street.onnx", "street.toml"]


def test_a_wrong_digest_is_refused_and_leaves_nothing(own_settings: Settings) -> None:
    with pytest.raises(ModelRefusedError, match="SHA-256"):
        install_model(str(BUNDLED), "0" * 64, own_settings)
    assert list((own_settings.data_dir / "models").iterdir()) == []
