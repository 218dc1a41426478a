-- Parking: lots, tariffs, passages, the sessions that follow from them, plates bound to leave first and pay later,
-- statements. Plates are personal data: kept as long as `parking.retention_days` says, shown masked.
CREATE TABLE parking_lot (
    id uuid PRIMARY KEY,
    code text NOT NULL,                      -- as gates name it
    area_code text NOT NULL DEFAULT '',
    name text NOT NULL DEFAULT '',
    lon double precision NOT NULL,
    lat double precision NOT NULL,
    bays_total int CHECK (bays_total >= 0),  -- null: nobody has said
    deferred boolean NOT NULL DEFAULT true,  -- a bound plate leaves first and pays later
    entry text NOT NULL DEFAULT 'bound' CHECK (entry IN ('all', 'bound', 'off')),  -- whom we open for on the way in
    overdue_limit int NOT NULL DEFAULT 3 CHECK (overdue_limit >= 1),  -- so many overdue statements: pay first
    pay_within_days int NOT NULL DEFAULT 15 CHECK (pay_within_days >= 1),
    gate_bays_free int,                      -- what a gate counted last
    gate_bays_total int,
    gate_bays_at timestamptz,
    changed_at timestamptz NOT NULL,
    UNIQUE (code, area_code)
);

CREATE TABLE parking_tariff (                -- append-only: a stay is charged by what was posted when it began
    lot_id uuid NOT NULL REFERENCES parking_lot ON DELETE CASCADE,
    valid_from timestamptz NOT NULL,
    tariff jsonb NOT NULL,                   -- devices.parking.tariff.Tariff
    set_by text NOT NULL,
    PRIMARY KEY (lot_id, valid_from)
);

CREATE TABLE parking_passage (               -- what gates saw, once each; sessions are these, replayed in order
    id uuid PRIMARY KEY,                     -- from device and message id, so that a replay finds the same
    lot_id uuid NOT NULL REFERENCES parking_lot ON DELETE CASCADE,
    device_id uuid NOT NULL,
    direction text NOT NULL CHECK (direction IN ('in', 'out')),
    plate text NOT NULL,                     -- as read; '' when it could not be read
    colour text,
    confidence_pct double precision,
    at timestamptz NOT NULL,
    paid text CHECK (paid IN ('none', 'paid', 'deferred', 'unpaid')),
    fee_fen int,
    received_at timestamptz NOT NULL
);
CREATE INDEX parking_passage_lot ON parking_passage (lot_id, at);

CREATE TABLE parking_choice (                -- what a person decided about an exit that matched nothing
    exit_id uuid PRIMARY KEY,                -- the passage out
    lot_id uuid NOT NULL REFERENCES parking_lot ON DELETE CASCADE,
    entry_id uuid,                           -- the passage in that it belongs to; null: none, nothing is charged
    decided_by text NOT NULL,
    decided_at timestamptz NOT NULL,
    reason text NOT NULL
);

CREATE TABLE parking_session (
    id uuid PRIMARY KEY,                     -- of its first passage
    lot_id uuid NOT NULL REFERENCES parking_lot ON DELETE CASCADE,
    area_code text NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'left', 'unmatched', 'no_exit', 'waived')),
    plate text NOT NULL,                     -- as read on the way in; of an unmatched exit, on the way out
    colour text,
    entered_at timestamptz,                  -- null: no entry was seen
    left_at timestamptz,                     -- null: inside, or its exit was missed
    ended_at timestamptz,                    -- when it stopped counting as inside
    exit_id uuid,
    exit_plate text,                         -- as read on the way out
    matched_by text CHECK (matched_by IN ('plate', 'similar', 'person')),
    paid text,
    fee_fen int,
    updated_at timestamptz NOT NULL
);
CREATE INDEX parking_session_open ON parking_session (lot_id) WHERE ended_at IS NULL;
CREATE INDEX parking_session_ended ON parking_session (lot_id, ended_at);
CREATE INDEX parking_session_began ON parking_session ((coalesce(entered_at, left_at)), id);
CREATE INDEX parking_session_lot_began ON parking_session (lot_id, (coalesce(entered_at, left_at)), id);
CREATE INDEX parking_session_unmatched ON parking_session (lot_id) WHERE state = 'unmatched';

