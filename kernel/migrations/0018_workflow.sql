-- The whole workflow: what hangs on an incident beside its state. States stay the eight of the first schema; verification,
-- suspension, extension, supervision, appeal, escalation, summons and kinship are facts of their own.
ALTER TABLE incident
    ADD COLUMN verifier_id uuid REFERENCES app_user,       -- who is asked to verify before filing, until the answer
    ADD COLUMN suspended_at timestamptz,                   -- the clock stands since then
    ADD COLUMN suspended_until timestamptz,                -- and runs again by itself from then on
    ADD COLUMN suspensions smallint NOT NULL DEFAULT 0 CHECK (suspensions BETWEEN 0 AND 1),
    ADD COLUMN extension_asked boolean NOT NULL DEFAULT false,
    ADD COLUMN extensions smallint NOT NULL DEFAULT 0 CHECK (extensions BETWEEN 0 AND 2),
    ADD COLUMN supervision smallint NOT NULL DEFAULT 0 CHECK (supervision BETWEEN 0 AND 3),
    ADD COLUMN level smallint NOT NULL DEFAULT 1 CHECK (level BETWEEN 1 AND 4),  -- L1 grid … L4 district
    ADD COLUMN escalate_at timestamptz,                    -- when the next level is due; null: when the limit is
    ADD COLUMN appeal text CHECK (appeal IN ('asked', 'accepted', 'rejected')),  -- accepted: exempt from statistics
    ADD COLUMN parent_id uuid REFERENCES incident,
    ADD COLUMN merged_into uuid REFERENCES incident,       -- void because it is the same as that one
    ADD COLUMN split_from uuid REFERENCES incident,
    ADD CONSTRAINT incident_suspension_whole CHECK ((suspended_at IS NULL) = (suspended_until IS NULL)),
    ADD CONSTRAINT incident_merged_is_void CHECK (merged_into IS NULL OR state = 'void'),
    ADD CONSTRAINT incident_no_own_kin CHECK (parent_id <> id AND merged_into <> id AND split_from <> id);
