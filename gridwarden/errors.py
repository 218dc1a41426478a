"""Errors that a person can mend: the command line prints their text and nothing else."""

import subprocess

from gridwarden.broker import BrokerError
from gridwarden.model_install import ModelRefusedError
from gridwarden.postgres import PostgresError
from gridwarden.supervise import AlreadyRunningError
from kernel.migration import MigrationError

FRIENDLY = (
    AlreadyRunningError,
    BrokerError,
    FileNotFoundError,
    MigrationError,
    ModelRefusedError,
    PostgresError,
    subprocess.CalledProcessError,
)
