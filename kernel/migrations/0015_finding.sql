-- Findings: evidence that is masked, with its original apart; clips; what becomes of a finding after it was raised;
-- operators' judgements; who opened what; how long things are kept.
ALTER TABLE evidence
    ADD COLUMN masked boolean NOT NULL DEFAULT false,  -- heads and plates are covered in the file
    ADD COLUMN deleted_at timestamptz;                 -- its files went by rule; the row stays, with its hash
CREATE INDEX evidence_kept ON evidence (taken_at) WHERE deleted_at IS NULL;
CREATE INDEX report_evidence ON report USING gin (evidence_ids);  -- whose picture is this?
CREATE INDEX check_request_evidence ON check_request (evidence_id) WHERE evidence_id IS NOT NULL;
CREATE INDEX incident_cover ON incident (cover_id) WHERE cover_id IS NOT NULL;
-- How long clips, originals and recordings of this camera are kept; null: evidence.video_days.
ALTER TABLE camera ADD COLUMN evidence_days int CHECK (evidence_days BETWEEN 1 AND 3650);

CREATE TABLE evidence_original (     -- the picture or clip without masks; nothing but unmasking and exports open it
    evidence_id uuid PRIMARY KEY REFERENCES evidence ON DELETE CASCADE,
    path text NOT NULL,              -- below the folder of originals
    sha256 bytea NOT NULL,
    mime text NOT NULL,
    width int NOT NULL,
    height int NOT NULL,
    masks jsonb NOT NULL DEFAULT '[]',  -- what was covered: boxes, 0..1 of the picture
    kept_at timestamptz NOT NULL
);

CREATE TABLE evidence_opening (      -- an original opened by somebody: once, within a minute, for a reason
    token_hash bytea PRIMARY KEY,    -- SHA-256 of the address' secret part
    evidence_id uuid NOT NULL REFERENCES evidence ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES app_user ON DELETE CASCADE,
    reason text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    opened_at timestamptz
);

CREATE TABLE clip (                  -- its id becomes the id of its evidence
    id uuid PRIMARY KEY,
    report_id uuid NOT NULL REFERENCES report ON DELETE CASCADE,
    device_id uuid NOT NULL REFERENCES device ON DELETE CASCADE,
    state text NOT NULL CHECK (state IN ('wanted', 'cut', 'saved', 'failed')),  -- cut: on disk, not yet masked
    error text NOT NULL DEFAULT '',  -- stable code of why there is none
    path text NOT NULL,              -- of the original, below its folder
    from_at timestamptz NOT NULL,
    until_at timestamptz NOT NULL,
    asked_at timestamptz NOT NULL,
    claimed_at timestamptz,          -- somebody is masking it since then
    ended_at timestamptz
);
CREATE INDEX clip_open ON clip (asked_at) WHERE state IN ('wanted', 'cut');

CREATE TABLE report_update (         -- what became of a report: told to its incident, never pushed
    id uuid PRIMARY KEY,
    report_id uuid NOT NULL REFERENCES report ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('grew', 'latest', 'cleared', 'back', 'clip')),
    at timestamptz NOT NULL,
    severity int,
    evidence_id uuid,
    detail jsonb NOT NULL DEFAULT '{}',
    taken_at timestamptz             -- dispatch has told the incident
);
CREATE INDEX report_update_waiting ON report_update (id) WHERE taken_at IS NULL;

CREATE TABLE finding_judgement (     -- one for each finding, the newest; earlier ones are in the audit
    report_id uuid PRIMARY KEY REFERENCES report ON DELETE CASCADE,
    is_right boolean NOT NULL,
    why text NOT NULL,
    note text NOT NULL DEFAULT '',
    judged_by uuid REFERENCES app_user,
    judge text NOT NULL,             -- the person's name then
    judged_at timestamptz NOT NULL
);
CREATE INDEX report_finding ON report (id) WHERE source = 'camera' AND rule <> '';

CREATE TABLE evidence_hold (         -- an appeal, a lawsuit: nothing of this incident is deleted until then
    incident_id uuid PRIMARY KEY REFERENCES incident,
    reason text NOT NULL,
    placed_by text NOT NULL,
    placed_at timestamptz NOT NULL,
    until_at timestamptz             -- null: until lifted
);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['clip', 'report_update', 'finding_judgement'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
        EXECUTE format('CREATE POLICY app_scope ON %I TO gw_app USING (EXISTS (SELECT FROM report r WHERE r.id = report_id))', t);
    END LOOP;
    ALTER TABLE evidence_hold ENABLE ROW LEVEL SECURITY;
    ALTER TABLE evidence_hold FORCE ROW LEVEL SECURITY;
    CREATE POLICY worker_all ON evidence_hold TO gw_worker USING (true) WITH CHECK (true);
    CREATE POLICY app_scope ON evidence_hold TO gw_app USING (EXISTS (SELECT FROM incident i WHERE i.id = incident_id));
    -- Where originals lie and who opened them is for the worker alone: gw_app has no grant at all.
    FOREACH t IN ARRAY ARRAY['evidence_original', 'evidence_opening'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY worker_all ON %I TO gw_worker USING (true) WITH CHECK (true)', t);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE
    ON clip, report_update, finding_judgement, evidence_hold, evidence_original, evidence_opening TO gw_worker;
GRANT SELECT ON clip, report_update, evidence_hold TO gw_app;
GRANT SELECT, INSERT, UPDATE ON finding_judgement TO gw_app;

-- A dirty road that a camera reported can be looked at again by that camera.
UPDATE category SET check_kinds = '{camera,person}' WHERE id = 'dirty_road';
