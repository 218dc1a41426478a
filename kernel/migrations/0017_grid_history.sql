-- The grid with dates: what is valid now stays in area, grid_cell and component, which everything reads; what was valid
-- before is kept beside it, so that last year's case keeps last year's grid. And who is competent for what.

ALTER TABLE area ADD COLUMN valid_from timestamptz;
ALTER TABLE grid_cell ADD COLUMN valid_from timestamptz;
ALTER TABLE component ADD COLUMN valid_from timestamptz, ADD COLUMN imported_at timestamptz;
UPDATE area SET valid_from = imported_at;
UPDATE grid_cell SET valid_from = imported_at;
-- When a component was imported was not kept: the instant of the oldest cell, or the beginning of what is known.
UPDATE component SET valid_from = coalesce((SELECT min(imported_at) FROM grid_cell), timestamptz '2000-01-01 00:00+00');
UPDATE component SET imported_at = valid_from;
ALTER TABLE area ALTER COLUMN valid_from SET NOT NULL;
ALTER TABLE grid_cell ALTER COLUMN valid_from SET NOT NULL;
ALTER TABLE component ALTER COLUMN valid_from SET NOT NULL, ALTER COLUMN imported_at SET NOT NULL;

CREATE TABLE area_past (
    code text NOT NULL,
    id uuid NOT NULL,                -- that of the row as it stood in `area`
    level text NOT NULL,
    name text NOT NULL,
    parent_code text,
    geom_wkb bytea NOT NULL,
    source_crs text NOT NULL,
    imported_at timestamptz NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_until timestamptz NOT NULL CHECK (valid_until > valid_from),
    PRIMARY KEY (code, valid_from)
);
CREATE TABLE grid_cell_past (
    code text NOT NULL,
    id uuid NOT NULL,
    responsibility_grid_code text,
    lon double precision NOT NULL,
    lat double precision NOT NULL,
    geom_wkb bytea NOT NULL,
    source_crs text NOT NULL,
    imported_at timestamptz NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_until timestamptz NOT NULL CHECK (valid_until > valid_from),
    PRIMARY KEY (code, valid_from)
);
CREATE TABLE component_past (
    standard text NOT NULL,
    kind text NOT NULL,
    code text NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    cell_code text,
    lon double precision NOT NULL,
    lat double precision NOT NULL,
    source_crs text NOT NULL,
    properties jsonb NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_until timestamptz NOT NULL CHECK (valid_until > valid_from),
    PRIMARY KEY (standard, kind, code, valid_from)
);
CREATE INDEX area_past_until ON area_past (valid_until);
CREATE INDEX grid_cell_past_until ON grid_cell_past (valid_until);
CREATE INDEX component_past_until ON component_past (valid_until);

-- Like the present ones, these are maps of the city and no case data: everybody who may sign in may see them.
GRANT SELECT, INSERT, UPDATE, DELETE ON area_past, grid_cell_past, component_past TO gw_worker;
GRANT SELECT ON area_past, grid_cell_past, component_past TO gw_app;

