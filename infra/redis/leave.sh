#!/bin/sh
# Before a pod goes: a master hands over, and nobody waits until Sentinel has missed it. Variables as in start.sh.
set -eu
port=${SELF#* }
role() { redis-cli -p "$port" role | head -n 1; }
[ "$(role)" = master ] || exit 0
redis-cli -p "$SENTINEL_PORT" sentinel failover mymaster
for _ in $(seq 20); do
  [ "$(role)" = master ] || exit 0
  sleep 1
done
