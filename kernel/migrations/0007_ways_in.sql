-- Ways in: mappings of vendors' own formats, stations of SL 651.
SELECT 1;
