-- Scenes as they were, and scenes tried on recordings before they are live.
CREATE TABLE camera_scene (
    device_id uuid NOT NULL REFERENCES device ON DELETE CASCADE,
    version int NOT NULL,
    scene jsonb NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (device_id, version)
);

CREATE TABLE rehearsal (
    id uuid PRIMARY KEY,
    device_id uuid NOT NULL REFERENCES device ON DELETE CASCADE,
    scene jsonb NOT NULL,
    minutes int NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    attempts int NOT NULL DEFAULT 0,
    heard_at timestamptz,            -- the worker's last sign of life; too old: another takes it up again
    progress double precision NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    seconds double precision NOT NULL DEFAULT 0,     -- of recordings gone through
    looks int NOT NULL DEFAULT 0,
    findings jsonb NOT NULL DEFAULT '[]',
    error text,                      -- a stable code
    ended_at timestamptz
);
CREATE INDEX rehearsal_open ON rehearsal (requested_at) WHERE state IN ('waiting', 'running');
CREATE INDEX ON rehearsal (device_id, requested_at DESC);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['camera_scene', 'rehearsal'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY app_scope ON %I TO gw_app USING (EXISTS (SELECT FROM device d WHERE d.id = device_id))', t);
    END LOOP;
END $$;

GRANT SELECT, INSERT ON camera_scene TO gw_app;
GRANT SELECT, INSERT, DELETE ON rehearsal TO gw_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON rehearsal, camera_scene TO gw_worker;
