-- Daily partitions of `reading`, made ahead and dropped by age. They belong to the owner; the worker may only call these.
-- On TimescaleDB chunks make themselves, and retention drops them.
CREATE FUNCTION gw_make_reading_partition(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    partition_name text := 'reading_' || to_char(day, 'YYYYMMDD');
    from_at timestamptz := day::timestamp AT TIME ZONE 'UTC';
    to_at timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass('reading_default') IS NULL OR to_regclass(partition_name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE reading INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition_name);
    -- What came before its partition stands in the default one, which must not hold rows of a new partition.
    EXECUTE format('WITH moved AS (DELETE FROM reading_default WHERE received_at >= $1 AND received_at < $2 RETURNING *)'
                   ' INSERT INTO %I SELECT * FROM moved', partition_name) USING from_at, to_at;
    EXECUTE format('ALTER TABLE reading ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partition_name, from_at, to_at);
    RETURN true;
END $$;

CREATE FUNCTION gw_drop_readings(before date) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    dropped int := 0;
    partition_name text;
    before_at timestamptz := before::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass('reading_default') IS NULL THEN
        EXECUTE 'SELECT count(*) FROM drop_chunks(''reading'', $1::timestamptz)' INTO dropped USING before_at;
        RETURN dropped;
    END IF;
    FOR partition_name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'reading'::regclass AND c.relname ~ '^reading_[0-9]{8}$'
          AND to_date(substr(c.relname, 9), 'YYYYMMDD') < before
    LOOP
        EXECUTE format('DROP TABLE %I', partition_name);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM reading_default WHERE received_at < before_at;
    RETURN dropped;
END $$;

REVOKE ALL ON FUNCTION gw_make_reading_partition(date), gw_drop_readings(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gw_make_reading_partition(date), gw_drop_readings(date) TO gw_worker;
