#!/bin/sh
# Starts one Redis, or the Sentinel beside it: start.sh redis | sentinel. Three of each watch each other; whoever is master is theirs
# to say. Both remember it in their own files under DATA, so that a restart asks nobody; here is only said how it begins.
#   SELF           this pod's name and port:     redis-1.redis-headless 6379
#   FIRST          who is master at the very first start
#   SENTINEL_PORT  where Sentinel listens:       26379
#   REDISCLI_AUTH  the password of all of them, which redis-cli reads as well
#   DATA, CONF     what is written, and the folder of redis.conf and sentinel.conf
set -eu
umask 077
host=${SELF% *} port=${SELF#* }
own=$DATA/$1.conf
# Passwords are not remembered: a new one takes effect with a restart.
remembered() { grep -v -E '^(user default|requirepass|masterauth|sentinel (auth|sentinel)-pass) ' "$own"; }
case $1 in
  redis)
    {
      if [ -e "$own" ]; then
        remembered
      else
        echo "replica-announce-ip $host"
        [ "$SELF" = "$FIRST" ] || echo "replicaof $FIRST"
      fi
      echo "requirepass $REDISCLI_AUTH"
      echo "masterauth $REDISCLI_AUTH"
    } >"$own.new"
    mv "$own.new" "$own"
    # Read last, so that it wins over what Redis has written.
    exec redis-server "$own" --port "$port" --dir "$DATA" --include "$CONF/redis.conf"
    ;;
  sentinel)
    {
      if [ -e "$own" ]; then
        remembered
      else
        cat "$CONF/sentinel.conf"
        echo "port $SENTINEL_PORT"
        echo "dir $DATA"
        echo "sentinel announce-ip $host"
        # Two of three must agree that the master is gone.
        echo "sentinel monitor mymaster $FIRST 2"
        echo "sentinel down-after-milliseconds mymaster ${DOWN_AFTER_MILLISECONDS:-5000}"
        echo "sentinel failover-timeout mymaster 30000"
        echo "sentinel parallel-syncs mymaster 1"
      fi
      echo "sentinel auth-pass mymaster $REDISCLI_AUTH"
      echo "requirepass $REDISCLI_AUTH"
      echo "sentinel sentinel-pass $REDISCLI_AUTH"
    } >"$own.new"
    mv "$own.new" "$own"
    exec redis-server "$own" --sentinel
    ;;
esac
