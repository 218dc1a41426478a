-- Alarm rules as data, shelving, maintenance windows, and when each device must be looked at next.

CREATE TABLE alarm_rule (            -- the rule as it stands; every state it ever had is in alarm_rule_version
    id uuid PRIMARY KEY,
    name text NOT NULL,              -- of rules with one name the narrowest acts on a device
    kind text NOT NULL DEFAULT '',   -- scope; '' means any
    area_code text NOT NULL DEFAULT '',
    device_id uuid REFERENCES device ON DELETE CASCADE,
    mode text NOT NULL CHECK (mode IN ('off', 'monitor', 'live')),
    version int NOT NULL,
    body jsonb NOT NULL,             -- type, parameters, titles, category, severity, daily window, damping
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE INDEX ON alarm_rule (device_id) WHERE device_id IS NOT NULL;

CREATE TABLE alarm_rule_version (    -- append-only: who, when, why
    rule_id uuid NOT NULL REFERENCES alarm_rule ON DELETE CASCADE,
    version int NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    area_code text NOT NULL,
    device_id uuid,
    mode text NOT NULL,
    body jsonb NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (rule_id, version)
);

CREATE TABLE rule_book (             -- moves whenever a rule, a shelf or a maintenance window changes; none: never yet
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL,
    changed_at timestamptz NOT NULL
);

CREATE TABLE rule_finding (          -- what rules in monitor mode found, and alarms that were held back
    id uuid PRIMARY KEY,
    device_id uuid NOT NULL REFERENCES device ON DELETE CASCADE,
    rule_id uuid REFERENCES alarm_rule ON DELETE CASCADE,   -- null: a kind's own rule, held back
    rule text NOT NULL,
    cause text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('monitor', 'shelved', 'maintenance')),
    category text NOT NULL,
    occurred_at timestamptz NOT NULL,
    ended_at timestamptz,
    received_at timestamptz NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX rule_finding_once
    ON rule_finding (device_id, rule, cause, outcome, coalesce(rule_id, '00000000-0000-0000-0000-000000000000'));
CREATE INDEX ON rule_finding (rule_id, occurred_at);
CREATE INDEX ON rule_finding (received_at);

CREATE TABLE shelf (                 -- one device's rule (or all of them) kept quiet, with a reason and an end
    id uuid PRIMARY KEY,
    device_id uuid NOT NULL REFERENCES device ON DELETE CASCADE,
    rule text NOT NULL DEFAULT '',   -- '': all
    reason text NOT NULL,
    actor text NOT NULL,
    from_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL,
    ended_at timestamptz,            -- taken down before its end
    CHECK (until_at > from_at)
);
CREATE INDEX ON shelf (device_id);
CREATE INDEX ON shelf (until_at) WHERE ended_at IS NULL;

CREATE TABLE maintenance (           -- alarms kept quiet in an area, of a kind, of a device, for a while
    id uuid PRIMARY KEY,
    kind text NOT NULL DEFAULT '',
    area_code text NOT NULL DEFAULT '',
    device_id uuid REFERENCES device ON DELETE CASCADE,
    reason text NOT NULL,
    actor text NOT NULL,
    from_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL,
    ended_at timestamptz,
    CHECK (until_at > from_at)
);
CREATE INDEX ON maintenance (until_at) WHERE ended_at IS NULL;

CREATE TABLE deaf_span (             -- while nobody listened: counts as no device's silence
    from_at timestamptz PRIMARY KEY,
    until_at timestamptz NOT NULL
);
CREATE TABLE sweep_mark (one boolean PRIMARY KEY DEFAULT true CHECK (one), judged_at timestamptz NOT NULL);

-- ---------------------------------------------------------------- when time alone may change something
ALTER TABLE device_state ADD COLUMN due_at timestamptz;  -- null: never, until a message comes
UPDATE device_state SET due_at = '1970-01-01 00:00Z';
CREATE INDEX device_state_due ON device_state (due_at) WHERE due_at IS NOT NULL;

CREATE FUNCTION gw_look_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Settings, parent, place or consent may have moved the instant: the next sweep computes it anew.
    UPDATE device_state SET due_at = CASE WHEN NEW.enabled THEN timestamptz '1970-01-01 00:00Z' END WHERE device_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER device_looked_at_again AFTER UPDATE ON device
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION gw_look_again();

-- ---------------------------------------------------------------- who sees which rows
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['alarm_rule', 'alarm_rule_version', 'maintenance'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
        -- A rule says nothing about anybody: all may read those that act in their area, wider ones too. A change needs the whole.
        EXECUTE format('CREATE POLICY app_read ON %I FOR SELECT TO gw_app USING (true)', t);
        EXECUTE format('CREATE POLICY app_insert ON %I FOR INSERT TO gw_app WITH CHECK (gw_in_scope(area_code))', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['alarm_rule', 'maintenance'] LOOP
        EXECUTE format('CREATE POLICY app_update ON %I FOR UPDATE TO gw_app USING (gw_in_scope(area_code)) WITH CHECK (gw_in_scope(area_code))', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['rule_finding', 'shelf'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY app_scope ON %I TO gw_app USING (EXISTS (SELECT FROM device d WHERE d.id = device_id)) WITH CHECK (EXISTS (SELECT FROM device d WHERE d.id = device_id))', t);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON alarm_rule, rule_finding, shelf, maintenance, rule_book, deaf_span, sweep_mark TO gw_worker;
GRANT SELECT, INSERT ON alarm_rule_version TO gw_worker, gw_app;
GRANT SELECT, INSERT, UPDATE ON alarm_rule, shelf, maintenance, rule_book TO gw_app;
GRANT SELECT ON rule_finding, deaf_span TO gw_app;

INSERT INTO category (id, standard, code, older_standard, older_code, name_zh, name_en, severity, limit_value, limit_unit, limit_source, dedup, check_kinds, named_person) VALUES
('device_offline', 'local', 'device_offline', NULL, NULL, '设备离线', 'Device offline', 3, 1, 'day', 'own value', 'device', '{sensor,person}', false),
('low_battery', 'local', 'low_battery', NULL, NULL, '设备电量低', 'Device battery low', 4, 5, 'day', 'own value', 'device', '{sensor,person}', false),
('weak_signal', 'local', 'weak_signal', NULL, NULL, '设备信号弱', 'Device signal weak', 4, 5, 'day', 'own value', 'device', '{sensor,person}', false),
('water_use_low', 'local', 'water_use_low', NULL, NULL, '重点对象用水量异常偏低', 'Little water used (person cared for)', 1, 1, 'urgent_hour', 'own value', 'device', '{person}', true),
('rule_alarm', 'local', 'rule_alarm', NULL, NULL, '监测值异常', 'Measured value out of bounds', 3, 4, 'urgent_hour', 'own value', 'device', '{sensor,person}', false);
