"""Cameras to findings: detection, tracking, rules, evidence."""
