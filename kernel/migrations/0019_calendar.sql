-- Working time: the State Council's yearly tables with swapped weekends, shifts of departments, limits by condition,
-- severity and emergency, and what a limit of an incident was counted from.

-- ---------------------------------------------------------------- the calendar
CREATE TABLE calendar_year (         -- a year that is not here is unknown: an error, never a guess
    year int PRIMARY KEY CHECK (year BETWEEN 1990 AND 2200),
    source text NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL
);

CREATE TABLE calendar_day (          -- the days that a year's table names; all others go by the day of the week
    day date PRIMARY KEY,
    year int NOT NULL GENERATED ALWAYS AS (EXTRACT(year FROM day)::int) STORED REFERENCES calendar_year ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('workday', 'rest')),
    name text NOT NULL DEFAULT ''
);

CREATE TABLE work_shift (            -- when a department works on a workday, in minutes of the local day
    department text NOT NULL DEFAULT '',   -- '': every department that has none of its own
    from_day date NOT NULL DEFAULT '2000-01-01',  -- until the same department's next from_day
    begins_min int NOT NULL CHECK (begins_min BETWEEN 0 AND 1439),
    ends_min int NOT NULL CHECK (ends_min BETWEEN 1 AND 1440),
    PRIMARY KEY (department, from_day, begins_min),
    CHECK (begins_min < ends_min)
);

INSERT INTO work_shift (department, begins_min, ends_min) VALUES ('', 480, 720), ('', 840, 1080);

INSERT INTO calendar_year (year, source, changed_at, changed_by) VALUES
(2025, '国务院办公厅关于2025年部分节假日安排的通知（国办发明电〔2024〕12号，2024-11-12）', '2024-11-12T00:00:00Z', 'migration'),
(2026, '国务院办公厅关于2026年部分节假日安排的通知（2025-11-04）', '2025-11-04T00:00:00Z', 'migration');

INSERT INTO calendar_day (day, kind, name)
SELECT d::date, 'rest', t.name
FROM (VALUES
    (date '2025-01-01', date '2025-01-01', '元旦'), (date '2025-01-28', date '2025-02-04', '春节'),
    (date '2025-04-04', date '2025-04-06', '清明节'), (date '2025-05-01', date '2025-05-05', '劳动节'),
    (date '2025-05-31', date '2025-06-02', '端午节'), (date '2025-10-01', date '2025-10-08', '国庆节、中秋节'),
    (date '2026-01-01', date '2026-01-03', '元旦'), (date '2026-02-15', date '2026-02-23', '春节'),
    (date '2026-04-04', date '2026-04-06', '清明节'), (date '2026-05-01', date '2026-05-05', '劳动节'),
    (date '2026-06-19', date '2026-06-21', '端午节'), (date '2026-09-25', date '2026-09-27', '中秋节'),
    (date '2026-10-01', date '2026-10-07', '国庆节')
) AS t (first, last, name), generate_series(t.first, t.last, interval '1 day') AS d;

INSERT INTO calendar_day (day, kind, name) VALUES
('2025-01-26', 'workday', '春节调休'), ('2025-02-08', 'workday', '春节调休'), ('2025-04-27', 'workday', '劳动节调休'),
('2025-09-28', 'workday', '国庆节调休'), ('2025-10-11', 'workday', '国庆节调休'),
('2026-01-04', 'workday', '元旦调休'), ('2026-02-14', 'workday', '春节调休'), ('2026-02-28', 'workday', '春节调休'),
('2026-05-09', 'workday', '劳动节调休'), ('2026-09-20', 'workday', '国庆节调休'), ('2026-10-10', 'workday', '国庆节调休');

-- ---------------------------------------------------------------- limits
-- A category's own limit holds in the normal set; what is narrower, or of an emergency, stands here. All of it is
-- example data to be edited; `source` says where a figure comes from.
CREATE TABLE limit_rule (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    category text NOT NULL REFERENCES category,
    condition text NOT NULL DEFAULT '',        -- filing condition (立案条件); '': any
    severity int NOT NULL DEFAULT 0 CHECK (severity BETWEEN 0 AND 4),   -- 0: any
    set_name text NOT NULL DEFAULT 'normal',   -- 'normal', or the emergency during which it holds
    value double precision NOT NULL CHECK (value > 0 AND value < 100000),
    unit text NOT NULL CHECK (unit IN ('urgent_hour', 'work_hour', 'workday', 'day')),
    source text NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    UNIQUE (category, condition, severity, set_name),
    CHECK (condition <> '' OR severity <> 0 OR set_name <> 'normal')   -- that one is the category's own
);

UPDATE category SET limit_value = v.value, limit_unit = v.unit, limit_source = v.source
FROM (VALUES
    ('exposed_garbage', 4, 'work_hour', 'example: one city''s published workbook'),
    ('bin_overflow', 4, 'work_hour', 'example: one city''s published workbook'),
    ('dirty_road', 2, 'work_hour', 'example: one city''s published workbook'),
    ('bikes_misparked', 2, 'work_hour', 'example: one city''s published workbook'),
    ('accumulated_refuse', 5, 'workday', 'example: one city''s published workbook'),
    ('dirty_water', 2, 'workday', 'example: one city''s published workbook'),
    ('river_pollution', 2, 'workday', 'example: one city''s published workbook'),
    ('illegal_bills', 1, 'workday', 'example: one city''s published workbook'),
    ('trading_outside_shop', 2, 'urgent_hour', 'example: one city''s published workbook'),
    ('trading_on_road', 2, 'urgent_hour', 'example: one city''s published workbook'),
    ('unlicensed_vendor', 2, 'urgent_hour', 'example: one city''s published workbook'),
    ('road_collapse', 2, 'urgent_hour', 'example: one city''s published workbook')
) AS v (id, value, unit, source) WHERE category.id = v.id;

