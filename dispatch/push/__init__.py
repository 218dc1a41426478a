"""Ways to a phone: every module here is a channel with `make_channel(settings, database)` (see dispatch/outbox.py)."""