CREATE INDEX incident_children ON incident (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX incident_merged ON incident (merged_into) WHERE merged_into IS NOT NULL;
CREATE INDEX incident_merged_key ON incident (dedup_key) WHERE merged_into IS NOT NULL;
CREATE INDEX incident_suspended ON incident (suspended_until) WHERE suspended_until IS NOT NULL;
CREATE INDEX incident_look_alike ON incident (category, opened_at);

CREATE TABLE verification (          -- somebody looks before filing: is it so?
    id uuid PRIMARY KEY,
    incident_id uuid NOT NULL REFERENCES incident,
    user_id uuid NOT NULL REFERENCES app_user,
    asked_by uuid REFERENCES app_user,
    asked_at timestamptz NOT NULL,
    answer_by timestamptz NOT NULL,
    ended_at timestamptz,            -- answered, or no longer needed
    found boolean,                   -- null: no answer came
    evidence_id uuid REFERENCES evidence,
    note text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX verification_one_open ON verification (incident_id) WHERE ended_at IS NULL;
CREATE INDEX ON verification (incident_id);

CREATE TABLE suspension (            -- 挂账: the limit's clock stands from from_at to ended_at
    id uuid PRIMARY KEY,
    incident_id uuid NOT NULL REFERENCES incident,
    from_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL,   -- as decided; at most a year later
    ended_at timestamptz,
    reason text NOT NULL,
    CHECK (until_at > from_at AND until_at <= from_at + interval '366 days')
);
CREATE UNIQUE INDEX suspension_one_open ON suspension (incident_id) WHERE ended_at IS NULL;
CREATE INDEX ON suspension (incident_id);

CREATE TABLE extension (             -- 延期: asked by whoever has the task, decided by an operator
    id uuid PRIMARY KEY,
    incident_id uuid NOT NULL REFERENCES incident,
    asked_by uuid REFERENCES app_user,
    asked_at timestamptz NOT NULL,
    reason text NOT NULL,
    state text NOT NULL CHECK (state IN ('asked', 'granted', 'refused', 'lapsed')),
    value double precision,          -- granted, in the limit's unit
    decided_by uuid REFERENCES app_user,
    decided_at timestamptz,
    answer text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX extension_one_open ON extension (incident_id) WHERE state = 'asked';
CREATE INDEX ON extension (incident_id);

CREATE TABLE appeal (                -- 申诉: accepted exempts the statistics; due_at and the breach stay as they were
    id uuid PRIMARY KEY,
    incident_id uuid NOT NULL UNIQUE REFERENCES incident,
    asked_by uuid REFERENCES app_user,
    asked_at timestamptz NOT NULL,
    reason text NOT NULL,
    state text NOT NULL CHECK (state IN ('asked', 'accepted', 'rejected')),
    decided_by uuid REFERENCES app_user,
    decided_at timestamptz,
    answer text NOT NULL DEFAULT ''
);

CREATE TABLE summons (               -- 吹哨报到: a department is called to one incident, checks in, and is rated
    id uuid PRIMARY KEY,
    incident_id uuid NOT NULL REFERENCES incident,
    user_id uuid NOT NULL REFERENCES app_user,
    summoned_by uuid REFERENCES app_user,
    summoned_at timestamptz NOT NULL,
    check_in_by timestamptz NOT NULL,
    reason text NOT NULL,
    checked_in_at timestamptz,
    lon double precision,
    lat double precision,
    distance_m double precision,     -- from the incident, where they checked in
    score smallint CHECK (score BETWEEN 1 AND 5),
    rated_by uuid REFERENCES app_user,
    rated_at timestamptz,
    remark text NOT NULL DEFAULT '',
    UNIQUE (incident_id, user_id)
);

CREATE TABLE handling_proof (        -- how far the photograph of a handling is to be believed
    evidence_id uuid PRIMARY KEY REFERENCES evidence,
    incident_id uuid NOT NULL REFERENCES incident,
    score double precision NOT NULL CHECK (score BETWEEN 0 AND 1),
    doubts jsonb NOT NULL,           -- [{"code", "weight", …}]
    look bigint,                     -- perceptual hash; null: the picture is too even to have one
    judged_at timestamptz NOT NULL
);
CREATE INDEX ON handling_proof (incident_id);
CREATE INDEX ON handling_proof (judged_at);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['verification', 'suspension', 'extension', 'appeal', 'summons', 'handling_proof'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY app_scope ON %I TO gw_app USING (EXISTS (SELECT FROM incident i WHERE i.id = incident_id))', t);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON verification, suspension, extension, appeal, summons, handling_proof TO gw_worker;
GRANT SELECT, INSERT, UPDATE ON verification, suspension, extension, appeal, summons TO gw_app;
GRANT SELECT ON handling_proof TO gw_app;

-- The log is append-only for everybody, whatever they are granted.
CREATE FUNCTION gw_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER incident_event_append_only BEFORE UPDATE OR DELETE ON incident_event
    FOR EACH ROW EXECUTE FUNCTION gw_refuse_change();

-- A state that no entry of the log tells of cannot be committed.
CREATE FUNCTION gw_state_is_logged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM incident_event e WHERE e.incident_id = NEW.id AND e.from_state = OLD.state
                   AND e.to_state = NEW.state AND e.detail ->> 'version' = NEW.version::text) THEN
        RAISE EXCEPTION 'incident %: the log does not tell of % -> %', NEW.id, OLD.state, NEW.state
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER incident_state_logged AFTER UPDATE OF state ON incident
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION gw_state_is_logged();

-- Whoever reported it may say that it is put right, where no named person must.
UPDATE category SET check_kinds = check_kinds || '{reporter}' WHERE NOT named_person;