INSERT INTO limit_rule (category, condition, severity, set_name, value, unit, source, changed_at, changed_by) VALUES
('dirty_road', 'main_road', 0, 'normal', 1, 'work_hour', 'own value', '2026-11-20T00:00:00Z', 'migration'),
('damaged_road', 'main_road', 0, 'normal', 1, 'day', 'own value', '2026-11-20T00:00:00Z', 'migration'),
('illegal_parking', '', 1, 'normal', 0.5, 'urgent_hour', 'own value', '2026-11-20T00:00:00Z', 'migration'),
('bin_overflow', '', 1, 'normal', 2, 'urgent_hour', 'own value', '2026-11-20T00:00:00Z', 'migration'),
('river_level', '', 0, 'flood', 0.5, 'urgent_hour', 'own value', '2026-11-20T00:00:00Z', 'migration'),
('road_collapse', '', 0, 'flood', 1, 'urgent_hour', 'own value', '2026-11-20T00:00:00Z', 'migration'),
('cable_down', '', 0, 'flood', 1, 'urgent_hour', 'own value', '2026-11-20T00:00:00Z', 'migration'),
('river_occupied', '', 0, 'flood', 4, 'urgent_hour', 'own value', '2026-11-20T00:00:00Z', 'migration'),
('snow_ice', '', 0, 'snow', 2, 'urgent_hour', 'own value', '2026-11-20T00:00:00Z', 'migration'),
('cable_down', '', 0, 'snow', 1, 'urgent_hour', 'own value', '2026-11-20T00:00:00Z', 'migration');

CREATE TABLE emergency_mode (        -- 平急转换: entered and left, never deleted; one at a time
    id uuid PRIMARY KEY,
    name text NOT NULL CHECK (name <> '' AND name <> 'normal'),
    reason text NOT NULL,
    entered_at timestamptz NOT NULL,
    entered_by text NOT NULL,
    left_at timestamptz,
    left_by text,
    left_reason text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX emergency_one_at_a_time ON emergency_mode ((left_at IS NULL)) WHERE left_at IS NULL;

CREATE TABLE limit_version (         -- moves with whatever may change a limit: copies are read anew, open incidents recounted
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id uuid NOT NULL
);
INSERT INTO limit_version (id) VALUES (gen_random_uuid());

CREATE FUNCTION gw_move_limit_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE limit_version SET id = gen_random_uuid();
    RETURN NULL;
END $$;
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['calendar_year', 'calendar_day', 'work_shift', 'limit_rule'] LOOP
        EXECUTE format('CREATE TRIGGER limits_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON %I'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION gw_move_limit_version()', t);
    END LOOP;
END $$;
CREATE TRIGGER limits_changed AFTER INSERT OR UPDATE ON emergency_mode
    FOR EACH STATEMENT EXECUTE FUNCTION gw_move_limit_version();
CREATE TRIGGER limits_changed AFTER INSERT OR UPDATE OF limit_value, limit_unit, limit_source ON category
    FOR EACH STATEMENT EXECUTE FUNCTION gw_move_limit_version();

-- ---------------------------------------------------------------- what an incident's limit was counted from
ALTER TABLE incident
    ADD COLUMN condition text NOT NULL DEFAULT '',   -- filing condition; limits may depend on it
    ADD COLUMN limit_base double precision,          -- what the rule gives
    ADD COLUMN limit_value double precision,         -- with what extensions added to it
    ADD COLUMN limit_unit text CHECK (limit_unit IN ('urgent_hour', 'work_hour', 'workday', 'day')),
    ADD COLUMN limit_rule text NOT NULL DEFAULT '',  -- which rule gave it, in words: set, condition, severity, source
    ADD COLUMN limit_seen text NOT NULL DEFAULT '',  -- limit_version, severity, condition, unit it was counted with
    ADD COLUMN amber_at timestamptz;                 -- when 80 % of the counted time is used up
CREATE INDEX incident_due ON incident (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX incident_opened ON incident (opened_at);
CREATE INDEX incident_ended ON incident (ended_at) WHERE ended_at IS NOT NULL;
-- The owner sees rows of a table without FORCE only.
ALTER TABLE incident NO FORCE ROW LEVEL SECURITY;
UPDATE incident SET limit_value = extract(epoch FROM due_at - limit_from) / 3600,
    limit_base = extract(epoch FROM due_at - limit_from) / 3600, limit_unit = 'urgent_hour',
    amber_at = limit_from + 0.8 * (due_at - limit_from) WHERE limit_from IS NOT NULL AND due_at > limit_from;
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE incident FORCE ROW LEVEL SECURITY;

CREATE TABLE handling_time (         -- how long such incidents took before, of their counted hours (dispatch.prediction)
    category text NOT NULL REFERENCES category,
    hour_class text NOT NULL,        -- part of the day in which it was filed
    working boolean NOT NULL,        -- counted in working time, or continuously
    count int NOT NULL,
    of_category int NOT NULL,        -- in all parts of the day together
    mean_log double precision NOT NULL,   -- of the natural logarithm of the hours
    sd_log double precision NOT NULL,
    computed_at timestamptz NOT NULL,
    PRIMARY KEY (category, hour_class, working)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON calendar_year, calendar_day, work_shift, limit_rule, handling_time TO gw_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON calendar_year, calendar_day, work_shift, limit_rule TO gw_app;
GRANT SELECT, UPDATE ON limit_version TO gw_worker, gw_app;
GRANT SELECT, INSERT, UPDATE ON emergency_mode TO gw_worker, gw_app;
GRANT SELECT ON handling_time TO gw_app;
