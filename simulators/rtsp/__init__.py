"""Simulated cameras over RTSP."""

from simulators.rtsp.camera import Fault, SimCamera
from simulators.rtsp.media import MediaError, open_file
from simulators.rtsp.server import RtspServer

__all__ = ["Fault", "MediaError", "RtspServer", "SimCamera", "open_file"]
