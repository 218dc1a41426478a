-- Registry, credentials, audit of refusals.
ALTER TABLE device ADD COLUMN parent_id uuid REFERENCES device;  -- the gateway it hangs on
CREATE INDEX device_parent ON device (parent_id) WHERE parent_id IS NOT NULL;
ALTER TABLE device
    ADD COLUMN component_code text NOT NULL DEFAULT '',     -- the managed component (部件) it is or hangs on
    ADD COLUMN owner_unit text NOT NULL DEFAULT '',         -- 权属单位
    ADD COLUMN competent_unit text NOT NULL DEFAULT '',     -- 主管部门
    ADD COLUMN maintenance_unit text NOT NULL DEFAULT '',   -- 养护单位
    ADD COLUMN maker text NOT NULL DEFAULT '',
    ADD COLUMN model text NOT NULL DEFAULT '',
    ADD COLUMN serial text NOT NULL DEFAULT '',
    ADD COLUMN firmware text NOT NULL DEFAULT '',           -- what the device says of itself, until then what was registered
    ADD COLUMN building text NOT NULL DEFAULT '',
    ADD COLUMN floor text NOT NULL DEFAULT '',
    ADD COLUMN household text NOT NULL DEFAULT '',
    ADD COLUMN source_lon double precision,                 -- the position as it was given, in source_crs
    ADD COLUMN source_lat double precision;

-- A device's (or gateway's) log-ins at the broker and at the other ways in. The key itself is nowhere: it is drawn at random
-- (more than 160 bits) and shown once.
CREATE TABLE device_credential (
    device_id uuid NOT NULL REFERENCES device ON DELETE CASCADE,
    number int NOT NULL CHECK (number > 0),
    username text NOT NULL UNIQUE,   -- the device's code, for later keys <code>@<number>
    iterations int NOT NULL,         -- of PBKDF2-HMAC-SHA512, as brokers check it
    salt text NOT NULL,
    hash bytea NOT NULL,
    key_digest bytea NOT NULL UNIQUE,  -- SHA-256 of the key: finds the log-in of a key that comes without a name
    created_at timestamptz NOT NULL,
    valid_until timestamptz,         -- null: until revoked
    revoked_at timestamptz,
    PRIMARY KEY (device_id, number)
);
ALTER TABLE device_credential ENABLE ROW LEVEL SECURITY;
ALTER TABLE device_credential FORCE ROW LEVEL SECURITY;
CREATE POLICY worker_all ON device_credential TO gw_worker USING (true) WITH CHECK (true);
CREATE POLICY app_scope ON device_credential TO gw_app USING (EXISTS (SELECT FROM device d WHERE d.id = device_id));
-- The views below read as their owner, who is under the policies too (FORCE) unless a superuser.
CREATE POLICY owner_reads ON device_credential FOR SELECT TO CURRENT_USER USING (true);
CREATE POLICY owner_reads ON device FOR SELECT TO CURRENT_USER USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON device_credential TO gw_worker;
GRANT SELECT, INSERT, UPDATE ON device_credential TO gw_app;

-- Says that log-ins or their rights changed, so that brokers' files are written anew. Rows, not a counter: writers never
-- wait for each other, and a row appears when its transaction is committed, never before.
CREATE TABLE access_change (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE FUNCTION gw_note_access_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO access_change DEFAULT VALUES;
    RETURN NULL;
END $$;
CREATE TRIGGER access_changed AFTER INSERT OR UPDATE OR DELETE ON device_credential
    FOR EACH STATEMENT EXECUTE FUNCTION gw_note_access_change();
CREATE TRIGGER access_changed AFTER INSERT OR DELETE OR UPDATE OF code, kind, parent_id, enabled ON device
    FOR EACH STATEMENT EXECUTE FUNCTION gw_note_access_change();
GRANT SELECT, DELETE ON access_change TO gw_worker;

-- For a broker that asks the database itself (EMQX): who may log in, and what each may write and read. Such a broker's own
-- role is granted these two and nothing else (deploy/emqx). Only here the database's own clock judges an end: the
-- asking broker has no other.
CREATE VIEW mqtt_login WITH (security_barrier) AS
    SELECT c.username, encode(c.hash, 'hex') AS password_hash, c.salt
    FROM device_credential c JOIN device d ON d.id = c.device_id
    WHERE d.enabled AND c.revoked_at IS NULL AND (c.valid_until IS NULL OR c.valid_until > statement_timestamp());

CREATE VIEW mqtt_permission WITH (security_barrier) AS
    SELECT c.username, 'allow' AS permission, t.action, 'gridwarden/' || w.kind || '/' || w.code || '/' || t.topic AS topic
    FROM device_credential c
    JOIN device d ON d.id = c.device_id
    JOIN device w ON w.id = d.id OR w.parent_id = d.id
    CROSS JOIN (VALUES ('publish', 'telemetry'), ('publish', 'event'), ('publish', 'state'), ('publish', 'reply'),
                       ('publish', 'raw'),
                       ('subscribe', 'receipt'), ('subscribe', 'command')) AS t (action, topic)
    WHERE d.enabled AND c.revoked_at IS NULL AND (c.valid_until IS NULL OR c.valid_until > statement_timestamp());
