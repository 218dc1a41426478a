-- Taking messages in: what the hot path needs.
SELECT 1;
