-- Commands to devices, their log, and locks on devices at which somebody works.
CREATE TABLE command (
    id uuid PRIMARY KEY,
    device_id uuid NOT NULL REFERENCES device,
    name text NOT NULL,              -- one of the kind's commands
    parameters jsonb NOT NULL,
    reason text NOT NULL,
    state text NOT NULL CHECK (state IN
        ('requested', 'approved', 'sent', 'acknowledged', 'verified', 'refused', 'expired', 'failed', 'cancelled')),
    second_person boolean NOT NULL,
    moving boolean NOT NULL,
    nonce text NOT NULL,             -- the device gives it back; nobody else knows it
    seq bigint,                      -- given at sending: a device refuses one that is not above the last
    requested_by_id uuid REFERENCES app_user,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL,
    approved_by_id uuid REFERENCES app_user,
    approved_by text,
    approved_at timestamptz,
    sent_at timestamptz,             -- first sending
    attempts int NOT NULL DEFAULT 0,
    next_send_at timestamptz,
    acknowledged_at timestamptz,
    answered_at timestamptz,         -- of the first answer, by the device's clock: the read-back must not be older
    verify_until timestamptz,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    interlocks jsonb NOT NULL DEFAULT '[]',   -- as found last: [{"code", "ok", "params"}]
    outcome jsonb,                   -- {"code", "detail"} when it ended
    UNIQUE (device_id, seq),
    CHECK (approved_by_id IS NULL OR approved_by_id IS DISTINCT FROM requested_by_id),
    CHECK (NOT second_person OR approved_by IS NOT NULL
           OR state NOT IN ('approved', 'sent', 'acknowledged', 'verified', 'failed'))
);
CREATE INDEX ON command (device_id, requested_at DESC);
CREATE INDEX command_open ON command (device_id) WHERE state IN ('requested', 'approved', 'sent', 'acknowledged');
CREATE UNIQUE INDEX command_one_moving ON command (device_id)
    WHERE moving AND state IN ('requested', 'approved', 'sent', 'acknowledged');

CREATE TABLE command_event (         -- append-only: what happened to a command, by whom and why
    id uuid PRIMARY KEY,
    n bigint GENERATED ALWAYS AS IDENTITY,   -- order within one transaction, whose events have one instant
    command_id uuid NOT NULL REFERENCES command,
    at timestamptz NOT NULL,
    from_state text,
    state text NOT NULL,             -- the same as from_state: something to know, no change
    actor_id uuid REFERENCES app_user,
    actor text NOT NULL,             -- a person's name, or system, or device
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX ON command_event (command_id, n);

CREATE TABLE command_counter (device_id uuid PRIMARY KEY REFERENCES device ON DELETE CASCADE, last bigint NOT NULL);

CREATE TABLE command_lock (          -- 挂牌上锁: nothing may move while one is open
    id uuid PRIMARY KEY,
    device_id uuid NOT NULL REFERENCES device,
    reason text NOT NULL,
    locked_by_id uuid REFERENCES app_user,
    locked_by text NOT NULL,
    locked_at timestamptz NOT NULL,
    released_by_id uuid REFERENCES app_user,
    released_by text,
    released_at timestamptz
);
CREATE INDEX command_lock_open ON command_lock (device_id) WHERE released_at IS NULL;

DO $$
DECLARE t text;
BEGIN
    -- Rows follow the device or the command they belong to: the subquery itself is under that table's policy.
    FOREACH t IN ARRAY ARRAY['command', 'command_counter', 'command_lock'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY app_scope ON %I TO gw_app USING (EXISTS (SELECT FROM device d WHERE d.id = device_id))', t);
    END LOOP;
    ALTER TABLE command_event ENABLE ROW LEVEL SECURITY;
    ALTER TABLE command_event FORCE ROW LEVEL SECURITY;
    CREATE POLICY worker_all ON command_event TO gw_worker USING (true) WITH CHECK (true);
    CREATE POLICY app_scope ON command_event TO gw_app USING (EXISTS (SELECT FROM command c WHERE c.id = command_id));
END $$;

GRANT SELECT, INSERT, UPDATE ON command, command_lock TO gw_app, gw_worker;
GRANT SELECT, INSERT ON command_event TO gw_app, gw_worker;
GRANT SELECT, INSERT, UPDATE ON command_counter TO gw_worker;
