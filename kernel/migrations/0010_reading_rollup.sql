-- Readings by the hour, and how long raw and hourly readings are kept.
--
-- `reading_hour` has one row per device, metric, hour of measuring and hour of receiving: a reading that comes a day late
-- adds a row to the hour in which it was measured, and nobody has to touch what was summed before. Whoever wants an hour
-- sums its rows. On TimescaleDB (with its community features) it is a continuous aggregate; else a view over
-- `reading_partial`, which housekeeping fills hour by hour, and over the raw readings of the hours that are not summed yet.

CREATE TABLE reading_rollup (        -- one row once something was summed; none: nothing yet
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    until_at timestamptz NOT NULL,   -- readings received before are in reading_partial
    raw_from_at timestamptz          -- raw readings received before were dropped
);
CREATE TABLE reading_late (          -- hours that got readings after they may have been summed; doubles are meant:
    received_hour timestamptz NOT NULL   -- nobody who writes one waits for somebody who sums
);
CREATE INDEX ON reading_late (received_hour);

DO $$
DECLARE
    is_hyper boolean := EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb');
    has_community boolean := current_setting('timescaledb.license', true) = 'timescale';
BEGIN
    IF is_hyper AND has_community THEN
        EXECUTE $sql$
            CREATE MATERIALIZED VIEW reading_hour WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
            SELECT device_id, metric, date_bin('1 hour', measured_at, timestamptz '2000-01-01 00:00Z') AS hour,
                   time_bucket('1 hour', received_at) AS received_hour, count(*) AS n, sum(value) AS total,
                   min(value) AS least, max(value) AS greatest, min(measured_at) AS first_at, max(measured_at) AS last_at
            FROM reading GROUP BY 1, 2, 3, 4 WITH NO DATA $sql$;
        EXECUTE $sql$ALTER TABLE reading SET (timescaledb.compress,
            timescaledb.compress_segmentby = 'device_id, metric', timescaledb.compress_orderby = 'measured_at DESC')$sql$;
        PERFORM add_compression_policy('reading', compress_after => interval '2 days');
        RETURN;
    END IF;
    CREATE TABLE reading_partial (
        device_id uuid NOT NULL, metric text NOT NULL, hour timestamptz NOT NULL, received_hour timestamptz NOT NULL,
        n bigint NOT NULL, total double precision NOT NULL, least double precision NOT NULL,
        greatest double precision NOT NULL, first_at timestamptz NOT NULL, last_at timestamptz NOT NULL
    ) PARTITION BY RANGE (received_hour);
    CREATE TABLE reading_partial_default PARTITION OF reading_partial DEFAULT;
    CREATE INDEX reading_partial_device ON reading_partial (device_id, metric, hour);
    CREATE INDEX reading_partial_received ON reading_partial USING brin (received_hour) WITH (autosummarize = on);
    IF NOT is_hyper THEN             -- hypertables have an index on received_at already
        CREATE INDEX reading_received ON reading USING brin (received_at) WITH (autosummarize = on);
    END IF;
    CREATE VIEW reading_hour AS
        SELECT device_id, metric, hour, received_hour, n, total, least, greatest, first_at, last_at FROM reading_partial
        WHERE received_hour < coalesce((SELECT until_at FROM reading_rollup), '-infinity')
        UNION ALL
        SELECT device_id, metric, date_bin('1 hour', measured_at, timestamptz '2000-01-01 00:00Z'),
               date_bin('1 hour', received_at, timestamptz '2000-01-01 00:00Z'), count(*), sum(value), min(value),
               max(value), min(measured_at), max(measured_at)
        FROM reading WHERE received_at >= coalesce((SELECT until_at FROM reading_rollup), '-infinity')
        GROUP BY 1, 2, 3, 4;
    GRANT SELECT, INSERT, UPDATE, DELETE ON reading_partial TO gw_worker;
END $$;