CREATE TABLE plate_binding (                 -- 先离场后付费: whose charge may follow. No card, no account: a reference only
    id uuid PRIMARY KEY,
    plate text NOT NULL,
    area_code text NOT NULL,                 -- where it holds: a prefix of the lot's; '' everywhere
    reference text NOT NULL DEFAULT '',      -- the payer's number at whoever collects
    bound_at timestamptz NOT NULL,
    ends_at timestamptz,
    ended_at timestamptz,
    bound_by text NOT NULL
);
CREATE UNIQUE INDEX plate_binding_one ON plate_binding (plate, area_code) WHERE ended_at IS NULL;

CREATE TABLE parking_statement (
    id uuid PRIMARY KEY,
    session_id uuid NOT NULL UNIQUE,         -- no reference: a replay may take the session away, the statement stays cancelled
    lot_id uuid NOT NULL REFERENCES parking_lot ON DELETE CASCADE,
    area_code text NOT NULL,
    plate text NOT NULL,
    amount_fen int NOT NULL CHECK (amount_fen >= 0),
    state text NOT NULL CHECK (state IN ('unpaid', 'paid', 'disputed', 'cancelled')),  -- overdue: unpaid after due_at
    issued_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    by_person boolean NOT NULL DEFAULT false,  -- a person settled it: what gates say later changes nothing
    updated_at timestamptz NOT NULL
);
CREATE INDEX parking_statement_waiting ON parking_statement (state) WHERE state IN ('unpaid', 'disputed');
CREATE INDEX parking_statement_plate ON parking_statement (plate) WHERE state = 'unpaid';

CREATE TABLE parking_statement_event (       -- append-only
    id uuid PRIMARY KEY,
    statement_id uuid NOT NULL REFERENCES parking_statement ON DELETE CASCADE,
    at timestamptz NOT NULL,
    from_state text,
    to_state text NOT NULL,
    amount_fen int NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL DEFAULT ''
);
CREATE INDEX ON parking_statement_event (statement_id);

CREATE TABLE barrier_decision (              -- append-only: for whom a barrier was opened, for whom not, and why
    id uuid PRIMARY KEY,
    lot_id uuid NOT NULL REFERENCES parking_lot ON DELETE CASCADE,
    area_code text NOT NULL,
    device_id uuid NOT NULL,
    at timestamptz NOT NULL,
    direction text NOT NULL,
    plate text NOT NULL,
    opened boolean NOT NULL,
    code text NOT NULL,
    session_id uuid,
    command_id uuid
);
CREATE INDEX ON barrier_decision (lot_id, at);

-- Homes: a device in a household, the consent of who lives there, and whom to call.
ALTER TABLE device ADD COLUMN IF NOT EXISTS building text NOT NULL DEFAULT '';
ALTER TABLE device ADD COLUMN IF NOT EXISTS floor text NOT NULL DEFAULT '';
ALTER TABLE device ADD COLUMN IF NOT EXISTS household text NOT NULL DEFAULT '';
ALTER TABLE device ADD COLUMN in_home boolean GENERATED ALWAYS AS (coalesce(household, '') <> '') STORED;
ALTER TABLE device ADD COLUMN consent_until timestamptz;  -- written by devices.homes only, from the consent on record

CREATE TABLE consent (
    id uuid PRIMARY KEY,
    device_id uuid NOT NULL REFERENCES device ON DELETE CASCADE,
    given_by text NOT NULL,
    given_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    purpose text NOT NULL,
    document_id uuid REFERENCES evidence,
    recorded_by text NOT NULL,
    recorded_at timestamptz NOT NULL,
    withdrawn_at timestamptz,
    withdrawn_by text
);
CREATE UNIQUE INDEX consent_one ON consent (device_id) WHERE withdrawn_at IS NULL;
CREATE INDEX consent_ends ON consent (ends_at) WHERE withdrawn_at IS NULL;

CREATE TABLE home_contact (
    id uuid PRIMARY KEY,
    device_id uuid NOT NULL REFERENCES device ON DELETE CASCADE,
    position int NOT NULL CHECK (position BETWEEN 1 AND 20),  -- who is called first
    role text NOT NULL CHECK (role IN ('resident', 'neighbour', 'community')),
    sealed bytea NOT NULL,                   -- name and phone, encrypted (devices/homes/seal.py)
    language text NOT NULL DEFAULT 'zh-CN',
    changed_at timestamptz NOT NULL,
    UNIQUE (device_id, position)
);

