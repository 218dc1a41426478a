"""What `gridwarden bench` runs; never timed in tests."""
