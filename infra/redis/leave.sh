#!/bin/sh
# Before a pod goes: a master hands over, and nobody waits until Sentinel has missed it. Variables as in start.sh.
set -eu
port=${SELF#* }
role() { redis-cli -p "$port" role | head -n 1; }
sentinel() { redis-cli -p "$SENTINEL_PORT" sentinel "$@" mymaster; }
# Within the pod's grace period, which leaves Redis the rest to save.
for _ in $(seq 45); do
  [ "$(role)" = master ] || exit 0
  # Sentinel declines while it has not just heard of a replica, and gives up one that does not answer: it is asked until it names
  # another master, and never after that, as it would take the mastership from that one.
  [ "$(sentinel get-master-addr-by-name | paste -s -d ' ' -)" != "$SELF" ] || sentinel failover
  sleep 1
done
echo "still master after 45 seconds" >&2
exit 1
