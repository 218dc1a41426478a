-- While a device is put through its acceptance test, its first receipt of each message is withheld, so that it must repeat.
ALTER TABLE device ADD COLUMN certify_until timestamptz;
