"""All settings: one frozen model, read once from gridwarden.toml and GRIDWARDEN_SECTION__KEY; unknown keys are refused.

Every field here is documented in docs/settings.md (a test fails when one is missing).
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

_SECTION = ConfigDict(frozen=True, extra="forbid")


class DatabaseSettings(BaseModel):
    """PostgreSQL. Empty `dsn`: our own server, run as a supervised child."""

    model_config = _SECTION
    dsn: str = ""
    app_dsn: str = ""
    worker_dsn: str = ""
    pool_size: int = Field(default=6, ge=1, le=100)
    statement_timeout_s: float = Field(default=30.0, gt=0)
    lock_timeout_s: float = Field(default=5.0, gt=0)
    reading_retention_days: int = Field(default=90, ge=1)
    hour_retention_days: int = Field(default=1825, ge=1)


class MqttSettings(BaseModel):
    """The broker. `embedded`: auto (Mosquitto when installed, else amqtt for trials), mosquitto, amqtt or off."""

    model_config = _SECTION
    embedded: Literal["auto", "mosquitto", "amqtt", "off"] = "auto"
    host: str = "127.0.0.1"
    port: int = Field(default=18830, ge=1, le=65535)
    username: str = "platform"
    password: str = ""
    tls: bool = False
    ca_file: str = ""
    slot: int = Field(default=0, ge=0)
    shared: bool = True
    queue_bytes: int = Field(default=256_000_000, ge=1_000_000)
    access_dir: str = ""
    tls_host: str = "0.0.0.0"
    tls_port: int = Field(default=8883, ge=1, le=65535)
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    tls_crl: str = ""


class IngestSettings(BaseModel):
    """How messages are taken in."""

    model_config = _SECTION
    batch_messages: int = Field(default=8000, ge=1, le=15_000)
    batch_wait_s: float = Field(default=0.02, ge=0)
    max_payload_bytes: int = Field(default=65_536, ge=256)
    max_depth: int = Field(default=16, ge=2)
    queue_bytes: int = Field(default=32_000_000, ge=1_000_000)
    clock_tolerance_s: float = Field(default=60.0, ge=0)
    future_tolerance_s: float = Field(default=7200.0, ge=0)
    past_tolerance_days: float = Field(default=30.0, gt=0)
    sweep_s: float = Field(default=1.0, gt=0)
    restart_grace_s: float = Field(default=30.0, ge=0)
    dead_letter_days: float = Field(default=30.0, gt=0)


class WaysSettings(BaseModel):
    """Ways in beside our own MQTT topics. A port of 0 is off."""

    model_config = _SECTION
    host: str = "127.0.0.1"
    thingsboard_port: int = Field(default=0, ge=0, le=65535)
    sl651_port: int = Field(default=0, ge=0, le=65535)
    tls_cert: str = ""
    tls_key: str = ""
    max_connections: int = Field(default=5000, ge=1)
    max_packet_bytes: int = Field(default=131_072, ge=1024, le=16_000_000)
    idle_timeout_s: float = Field(default=600.0, gt=0)
    frame_timeout_s: float = Field(default=5.0, gt=0)
    http_per_minute: int = Field(default=600, ge=1)
    aep_token: str = ""
    onenet_token: str = ""


class CameraSettings(BaseModel):
    """What camera addresses may be opened, and how patiently."""

    model_config = _SECTION
    allowed_networks: tuple[str, ...] = ()
    transport: Literal["tcp", "udp"] = "tcp"
    open_timeout_s: float = Field(default=5.0, gt=0)
    read_timeout_s: float = Field(default=5.0, gt=0)
    ring_s: float = Field(default=20.0, gt=0, le=600)
    ring_bytes: int = Field(default=16_000_000, ge=1_000_000)
    recording_minutes: float = Field(default=60.0, ge=0)
    recording_bytes: int = Field(default=2_000_000_000, ge=10_000_000)
    recording_spare_bytes: int = Field(default=1_000_000_000, ge=0)
    picture_width: int = Field(default=1920, ge=320)


class VisionSettings(BaseModel):
    """Detection."""

    model_config = _SECTION
    model: Path = Path(__file__).resolve().parent.parent / "vision" / "models" / "bundled.onnx"
    device: str = "CPU"
    threads: int = Field(default=1, ge=1)
    precision: str = "auto"
    batch: int = Field(default=0, ge=0, le=256)
    fps: float = Field(default=3.0, gt=0)
    idle_fps: float = Field(default=1.0, gt=0)
    look_s: float = Field(default=4.0, gt=0)
    reload_s: float = Field(default=2.0, gt=0)
    group_size: int = Field(default=8, ge=1, le=64)


class EvidenceSettings(BaseModel):
    """Pictures and clips. Empty `dir` and `originals_dir`: `evidence` and `originals` in the data directory."""

    model_config = _SECTION
    dir: str = ""
    font_dir: Path = Path(__file__).resolve().parent.parent / "dashboard" / "web" / "dist" / "fonts"
    max_upload_bytes: int = Field(default=12_000_000, ge=10_000)
    max_pixels: int = Field(default=50_000_000, ge=1_000_000)
    originals_dir: str = ""
    keep_originals: bool = True
    video_days: int = Field(default=30, ge=1)
    picture_days: int = Field(default=365, ge=1)
    clip_s: float = Field(default=5.0, ge=0, le=60)
    memory_bytes: int = Field(default=4_000_000, ge=100_000)


class DispatchSettings(BaseModel):
    """Filing and assignment."""

    model_config = _SECTION
    accept_timeout_s: float = Field(default=120.0, gt=0)
    max_offers: int = Field(default=3, ge=1)
    position_max_age_s: float = Field(default=600.0, gt=0)
    check_timeout_s: float = Field(default=60.0, gt=0)
    same_ground_m: float = Field(default=30.0, ge=0)
    reopen_s: float = Field(default=600.0, ge=0)
    poll_s: float = Field(default=1.0, gt=0)


class AssignmentSettings(BaseModel):
    """Who goes: what each thing costs, in seconds of way, and what rules somebody out (docs/assignment.md)."""

    model_config = _SECTION
    detour: float = Field(default=1.3, ge=1, le=5)
    other_grid_s: float = Field(default=1_800.0, ge=0)
    stale_position_s: float = Field(default=3_600.0, ge=0)
    open_task_s: float = Field(default=540.0, ge=0)
    busy_from: int = Field(default=3, ge=1)
    busy_s: float = Field(default=7_200.0, ge=0)
    full_at: int = Field(default=10, ge=1)
    done_task_s: float = Field(default=30.0, ge=0)
    switch_s: float = Field(default=300.0, ge=0)
    rest_s: float = Field(default=0.0, ge=0)
    max_way_m: float = Field(default=15_000.0, gt=0)
    urgent_severity: int = Field(default=1, ge=0, le=4)
    urgent_factor: float = Field(default=4.0, ge=1)


class ParkingSettings(BaseModel):
    """Parking sessions: plates are personal data, and go when nothing is owed any more."""

    model_config = _SECTION
    retention_days: int = Field(default=180, ge=31)


class EscalationSettings(BaseModel):
    """Calling a home's contacts one after the other. Empty `url`: no SMS or voice gateway, a grid worker is told at once."""

    model_config = _SECTION
    categories: tuple[str, ...] = ("smoke",)
    url: str = ""
    authorization: str = ""
    timeout_s: float = Field(default=5.0, gt=0)
    step_s: float = Field(default=60.0, gt=0)
    max_attempts: int = Field(default=5, ge=1)


