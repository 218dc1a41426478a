"""Errors that a person can mend: the command line prints their text and nothing else."""

import subprocess

from dashboard.users import UserError
from devices.command_model import CommandRefused
from devices.importing import ListError
from devices.store import DeviceError
from dispatch.calendar import ShiftError
from dispatch.calendar_table import CalendarError
from dispatch.model import ActionRefused
from dispatch.staffing import RosterError
from dispatch.unit import UnitError
from grid.coordinates import CoordinateError, CrsError
from grid.problem import ImportRefusedError
from gridwarden.broker import BrokerError
from gridwarden.model_install import ModelRefusedError
from gridwarden.postgres import PostgresError
from gridwarden.supervise import AlreadyRunningError
from ingest.address import AddressError
from ingest.rtsp import CaptureError
from kernel.migration import MigrationError
from vision.detect import ModelError
from vision.scene import SceneError
from vision.training.dataset import DataSetError

FRIENDLY = (
    ActionRefused,
    AddressError,
    AlreadyRunningError,
    BrokerError,
    CalendarError,
    CaptureError,
    CommandRefused,
    CoordinateError,
    CrsError,
    DataSetError,
    DeviceError,
    FileNotFoundError,
    ImportRefusedError,
    ListError,
    MigrationError,
    ModelError,
    ModelRefusedError,
    PostgresError,
    RosterError,
    SceneError,
    ShiftError,
    UnitError,
    UserError,
    subprocess.CalledProcessError,
)
