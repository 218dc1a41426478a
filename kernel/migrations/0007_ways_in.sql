-- Ways in: mappings of vendors' own JSON, who speaks by which outside number, stations of SL 651, calls by ThingsBoard's topics.

CREATE TABLE mapping (               -- versions of a mapping; the highest is the one in force
    id uuid NOT NULL,
    version int NOT NULL CHECK (version > 0),
    name text NOT NULL,
    kind text NOT NULL,
    document jsonb NOT NULL,         -- ingest.mapping.Mapping
    created_at timestamptz NOT NULL,
    created_by text NOT NULL DEFAULT '',
    PRIMARY KEY (id, version)
);
CREATE UNIQUE INDEX mapping_name ON mapping (name) WHERE version = 1;   -- a new version keeps the name

CREATE TABLE device_mapping (        -- a device that sends its vendor's own JSON
    device_id uuid PRIMARY KEY REFERENCES device ON DELETE CASCADE,
    mapping_id uuid NOT NULL,
    changed_at timestamptz NOT NULL
);

CREATE TABLE device_binding (        -- the number under which another platform knows a device, such as an IMEI
    way text NOT NULL,
    external_id text NOT NULL,
    device_id uuid NOT NULL REFERENCES device ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (way, external_id)
);
CREATE INDEX device_binding_device ON device_binding (device_id);

CREATE TABLE station (               -- telemetry station (遥测站) of SL 651
    address text PRIMARY KEY CHECK (address ~ '^[0-9A-F]{10}$'),
    device_id uuid NOT NULL REFERENCES device ON DELETE CASCADE,
    password text NOT NULL CHECK (password ~ '^[0-9A-F]{4}$'),  -- 16 bits, in every frame in the clear: the standard has no better
    level_base_m double precision NOT NULL DEFAULT 0,           -- what relative levels of hourly reports are relative to
    created_at timestamptz NOT NULL
);
CREATE INDEX station_device ON station (device_id);

CREATE TABLE device_attribute (      -- what a device says of itself by ThingsBoard's attribute topics
    device_id uuid NOT NULL REFERENCES device ON DELETE CASCADE,
    name text NOT NULL,
    value jsonb NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (device_id, name)
);

CREATE TABLE rpc_call (              -- a command handed to a device that cannot tell a repeat: once, or not at all
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id uuid NOT NULL REFERENCES device ON DELETE CASCADE,
    command_id text NOT NULL,
    nonce text NOT NULL DEFAULT '',
    called_at timestamptz NOT NULL,
    answered_at timestamptz,
    UNIQUE (device_id, command_id)
);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['device_mapping', 'device_binding', 'station', 'device_attribute', 'rpc_call'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY app_scope ON %I TO gw_app USING (EXISTS (SELECT FROM device d WHERE d.id = device_id))', t);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO gw_worker', t);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON device_mapping, device_binding, station TO gw_app;
GRANT SELECT ON device_attribute TO gw_app;
GRANT SELECT, INSERT ON mapping TO gw_app, gw_worker;
