-- What is known about a camera beside its address: its second stream, its maker's and the national platform's names for it.
ALTER TABLE camera
    ADD COLUMN substream_url text NOT NULL DEFAULT '',      -- a smaller stream of the same picture; may hold a password
    ADD COLUMN onvif_profile text NOT NULL DEFAULT '',      -- ONVIF media profile token
    ADD COLUMN onvif_address text NOT NULL DEFAULT '',      -- ONVIF device service, without user and password
    ADD COLUMN ptz boolean NOT NULL DEFAULT false,
    ADD COLUMN gb_device_id text NOT NULL DEFAULT '' CHECK (gb_device_id ~ '^([0-9]{20})?$'),    -- GB/T 28181
    ADD COLUMN gb_channel_id text NOT NULL DEFAULT '' CHECK (gb_channel_id ~ '^([0-9]{20})?$'),
    ADD COLUMN platform text NOT NULL DEFAULT '',           -- where it was imported from, without user and password
    ADD COLUMN encoder jsonb NOT NULL DEFAULT '{}',         -- as seen: {"main": {"codec", "width", "height", "seen_at"}, "sub": …}
    ADD COLUMN scene_version int NOT NULL DEFAULT 1,
    ADD COLUMN view_confirmed_at timestamptz;               -- somebody said that the view as it was then is the right one
CREATE INDEX camera_gb ON camera (gb_channel_id) WHERE gb_channel_id <> '';
