"""Simulators: an outside party that speaks MQTT, RTSP and HTTP to any installation. See docs/simulators.md."""
