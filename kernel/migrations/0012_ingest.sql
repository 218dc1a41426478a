-- Taking messages in: what the hot path needs.

-- How far the device's own clock is off: {"offset_s", "window_at", "least_s", "before_s"}, see devices/skew.py. The column
-- beside it is what everybody else reads: seconds behind ours, negative when ahead, null while nothing is known.
ALTER TABLE device_state ADD COLUMN clock jsonb NOT NULL DEFAULT '{}';
ALTER TABLE device_state ADD COLUMN clock_offset_s double precision
    GENERATED ALWAYS AS ((clock ->> 'offset_s')::double precision) STORED;

-- Only housekeeping asks for messages by age, and they come in that order: block ranges say it in a thousandth of the
-- space, and taking a message in writes one index entry less.
DROP INDEX device_message_received_at_idx;
CREATE INDEX device_message_received ON device_message USING brin (received_at);

-- How far each ingest process (by its slot) has caught up with what waits for it in the broker.
CREATE TABLE ingest_slot (
    slot int PRIMARY KEY,
    caught_up_at timestamptz,        -- what came to the broker before is committed; null: not known yet
    noted_at timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON ingest_slot TO gw_worker;
