"""Parking: passages at gates make sessions, sessions make statements, and a bound plate opens the barrier.

plate (patterns, misreadings, masks) · tariff (what a stay costs) · session (passages replayed into sessions) ·
statement (what is owed) · gate (for whom to open) are pure; store has the SQL; flow joins them to what ingest saw.
"""
