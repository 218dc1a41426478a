-- Hourly roll-ups of readings, compression and retention.
SELECT 1;
