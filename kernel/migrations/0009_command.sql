-- Commands to devices and their log.
SELECT 1;
