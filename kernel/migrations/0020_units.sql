-- Who handles and who goes: handling units with their people, what a person can do and has with them, rosters with breaks,
-- and how many must stay in an area.

CREATE FUNCTION gw_serves(scope text) RETURNS boolean LANGUAGE sql STABLE AS $$
    -- Whether a scope ('*' or division-code prefixes) and the transaction's have an area in common. Unset means no rows.
    SELECT current_setting('gw.scope', true) = '*'
        OR nullif(current_setting('gw.scope', true), '') IS NOT NULL AND (scope = '*' OR EXISTS (
            SELECT FROM unnest(string_to_array(scope, ',')) p,
                        unnest(string_to_array(nullif(current_setting('gw.scope', true), ''), ',')) q
            WHERE p <> '' AND q <> '' AND (p ^@ q OR q ^@ p)))
$$;

CREATE TABLE unit (                  -- 专业部门, contractor, property company (物业), a team of volunteers or of enforcement
    id uuid PRIMARY KEY,
    code text NOT NULL UNIQUE,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('department', 'contractor', 'property', 'volunteers', 'enforcement')),
    scope text NOT NULL,             -- '*' or division-code prefixes: where it handles
    assigns_itself boolean NOT NULL DEFAULT false,   -- what it accepted is given to its people by the plan
    disabled boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL
);

CREATE TABLE unit_member (
    unit_id uuid NOT NULL REFERENCES unit ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    leads boolean NOT NULL DEFAULT false,    -- answers for the unit and sends its crew
    PRIMARY KEY (unit_id, user_id)
);
CREATE INDEX ON unit_member (user_id);

CREATE TABLE staff_profile (         -- nobody needs one: without it a person walks and has no special skill
    user_id uuid PRIMARY KEY REFERENCES app_user ON DELETE CASCADE,
    means text NOT NULL DEFAULT 'foot' CHECK (means IN ('foot', 'bicycle', 'ebike', 'car')),
    skills text[] NOT NULL DEFAULT '{}',
    equipment text[] NOT NULL DEFAULT '{}'
);

CREATE TABLE category_need (         -- what whoever goes must know and have, and how many must go
    category text PRIMARY KEY REFERENCES category,
    skills text[] NOT NULL DEFAULT '{}',
    equipment text[] NOT NULL DEFAULT '{}',
    people int NOT NULL DEFAULT 1 CHECK (people BETWEEN 1 AND 20)
);

CREATE TABLE shift (                 -- who has any is sent within them only; who has none goes by being on duty
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    breaks tstzmultirange NOT NULL DEFAULT '{}',
    CHECK (ends_at > starts_at),
    UNIQUE (user_id, starts_at)
);
CREATE INDEX ON shift (ends_at);

CREATE TABLE area_cover (            -- so many on duty stay in the community, but for what is urgent
    area_code text PRIMARY KEY,      -- 12 digits
    minimum int NOT NULL CHECK (minimum >= 0)
);

ALTER TABLE incident ADD COLUMN unit_id uuid REFERENCES unit;        -- the unit that handles it, if one does
ALTER TABLE incident ADD COLUMN unit_state text                      -- how far the unit is with it
    CHECK (unit_state IN ('asked', 'accepted', 'refused'));
ALTER TABLE incident ADD COLUMN unit_asked_at timestamptz;
CREATE INDEX ON incident (unit_id) WHERE unit_id IS NOT NULL AND state NOT IN ('closed', 'void');
CREATE INDEX ON assignment (user_id, offered_at);
CREATE INDEX ON incident_event (at, actor_id) WHERE action = 'handle';

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['unit', 'unit_member', 'staff_profile', 'shift', 'area_cover'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
    END LOOP;
    CREATE POLICY app_scope ON unit TO gw_app USING (gw_serves(scope));
    CREATE POLICY app_scope ON unit_member TO gw_app USING (EXISTS (SELECT FROM unit u WHERE u.id = unit_id));
    CREATE POLICY app_scope ON area_cover TO gw_app USING (gw_in_scope(area_code));
    FOREACH t IN ARRAY ARRAY['staff_profile', 'shift'] LOOP
        EXECUTE format('CREATE POLICY app_scope ON %I TO gw_app USING (EXISTS '
            '(SELECT FROM app_user u WHERE u.id = user_id AND gw_serves(u.scope)))', t);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON unit, unit_member, staff_profile, category_need, shift, area_cover TO gw_worker;
GRANT SELECT ON unit, unit_member, staff_profile, category_need, shift, area_cover TO gw_app;
