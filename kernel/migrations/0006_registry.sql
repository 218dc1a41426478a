-- Registry, credentials, audit of refusals.
ALTER TABLE device ADD COLUMN parent_id uuid REFERENCES device;  -- the gateway it hangs on
CREATE INDEX device_parent ON device (parent_id) WHERE parent_id IS NOT NULL;
