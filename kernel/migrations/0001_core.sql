-- The whole first schema. Roles gw_app and gw_worker are made before this file runs (kernel/migration.py), since a
-- managed database may want them made by hand.

CREATE FUNCTION gw_in_scope(area_code text) RETURNS boolean LANGUAGE sql STABLE AS $$
    -- The scope of a transaction: '*', or division-code prefixes with commas between. Unset means no rows.
    SELECT current_setting('gw.scope', true) = '*'
        OR area_code ^@ ANY (string_to_array(nullif(current_setting('gw.scope', true), ''), ','))
$$;

-- ---------------------------------------------------------------- grid
CREATE TABLE area (
    id uuid PRIMARY KEY,
    map_id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    level text NOT NULL CHECK (level IN ('district', 'street', 'community', 'grid')),
    code text NOT NULL UNIQUE,
    name text NOT NULL,
    parent_code text,
    geom_wkb bytea NOT NULL,
    source_crs text NOT NULL,
    imported_at timestamptz NOT NULL
);

CREATE TABLE grid_cell (
    id uuid PRIMARY KEY,
    map_id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    code text NOT NULL UNIQUE,
    responsibility_grid_code text,
    lon double precision NOT NULL,
    lat double precision NOT NULL,
    geom_wkb bytea NOT NULL,
    source_crs text NOT NULL,
    imported_at timestamptz NOT NULL
);

CREATE TABLE component (
    id uuid PRIMARY KEY,
    map_id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    standard text NOT NULL,
    kind text NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    cell_code text,
    lon double precision NOT NULL,
    lat double precision NOT NULL,
    source_crs text NOT NULL,
    properties jsonb NOT NULL DEFAULT '{}',
    UNIQUE (standard, kind, code)
);