CREATE FUNCTION gw_area_name(wanted text, instant timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
    -- What an area was called at an instant; what it is called now where nothing is kept of then.
    SELECT name FROM (
        SELECT name, 1 AS choice, valid_from FROM area WHERE code = wanted AND valid_from <= instant
        UNION ALL
        SELECT name, 2, valid_from FROM area_past WHERE code = wanted AND valid_from <= instant AND valid_until > instant
        UNION ALL
        SELECT name, 3, valid_from FROM area WHERE code = wanted
        UNION ALL
        SELECT name, 4, valid_from FROM area_past WHERE code = wanted
    ) AS known ORDER BY choice, valid_from DESC LIMIT 1
$$;
CREATE FUNCTION gw_cell_grid(wanted text, instant timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
    -- The responsibility grid a cell belonged to at an instant, likewise.
    SELECT responsibility_grid_code FROM (
        SELECT responsibility_grid_code, 1 AS choice, valid_from FROM grid_cell WHERE code = wanted AND valid_from <= instant
        UNION ALL
        SELECT responsibility_grid_code, 2, valid_from FROM grid_cell_past
            WHERE code = wanted AND valid_from <= instant AND valid_until > instant
        UNION ALL
        SELECT responsibility_grid_code, 3, valid_from FROM grid_cell WHERE code = wanted
        UNION ALL
        SELECT responsibility_grid_code, 4, valid_from FROM grid_cell_past WHERE code = wanted
    ) AS known ORDER BY choice, valid_from DESC LIMIT 1
$$;

-- Who is competent (主管部门) and who handles (专业部门). '' in a condition: any. The most particular rule that fits
-- decides; two of the same weight that differ leave it unclear, and then the street where it lies has it (grid/duty.py).
CREATE TABLE duty_rule (
    id uuid PRIMARY KEY,
    category text NOT NULL DEFAULT '',        -- category.id
    component_kind text NOT NULL DEFAULT '',  -- class of component, by GB/T 30428.2 or GB/T 47678.5
    place_prefix text NOT NULL DEFAULT '',    -- division code or its beginning, of a cell's code
    surface text NOT NULL DEFAULT '',         -- layer that the place lies in: carriageway, pavement, water, green, …
    owner text NOT NULL DEFAULT '',           -- words of the name of the owner of component or ground (权属单位)
    competent_dept text NOT NULL,
    handling_dept text NOT NULL,
    source text NOT NULL,                     -- where the rule comes from, said openly
    changed_at timestamptz NOT NULL,
    UNIQUE (category, component_kind, place_prefix, surface, owner)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON duty_rule TO gw_worker;
GRANT SELECT ON duty_rule TO gw_app;

-- A default for a city like Hangzhou, to be edited: `gridwarden grid duty-export`, change, `gridwarden grid duty-import`.
-- What has no rule here is the street's.
INSERT INTO duty_rule (id, category, component_kind, place_prefix, surface, owner, competent_dept, handling_dept, source, changed_at)
SELECT v.*, '示例数据：按城市管理常见分工整理，未取自任何官方职责清单，启用前须由本地核改 (example data after the usual division of duties, not from an official list; to be checked and changed before use)', timestamptz '2026-01-01 00:00+00'
FROM (VALUES
    (gen_random_uuid(), 'illegal_parking', '', '', 'pavement', '', '区城市管理局', '区城市管理局执法队'),
    (gen_random_uuid(), 'illegal_parking', '', '', 'road', '', '公安交警大队', '公安交警大队'),
    (gen_random_uuid(), 'illegal_parking', '', '', 'parking_lot', '', '区城市管理局', '停车场管理单位'),
    (gen_random_uuid(), 'illegal_parking', '', '', '', '物业', '属地街道办事处', '物业服务企业'),
    (gen_random_uuid(), 'bikes_misparked', '', '', '', '', '区城市管理局', '区城市管理局执法队'),
    (gen_random_uuid(), 'fire_lane_blocked', '', '', '', '', '区消防救援大队', '区消防救援大队'),
    (gen_random_uuid(), 'exposed_garbage', '', '', '', '', '区城市管理局', '环卫保洁作业单位'),
    (gen_random_uuid(), 'exposed_garbage', '', '', 'water', '', '区城市管理局', '河道保洁作业单位'),
    (gen_random_uuid(), 'exposed_garbage', '', '', '', '物业', '属地街道办事处', '物业服务企业'),
    (gen_random_uuid(), 'accumulated_refuse', '', '', '', '', '区城市管理局', '环卫保洁作业单位'),
    (gen_random_uuid(), 'dirty_road', '', '', '', '', '区城市管理局', '环卫保洁作业单位'),
    (gen_random_uuid(), 'bin_overflow', '', '', '', '', '区城市管理局', '环卫保洁作业单位'),
    (gen_random_uuid(), 'bin_overflow', '', '', '', '物业', '属地街道办事处', '物业服务企业'),
    (gen_random_uuid(), 'damaged_road', '', '', '', '', '区城市管理局', '市政养护单位'),
    (gen_random_uuid(), 'road_collapse', '', '', '', '', '区城市管理局', '市政养护单位'),
    (gen_random_uuid(), 'dirty_water', '', '', '', '', '区城市管理局', '河道保洁作业单位'),
    (gen_random_uuid(), 'river_pollution', '', '', '', '', '区生态环境分局', '区生态环境分局'),
    (gen_random_uuid(), 'river_occupied', '', '', '', '', '区水务主管部门', '区水务主管部门'),
    (gen_random_uuid(), 'river_level', '', '', '', '', '区水务主管部门', '闸站管理单位'),
    (gen_random_uuid(), 'unlicensed_vendor', '', '', '', '', '区城市管理局', '区城市管理局执法队'),
    (gen_random_uuid(), 'trading_outside_shop', '', '', '', '', '区城市管理局', '区城市管理局执法队'),
    (gen_random_uuid(), 'trading_on_road', '', '', '', '', '区城市管理局', '区城市管理局执法队'),
    (gen_random_uuid(), 'illegal_bills', '', '', '', '', '区城市管理局', '环卫保洁作业单位'),
    (gen_random_uuid(), 'illegal_hoarding', '', '', '', '', '区城市管理局', '区城市管理局执法队'),
    (gen_random_uuid(), 'unauthorised_building', '', '', '', '', '区城市管理局', '区城市管理局执法队'),
    (gen_random_uuid(), 'site_dust', '', '', '', '', '区住房和城乡建设局', '建设工程施工单位'),
    (gen_random_uuid(), 'site_disturbance', '', '', '', '', '区城市管理局', '区城市管理局执法队'),
    (gen_random_uuid(), 'site_occupying_road', '', '', '', '', '区城市管理局', '建设工程施工单位'),
    (gen_random_uuid(), 'snow_ice', '', '', '', '', '区城市管理局', '环卫保洁作业单位'),
    (gen_random_uuid(), 'smoke', '', '', '', '', '区消防救援大队', '区消防救援大队'),
    (gen_random_uuid(), 'crowding', '', '', '', '', '属地公安派出所', '属地公安派出所'),
    (gen_random_uuid(), 'gate_fault', '', '', '', '', '区城市管理局', '停车场管理单位')
) AS v;