CREATE VIEW reading_hour_seen WITH (security_barrier) AS
    SELECT h.* FROM reading_hour h JOIN device d ON d.id = h.device_id WHERE gw_in_scope(d.area_code);

-- Monthly partitions of reading_partial, as 0003 has daily ones of reading.
CREATE FUNCTION gw_make_hour_partition(month date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    first_day date := date_trunc('month', month::timestamp)::date;
    partition_name text := 'reading_partial_' || to_char(first_day, 'YYYYMM');
    from_at timestamptz := first_day::timestamp AT TIME ZONE 'UTC';
    to_at timestamptz := (first_day + interval '1 month') AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass('reading_partial_default') IS NULL OR to_regclass(partition_name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE reading_partial INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition_name);
    EXECUTE format('WITH moved AS (DELETE FROM reading_partial_default WHERE received_hour >= $1 AND received_hour < $2'
                   ' RETURNING *) INSERT INTO %I SELECT * FROM moved', partition_name) USING from_at, to_at;
    EXECUTE format('ALTER TABLE reading_partial ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   partition_name, from_at, to_at);
    RETURN true;
END $$;

CREATE FUNCTION gw_drop_hours(before date) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    dropped int := 0;
    partition_name text;
    before_at timestamptz := before::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass('reading_partial_default') IS NULL THEN
        EXECUTE 'SELECT count(*) FROM drop_chunks(''reading_hour'', $1::timestamptz)' INTO dropped USING before_at;
        RETURN dropped;
    END IF;
    FOR partition_name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'reading_partial'::regclass AND c.relname ~ '^reading_partial_[0-9]{6}$'
          AND to_date(substr(c.relname, 17), 'YYYYMM') + interval '1 month' <= before
    LOOP
        EXECUTE format('DROP TABLE %I', partition_name);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM reading_partial_default WHERE received_hour < before_at;
    RETURN dropped;
END $$;

-- The refresh of the continuous aggregate must not look further back than raw readings are kept: refreshing hours whose
-- raw readings were dropped would empty them. True when the policy was changed; elsewhere there is none.
CREATE FUNCTION gw_set_hour_policy(raw_days int) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    wanted interval := make_interval(days => least(raw_days, 35));
    present text;
BEGIN
    IF to_regclass('reading_hour') IS NULL OR to_regclass('reading_partial') IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE 'SELECT config ->> ''start_offset'' FROM timescaledb_information.jobs'
            ' WHERE proc_name = ''policy_refresh_continuous_aggregate'' LIMIT 1' INTO present;
    IF present IS NOT NULL AND present::interval = wanted THEN
        RETURN false;
    END IF;
    EXECUTE 'SELECT remove_continuous_aggregate_policy(''reading_hour'', if_exists => true)';
    EXECUTE 'SELECT add_continuous_aggregate_policy(''reading_hour'', start_offset => $1,'
            ' end_offset => interval ''1 hour'', schedule_interval => interval ''15 minutes'')' USING wanted;
    RETURN true;
END $$;

REVOKE ALL ON FUNCTION gw_make_hour_partition(date), gw_drop_hours(date), gw_set_hour_policy(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gw_make_hour_partition(date), gw_drop_hours(date), gw_set_hour_policy(int) TO gw_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON reading_rollup, reading_late TO gw_worker;
GRANT SELECT ON reading_hour, reading_hour_seen TO gw_worker;
GRANT SELECT ON reading_hour_seen TO gw_app;

-- Dead letters: whose they were, and how often a replay was tried.
ALTER TABLE dead_letter ADD COLUMN device_code text GENERATED ALWAYS AS (split_part(topic, '/', 3)) STORED,
    ADD COLUMN replays int NOT NULL DEFAULT 0, ADD COLUMN replayed_at timestamptz;
CREATE INDEX dead_letter_reason ON dead_letter (reason, id);
CREATE INDEX dead_letter_device ON dead_letter (device_code, id);