CREATE TABLE map_feature (  -- background that has no duties: roads, water, buildings, parking lots
    id uuid PRIMARY KEY,
    map_id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    layer text NOT NULL,
    name text NOT NULL DEFAULT '',
    geom_wkb bytea NOT NULL,
    properties jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE category (
    id text PRIMARY KEY,
    standard text NOT NULL,          -- GB/T 47678.5 code, or 'local'
    code text NOT NULL,
    older_standard text,
    older_code text,                 -- GB/T 30428.2
    name_zh text NOT NULL,
    name_en text NOT NULL,
    severity int NOT NULL CHECK (severity BETWEEN 1 AND 4),   -- 1 is the most urgent
    limit_value double precision NOT NULL CHECK (limit_value > 0),
    limit_unit text NOT NULL CHECK (limit_unit IN ('urgent_hour', 'work_hour', 'workday', 'day')),
    limit_source text NOT NULL,      -- where the limit comes from, said openly
    auto_file boolean NOT NULL DEFAULT true,      -- file device and camera reports without an operator
    auto_dispatch boolean NOT NULL DEFAULT true,
    dedup text NOT NULL CHECK (dedup IN ('cell', 'device')),
    check_kinds text[] NOT NULL,     -- who may check before closing, in order of preference
    named_person boolean NOT NULL DEFAULT false   -- people and water: only a named person closes
);

-- ---------------------------------------------------------------- people
CREATE TABLE app_user (
    id uuid PRIMARY KEY,
    map_id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    name text NOT NULL UNIQUE,
    display_name text NOT NULL,
    password_hash text,              -- argon2id; null: log-in by one-time link only
    roles text[] NOT NULL,
    scope text NOT NULL,             -- '*' or division-code prefixes, see gw_in_scope
    responsibility_grid_code text,
    language text NOT NULL DEFAULT 'zh-CN',
    disabled boolean NOT NULL DEFAULT false,
    on_duty boolean NOT NULL DEFAULT false,
    duty_changed_at timestamptz,
    created_at timestamptz NOT NULL
);

CREATE TABLE session (
    token_hash bytea PRIMARY KEY,    -- SHA-256 of the cookie
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    seat text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    user_agent text NOT NULL DEFAULT ''
);

CREATE TABLE login_link (
    token_hash bytea PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);

CREATE TABLE login_attempt (
    address text NOT NULL,
    name text NOT NULL,
    attempted_at timestamptz NOT NULL
);
CREATE INDEX ON login_attempt (attempted_at);

CREATE TABLE staff_position (        -- the newest one of each person
    user_id uuid PRIMARY KEY REFERENCES app_user ON DELETE CASCADE,
    lon double precision NOT NULL,
    lat double precision NOT NULL,
    accuracy_m double precision,
    heading_deg double precision,
    area_code text NOT NULL DEFAULT '',
    measured_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL
);
CREATE INDEX ON staff_position (received_at);

CREATE TABLE push_subscription (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    channel text NOT NULL,
    address text NOT NULL UNIQUE,    -- the endpoint
    keys jsonb NOT NULL,
    created_at timestamptz NOT NULL
);

-- ---------------------------------------------------------------- devices
CREATE TABLE device (
    id uuid PRIMARY KEY,
    map_id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    code text NOT NULL UNIQUE,       -- the name in its topics
    kind text NOT NULL,
    name text NOT NULL,
    lon double precision NOT NULL,
    lat double precision NOT NULL,
    source_crs text NOT NULL,
    cell_code text NOT NULL DEFAULT '',
    area_code text NOT NULL DEFAULT '',
    settings jsonb NOT NULL DEFAULT '{}',   -- thresholds and windows of this device, checked by its kind
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL
);

CREATE TABLE camera (                -- what a device of kind camera has besides
    device_id uuid PRIMARY KEY REFERENCES device ON DELETE CASCADE,
    url text NOT NULL,
    scene jsonb NOT NULL DEFAULT '{"zones": []}',
    heading_deg double precision,
    fov_deg double precision,
    range_m double precision
);

CREATE TABLE device_state (
    device_id uuid PRIMARY KEY REFERENCES device ON DELETE CASCADE,
    metrics jsonb NOT NULL DEFAULT '{}',     -- newest value of each metric: {"level_m": {"value": 1.2, "at": "..."}}
    status text NOT NULL DEFAULT 'unknown',  -- ok | alarm | fault | offline | unknown
    alarms jsonb NOT NULL DEFAULT '{}',      -- {"rule": {"cause": "...", "raised_at": "..."}} now active
    rule_state jsonb NOT NULL DEFAULT '{}',  -- what each rule remembers
    last_seen_at timestamptz,
    measured_at timestamptz,
    updated_at timestamptz NOT NULL
);
CREATE INDEX ON device_state (updated_at);

CREATE TABLE device_message (        -- every message taken, once; what makes a redelivery harmless
    device_id uuid NOT NULL,
    message_id text NOT NULL,
    topic_kind text NOT NULL,        -- telemetry | event | state | reply
    received_at timestamptz NOT NULL,
    PRIMARY KEY (device_id, message_id)
);
CREATE INDEX ON device_message (received_at);

CREATE TABLE dead_letter (
    id uuid PRIMARY KEY,
    topic text NOT NULL,
    payload bytea NOT NULL,          -- at most the first 64 KiB
    payload_bytes bigint NOT NULL,
    reason text NOT NULL,            -- stable code
    detail text NOT NULL,
    received_at timestamptz NOT NULL
);
CREATE INDEX ON dead_letter (received_at);

CREATE TABLE vision_state (          -- what the rules of one zone remember over a restart
    device_id uuid NOT NULL REFERENCES device ON DELETE CASCADE,
    zone text NOT NULL,
    rule text NOT NULL,
    state jsonb NOT NULL,
    saved_at timestamptz NOT NULL,
    PRIMARY KEY (device_id, zone, rule)
);

-- ---------------------------------------------------------------- reports and incidents
CREATE TABLE evidence (
    id uuid PRIMARY KEY,
    kind text NOT NULL,              -- snapshot | photo
    path text NOT NULL,              -- below the evidence directory
    sha256 bytea NOT NULL,
    mime text NOT NULL,
    width int NOT NULL,
    height int NOT NULL,
    area_code text NOT NULL DEFAULT '',
    lon double precision,
    lat double precision,
    taken_at timestamptz NOT NULL,
    created_by uuid REFERENCES app_user,
    detail jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE incident (
    id uuid PRIMARY KEY,
    map_id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    number text NOT NULL UNIQUE,     -- yyyymmdd-nnnnnn, local date of opening
    category text NOT NULL REFERENCES category,
    severity int NOT NULL,
    state text NOT NULL CHECK (state IN ('reported', 'filed', 'dispatched', 'accepted', 'on_site', 'handled', 'closed', 'void')),
    dedup_key text NOT NULL,
    cell_code text NOT NULL,
    area_code text NOT NULL,         -- 12-digit community code
    place text NOT NULL DEFAULT '',  -- words for the place
    lon double precision NOT NULL,
    lat double precision NOT NULL,
    opened_at timestamptz NOT NULL,
    filed_at timestamptz,
    handled_at timestamptz,
    ended_at timestamptz,
    limit_from timestamptz,
    due_at timestamptz,
    assignee_id uuid REFERENCES app_user,
    offered_at timestamptz,
    handler_id uuid REFERENCES app_user,   -- who handled: never checks
    proposal jsonb,                  -- what the system suggests next and why
    needs_operator text,             -- why a person must decide, or null
    acknowledged_at timestamptz,
    acknowledged_by uuid REFERENCES app_user,
    report_count int NOT NULL DEFAULT 1,
    version int NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX incident_open_dedup ON incident (dedup_key) WHERE state NOT IN ('closed', 'void');
CREATE INDEX ON incident (state, due_at);
CREATE INDEX ON incident (assignee_id) WHERE state NOT IN ('closed', 'void');

CREATE TABLE incident_counter (day date PRIMARY KEY, last int NOT NULL);

CREATE TABLE report (
    id uuid PRIMARY KEY,
    source text NOT NULL CHECK (source IN ('device', 'camera', 'operator', 'grid_worker', 'citizen', 'hotline', 'system')),
    source_key text NOT NULL UNIQUE, -- a repeat of the same report inserts nothing
    category text NOT NULL REFERENCES category,
    device_id uuid REFERENCES device,
    rule text NOT NULL DEFAULT '',
    zone text NOT NULL DEFAULT '',
    lon double precision NOT NULL,
    lat double precision NOT NULL,
    source_crs text NOT NULL,
    cell_code text NOT NULL DEFAULT '',
    area_code text NOT NULL DEFAULT '',
    severity int NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}',
    evidence_ids uuid[] NOT NULL DEFAULT '{}',
    reporter_id uuid REFERENCES app_user,
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    incident_id uuid REFERENCES incident,
    taken_at timestamptz,            -- null: dispatch has not looked yet
    refusal text                     -- why no incident came of it, or null
);
CREATE INDEX report_waiting ON report (received_at) WHERE taken_at IS NULL;
CREATE INDEX ON report (incident_id);

CREATE TABLE incident_event (        -- append-only: who, when, from where, why
    id uuid PRIMARY KEY,
    incident_id uuid NOT NULL REFERENCES incident,
    at timestamptz NOT NULL,
    action text NOT NULL,
    from_state text,
    to_state text NOT NULL,
    actor_id uuid REFERENCES app_user,
    actor text NOT NULL,             -- a person's name, or the part of the system that acted
    reason text NOT NULL DEFAULT '',
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX ON incident_event (incident_id, at);

CREATE TABLE assignment (
    id uuid PRIMARY KEY,
    incident_id uuid NOT NULL REFERENCES incident,
    user_id uuid NOT NULL REFERENCES app_user,
    reason jsonb NOT NULL,           -- why this person, why not the others
    offered_at timestamptz NOT NULL,
    answered_at timestamptz,
    outcome text                     -- accepted | refused | expired | reassigned | rework
);
CREATE INDEX ON assignment (incident_id);
CREATE UNIQUE INDEX assignment_one_open ON assignment (incident_id) WHERE outcome IS NULL;

CREATE TABLE check_request (
    id uuid PRIMARY KEY,
    incident_id uuid NOT NULL REFERENCES incident,
    kind text NOT NULL CHECK (kind IN ('camera', 'sensor')),
    device_id uuid NOT NULL REFERENCES device,
    rule text NOT NULL,
    zone text NOT NULL DEFAULT '',
    requested_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    answered_at timestamptz,
    verdict text CHECK (verdict IN ('clear', 'not_clear', 'inconclusive')),
    evidence_id uuid REFERENCES evidence,
    detail text NOT NULL DEFAULT '',
    taken_at timestamptz             -- dispatch acted on the answer
);
CREATE INDEX check_request_waiting ON check_request (kind) WHERE answered_at IS NULL;

CREATE TABLE push_outbox (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES app_user,
    incident_id uuid REFERENCES incident,
    kind text NOT NULL,
    body jsonb NOT NULL,
    queued_at timestamptz NOT NULL,
    sent_at timestamptz,
    received_at timestamptz,         -- the phone's own receipt
    attempts int NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    error text
);
CREATE INDEX push_waiting ON push_outbox (next_attempt_at) WHERE sent_at IS NULL;

CREATE TABLE audit (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL DEFAULT '',
    detail jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE idempotency (
    user_id uuid NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    status int NOT NULL,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, key)
);

-- ---------------------------------------------------------------- changes for the wall and the phones
-- Written unnumbered inside each transaction; one sequencer numbers what has been committed (kernel/change.py).
CREATE TABLE change (
    id uuid PRIMARY KEY,
    kind text NOT NULL,              -- incident | device | camera | user | category
    object_id uuid NOT NULL,
    area_code text NOT NULL,
    at timestamptz NOT NULL,
    seq bigint UNIQUE
);
CREATE INDEX change_unnumbered ON change (id) WHERE seq IS NULL;

CREATE TABLE change_counter (one boolean PRIMARY KEY DEFAULT true CHECK (one), last bigint NOT NULL);
INSERT INTO change_counter (last) VALUES (0);

-- ---------------------------------------------------------------- readings
-- TimescaleDB refuses compression on tables with row-level security: none here, gw_app reads through reading_seen.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        CREATE TABLE reading (
            device_id uuid NOT NULL, metric text NOT NULL, value double precision NOT NULL,
            measured_at timestamptz NOT NULL, received_at timestamptz NOT NULL);
        PERFORM create_hypertable('reading', 'received_at', chunk_time_interval => interval '1 day');
    ELSE
        CREATE TABLE reading (
            device_id uuid NOT NULL, metric text NOT NULL, value double precision NOT NULL,
            measured_at timestamptz NOT NULL, received_at timestamptz NOT NULL)
            PARTITION BY RANGE (received_at);
        CREATE TABLE reading_default PARTITION OF reading DEFAULT;
    END IF;
END $$;
CREATE INDEX reading_device_metric ON reading (device_id, metric, measured_at DESC);

CREATE VIEW reading_seen WITH (security_barrier) AS
    SELECT r.* FROM reading r JOIN device d ON d.id = r.device_id WHERE gw_in_scope(d.area_code);

-- ---------------------------------------------------------------- who sees which rows
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['device', 'evidence', 'incident', 'report', 'change'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY app_scope ON %I TO gw_app USING (gw_in_scope(area_code)) WITH CHECK (gw_in_scope(area_code))', t);
    END LOOP;
    -- Children follow the row they belong to: the subquery itself is under that table's policy.
    FOREACH t IN ARRAY ARRAY['incident_event', 'assignment', 'check_request'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY app_scope ON %I TO gw_app USING (EXISTS (SELECT FROM incident i WHERE i.id = incident_id))', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['camera', 'device_state', 'vision_state'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY app_scope ON %I TO gw_app USING (EXISTS (SELECT FROM device d WHERE d.id = device_id))', t);
    END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO gw_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO gw_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO gw_app, gw_worker;
REVOKE ALL ON reading, device_message, dead_letter, vision_state FROM gw_app;
GRANT SELECT ON dead_letter TO gw_app;
REVOKE UPDATE, DELETE ON incident_event, audit FROM gw_app, gw_worker;
