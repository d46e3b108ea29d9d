#!/bin/sh
# A backup as `make db-backup` makes it, where there is nothing but PostgreSQL's own programs: in the CronJob of
# infra/kubernetes/postgres. `make db-restore BACKUP_FILE=...` takes it back.
#   PGHOST, PGUSER, PGPASSWORD, PGDATABASE   the database, as the role that migrates
#   BACKUP_DIR                               where the files go
#   BACKUP_KEEP_DAYS                         older ones are deleted, once there is a newer one; default 14
set -eu
umask 077
final="$BACKUP_DIR/enterprise_agents_full_$(date -u +%Y%m%d_%H%M%S).dump"
part="$final.part"
trap 'rm -f "$part"' EXIT
# Of one whose pod was killed nobody else takes away what it had written, and it would fill the volume.
find "$BACKUP_DIR" -name 'enterprise_agents_full_*.dump.part' -mtime +0 -delete
pg_dump --format=custom --no-password --lock-wait-timeout=60s --file="$part"
# What has the name of a backup is complete, and can be read.
pg_restore --list "$part" | grep -q '^[0-9]'
ln "$part" "$final"
find "$BACKUP_DIR" -name 'enterprise_agents_full_*.dump' -mtime "+${BACKUP_KEEP_DAYS:-14}" ! -path "$final" -delete
echo "$final"