-- Smoke: resident, then neighbour, then community, until somebody answers.
CREATE TABLE escalation (
    incident_id uuid PRIMARY KEY REFERENCES incident,
    device_id uuid NOT NULL REFERENCES device,
    started_at timestamptz NOT NULL,
    next_at timestamptz NOT NULL,            -- when to look again
    ended_at timestamptz,
    outcome text CHECK (outcome IN ('safe', 'helped', 'unanswered', 'incident_ended'))
);
CREATE INDEX escalation_running ON escalation (next_at) WHERE ended_at IS NULL;

CREATE TABLE notice (                        -- one step of an escalation
    id uuid PRIMARY KEY,
    incident_id uuid NOT NULL REFERENCES escalation ON DELETE CASCADE,
    position int NOT NULL,
    role text NOT NULL CHECK (role IN ('resident', 'neighbour', 'community', 'grid_worker')),
    contact_id uuid,                         -- null: a grid worker, by push
    state text NOT NULL CHECK (state IN ('waiting', 'due', 'sent', 'failed', 'skipped')),
    due_at timestamptz,
    next_attempt_at timestamptz,
    attempts int NOT NULL DEFAULT 0,
    sent_at timestamptz,
    error text,
    answer text CHECK (answer IN ('safe', 'help')),
    answered_at timestamptz,
    UNIQUE (incident_id, position)
);
CREATE INDEX notice_due ON notice (next_attempt_at) WHERE state = 'due';

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['parking_lot', 'parking_session', 'parking_statement', 'barrier_decision', 'plate_binding'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY app_scope ON %I TO gw_app USING (gw_in_scope(area_code)) WITH CHECK (gw_in_scope(area_code))', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['parking_tariff', 'parking_passage', 'parking_choice'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY app_scope ON %I TO gw_app USING (EXISTS (SELECT FROM parking_lot l WHERE l.id = lot_id))', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['consent', 'home_contact'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY app_scope ON %I TO gw_app USING (EXISTS (SELECT FROM device d WHERE d.id = device_id))', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['escalation', 'notice'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY app_scope ON %I TO gw_app USING (EXISTS (SELECT FROM incident i WHERE i.id = incident_id))', t);
    END LOOP;
END $$;
ALTER TABLE parking_statement_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE parking_statement_event FORCE ROW LEVEL SECURITY;
CREATE POLICY worker_all ON parking_statement_event TO gw_worker USING (true) WITH CHECK (true);
CREATE POLICY app_scope ON parking_statement_event TO gw_app
    USING (EXISTS (SELECT FROM parking_statement s WHERE s.id = statement_id));

GRANT SELECT, INSERT, UPDATE, DELETE ON parking_lot, parking_tariff, parking_passage, parking_choice, parking_session,
    plate_binding, parking_statement, parking_statement_event, barrier_decision, consent, home_contact, escalation, notice
    TO gw_worker, gw_app;
REVOKE UPDATE ON parking_tariff, parking_statement_event, barrier_decision FROM gw_app, gw_worker;
REVOKE INSERT, UPDATE, DELETE ON escalation, notice, barrier_decision FROM gw_app;

-- Categories of the new kinds; severities and limits are this project's own values, editable like the others.
INSERT INTO category (id, standard, code, older_standard, older_code, name_zh, name_en, severity, limit_value, limit_unit, limit_source, dedup, check_kinds, named_person) VALUES
('access_forced', 'local', 'access_forced', NULL, NULL, '门禁强行打开', 'Access door forced', 2, 1, 'urgent_hour', 'own value', 'device', '{person}', false),
('access_held_open', 'local', 'access_held_open', NULL, NULL, '门禁长时未关', 'Access door held open', 3, 4, 'urgent_hour', 'own value', 'device', '{sensor,person}', false),
('water_leak', 'local', 'water_leak', NULL, NULL, '疑似漏水', 'Suspected water leak', 3, 4, 'urgent_hour', 'own value', 'device', '{person}', false);