class WebSettings(BaseModel):
    """The web server and its sessions."""

    model_config = _SECTION
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=1, le=65535)
    public_url: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    session_hours: float = Field(default=12.0, gt=0)
    link_minutes: float = Field(default=30.0, gt=0)
    dist_dir: Path = Path(__file__).resolve().parent.parent / "dashboard" / "web" / "dist"
    push_contact: str = "mailto:admin@example.org"
    map_tiles_url: str = ""


class CitySettings(BaseModel):
    """Where this installation is."""

    model_config = _SECTION
    name: str = "网格卫士"
    timezone: str = "Asia/Shanghai"
    metric_crs: str = "EPSG:4549"
    cell_code_digits: int = Field(default=15, ge=14, le=16)
    language: Literal["zh-CN", "en"] = "zh-CN"


class ClockSettings(BaseModel):
    """The kernel clock; leave alone except in drills."""

    model_config = _SECTION
    offset_s: float = 0.0
    speed: float = Field(default=1.0, gt=0)
    epoch_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)


class LogSettings(BaseModel):
    """Logging."""

    model_config = _SECTION
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(BaseSettings):
    """Everything that can be set. Read with `load_settings`; passed on, never looked up again."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="GRIDWARDEN_", env_nested_delimiter="__")

    data_dir: Path = Path(".gridwarden")
    database: DatabaseSettings = DatabaseSettings()
    mqtt: MqttSettings = MqttSettings()
    ingest: IngestSettings = IngestSettings()
    ways: WaysSettings = WaysSettings()
    camera: CameraSettings = CameraSettings()
    vision: VisionSettings = VisionSettings()
    evidence: EvidenceSettings = EvidenceSettings()
    dispatch: DispatchSettings = DispatchSettings()
    assignment: AssignmentSettings = AssignmentSettings()
    parking: ParkingSettings = ParkingSettings()
    escalation: EscalationSettings = EscalationSettings()
    web: WebSettings = WebSettings()
    city: CitySettings = CitySettings()
    clock: ClockSettings = ClockSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = Path(os.environ.get("GRIDWARDEN_CONFIG", "gridwarden.toml"))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=path)

    @property
    def evidence_dir(self) -> Path:
        """Where pictures are kept."""
        return Path(self.evidence.dir) if self.evidence.dir else self.data_dir / "evidence"

    @property
    def originals_dir(self) -> Path:
        """Where pictures and clips without masks are kept."""
        return Path(self.evidence.originals_dir) if self.evidence.originals_dir else self.data_dir / "originals"

    @property
    def public_url(self) -> str:
        """The address people open, without a trailing slash."""
        scheme = "https" if self.web.tls_cert else "http"
        return self.web.public_url.rstrip("/") or f"{scheme}://{self.web.host}:{self.web.port}"


def load_settings() -> Settings:
    """Read the settings once.

    Raises pydantic.ValidationError naming the key when one is unknown or out of range.
    """
    settings = Settings()
    return settings.model_copy(update={"data_dir": settings.data_dir.resolve()})
