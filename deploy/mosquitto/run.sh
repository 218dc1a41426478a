#!/bin/sh
# Starts Mosquitto when its files of log-ins are there, and has it read them anew whenever they change. The files are
# copied first: Mosquitto drops to its own account, which may not read the platform's.
set -eu
from=/access-from-platform to=/mosquitto/access
mkdir -p "$to"
fetch() {
    [ -s "$from/passwords" ] && [ -s "$from/acl" ] || return 1
    cmp -s "$from/passwords" "$to/passwords" && cmp -s "$from/acl" "$to/acl" && return 1
    cp "$from/passwords" "$to/.passwords" && cp "$from/acl" "$to/.acl"
    chown mosquitto "$to/.passwords" "$to/.acl" && chmod 0600 "$to/.passwords" "$to/.acl"
    mv "$to/.passwords" "$to/passwords" && mv "$to/.acl" "$to/acl"
}
until fetch || [ -s "$to/acl" ]; do sleep 1; done
mosquitto -c /mosquitto/config/mosquitto.conf &
broker=$!
trap 'kill -TERM "$broker"' TERM INT
sleep 2
while kill -0 "$broker" 2>/dev/null; do
    if fetch; then kill -HUP "$broker"; fi
    sleep 2 & wait $! || true
done
wait "$broker"
