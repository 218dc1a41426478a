"""Rendered street scenes: an abstract street, seen by a fixed camera, with ground truth for every actor."""

from simulators.street.scene import (
    Actor,
    Bin,
    Garbage,
    GarbageKind,
    HandBag,
    Light,
    Person,
    Place,
    TruthBox,
    TwoWheeler,
    Vehicle,
    VehicleKind,
    Weather,
    label_of,
)
from simulators.street.street import Street

__all__ = [
    "Actor",
    "Bin",
    "Garbage",
    "GarbageKind",
    "HandBag",
    "Light",
    "Person",
    "Place",
    "Street",
    "TruthBox",
    "TwoWheeler",
    "Vehicle",
    "VehicleKind",
    "Weather",
    "label_of",
]
