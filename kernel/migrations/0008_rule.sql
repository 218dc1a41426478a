-- Alarm rules as data, shelving, maintenance windows.
SELECT 1;
