-- requires: 012_budget_metrics
-- `findings` hold what is wrong by the limits below: a problem wants somebody now, a warning some day soon. What the code has to be asked
-- for, drift and whether the revision is the newest, make db-health adds. A role that is not in pg_monitor sees no transaction of others.
CREATE OR REPLACE FUNCTION ops.health()
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH tables AS (
    SELECT c.oid::regclass::text AS name, pg_total_relation_size(c.oid) AS bytes, pg_indexes_size(c.oid) AS index_bytes,
           coalesce(s.n_live_tup, 0) AS live, coalesce(s.n_dead_tup, 0) AS dead,
           greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed_at, greatest(s.last_analyze, s.last_autoanalyze) AS analyzed_at
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_stat_all_tables AS s ON s.relid = c.oid
    WHERE c.relkind = 'r' AND pg_get_userbyid(n.nspowner) = 'ea_owner'
  ), invalid AS (
    SELECT i.indexrelid::regclass::text AS name
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE NOT i.indisvalid AND pg_get_userbyid(n.nspowner) = 'ea_owner'
      AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS p WHERE p.index_relid = i.indexrelid)
  ), sessions AS (
    SELECT count(*) AS used, max(extract(epoch FROM now() - a.xact_start)) FILTER (WHERE a.pid <> pg_backend_pid()) AS longest,
           count(*) FILTER (WHERE a.state LIKE 'idle in transaction%' AND a.state_change < now() - interval '15 minutes') AS forgotten
    FROM pg_stat_activity AS a
    WHERE a.backend_type = 'client backend'
  ), outbox AS (
    SELECT count(*) AS depth, extract(epoch FROM now() - min(o.created_at)) AS age,
           extract(epoch FROM now() - min(o.available_at) FILTER (WHERE o.available_at <= now() AND o.leased_until <= now())) AS overdue
    FROM events.outbox AS o
  ), jobs AS (
    SELECT j.status, count(*) AS jobs, extract(epoch FROM now() - min(j.emitted_at)) AS age FROM inference.jobs AS j GROUP BY j.status
  ), queue AS (
    SELECT q.status, count(*) AS chunks, extract(epoch FROM now() - min(q.turn_at)) AS age FROM rag.embedding_queue AS q GROUP BY q.status
  ), slots AS (
    SELECT s.slot_name::text AS name, s.active,
           pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, s.restart_lsn)::bigint AS retained_bytes
    FROM pg_replication_slots AS s
  ), extensions AS (
    SELECT w.name, w.at_least, e.extversion AS version
    FROM (VALUES ('vector', '{0,7}'::integer[]), ('pg_trgm', '{1,6}')) AS w (name, at_least)
    LEFT JOIN pg_extension AS e ON e.extname = w.name
  ), totals AS (
    SELECT current_setting('server_version_num')::integer AS version, current_setting('max_connections')::integer
           - current_setting('superuser_reserved_connections')::integer AS connections,
           (SELECT age(d.datfrozenxid) FROM pg_database AS d WHERE d.datname = current_database()) AS transaction_ids,
           (SELECT d.checksum_failures FROM pg_stat_database AS d WHERE d.datname = current_database()) AS checksum_failures,
           (SELECT count(*) FROM events.dead_letters) AS dead_letters,
           to_char(now() + interval '1 month', 'YYYY_MM') AS next_month
  ), findings (severity, subject, told) AS (
    SELECT 'problem', 'server', format('PostgreSQL %s: 16 or later is needed', t.version / 10000) FROM totals AS t WHERE t.version < 160000
    UNION ALL
    SELECT 'problem', 'extensions', format('%s %s: %s or later is needed', e.name, coalesce(e.version, 'is missing'), array_to_string(e.at_least, '.'))
    FROM extensions AS e WHERE coalesce(string_to_array(regexp_replace(e.version, '[^0-9.].*', ''), '.')::integer[] < e.at_least, true)
    UNION ALL
    SELECT CASE WHEN s.used > 0.9 * t.connections THEN 'problem' ELSE 'warning' END, 'connections',
           format('%s of %s are used: put PgBouncer in front, lower pool_size, or raise max_connections', s.used, t.connections)
    FROM sessions AS s CROSS JOIN totals AS t WHERE s.used > 0.75 * t.connections
    UNION ALL
    SELECT 'warning', 'transactions', format('one has been open for %s minutes: nothing that died since is vacuumed', (s.longest / 60)::integer)
    FROM sessions AS s WHERE s.longest > 3600
    UNION ALL
    SELECT 'warning', 'transactions', format('%s sessions have been idle within a transaction for 15 minutes', s.forgotten)
    FROM sessions AS s WHERE s.forgotten > 0
    UNION ALL
    SELECT CASE WHEN t.transaction_ids > 1000000000 THEN 'problem' ELSE 'warning' END, 'transaction ids',
           format('the oldest is %s transactions old: vacuum, and end what holds it back', t.transaction_ids)
    FROM totals AS t WHERE t.transaction_ids > 500000000
    UNION ALL
    SELECT 'problem', 'checksums', format('%s pages were read that are damaged: restore from a backup', t.checksum_failures)
    FROM totals AS t WHERE t.checksum_failures > 0
    UNION ALL
    SELECT 'problem', 'indexes', format('%s is not valid, and every write pays for it: drop it, and build it again', i.name) FROM invalid AS i
    UNION ALL
    SELECT 'warning', 'tables', format('%s has %s dead rows of %s: make db-maintenance', t.name, t.dead, t.live + t.dead)
    FROM tables AS t WHERE t.dead > 50000 AND t.dead > 0.3 * (t.live + t.dead)
    UNION ALL
    SELECT 'warning', 'partitions', format('budget.ledger has none for %s: make db-maintenance', t.next_month)
    FROM totals AS t WHERE to_regclass('budget.ledger_' || t.next_month) IS NULL
    UNION ALL
    SELECT 'problem', 'outbox', format('an event has been due for %s minutes: is the relay alive, and the broker reached?', (o.overdue / 60)::integer)
    FROM outbox AS o WHERE o.overdue > 300
    UNION ALL
    SELECT 'warning', 'dead letters', format('%s wait for somebody to send them again or delete them: events.replay', t.dead_letters)
    FROM totals AS t WHERE t.dead_letters > 0
    UNION ALL
    SELECT 'problem', 'jobs', format('one has waited for %s minutes for a worker: is inference alive, and the sweeper?', (j.age / 60)::integer)
    FROM jobs AS j WHERE j.status = 'queued' AND j.age > 300
    UNION ALL
    SELECT 'warning', 'embedding queue', format('a chunk has waited for %s minutes: does the embedding endpoint answer?', (q.age / 60)::integer)
    FROM queue AS q WHERE q.status = 'waiting' AND q.age > 900
    UNION ALL
    SELECT 'warning', 'replication', format('slot %s is not read, and keeps %s MiB of WAL', s.name, s.retained_bytes / 1048576)
    FROM slots AS s WHERE NOT s.active AND s.retained_bytes > 1073741824
  )
  SELECT jsonb_build_object(
    'server', jsonb_build_object(
      'version', current_setting('server_version'), 'started_at', pg_postmaster_start_time(), 'in_recovery', pg_is_in_recovery(), 'now', now()),
    'database', jsonb_build_object(
      'name', current_database(), 'bytes', pg_database_size(current_database()), 'transaction_id_age', t.transaction_ids,
      'checksum_failures', t.checksum_failures),
    'extensions', (SELECT jsonb_object_agg(e.extname, e.extversion) FROM pg_extension AS e),
    'migration', jsonb_build_object('revision', (SELECT max(v.version_num) FROM public.alembic_version AS v)),
    'connections', jsonb_build_object('used', s.used, 'limit', t.connections),
    'transactions', jsonb_build_object('longest_seconds', coalesce(round(s.longest::numeric, 1), 0), 'idle_for_15_minutes', s.forgotten),
    'tables', (
      SELECT jsonb_agg(jsonb_build_object(
        'name', x.name, 'bytes', x.bytes, 'index_bytes', x.index_bytes, 'live_rows', x.live, 'dead_rows', x.dead,
        'vacuumed_at', x.vacuumed_at, 'analyzed_at', x.analyzed_at) ORDER BY x.bytes DESC, x.name)
      FROM tables AS x),
    'invalid_indexes', (SELECT coalesce(jsonb_agg(i.name), '[]') FROM invalid AS i),
    'outbox', jsonb_build_object('depth', o.depth, 'oldest_seconds', coalesce(round(o.age::numeric, 1), 0), 'overdue_seconds', coalesce(round(o.overdue::numeric, 1), 0)),
    'dead_letters', t.dead_letters,
    'jobs', (SELECT coalesce(jsonb_object_agg(j.status, j.jobs), '{}') FROM jobs AS j),
    'documents', (SELECT coalesce(jsonb_object_agg(d.status, d.documents), '{}') FROM (SELECT x.status, count(*) AS documents FROM rag.documents AS x GROUP BY 1) AS d),
    'embedding_queue', (SELECT coalesce(jsonb_object_agg(q.status, q.chunks), '{}') FROM queue AS q),
    'replication', jsonb_build_object(
      'standbys', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('name', r.application_name, 'state', r.state, 'lag_seconds', extract(epoch FROM r.replay_lag))), '[]')
        FROM pg_stat_replication AS r),
      'slots', (SELECT coalesce(jsonb_agg(to_jsonb(x)), '[]') FROM slots AS x)),
    'findings', (
      SELECT coalesce(jsonb_agg(jsonb_build_object('severity', f.severity, 'subject', f.subject, 'told', f.told) ORDER BY f.severity, f.subject, f.told), '[]')
      FROM findings AS f))
  FROM totals AS t CROSS JOIN sessions AS s CROSS JOIN outbox AS o
$$;

COMMENT ON FUNCTION ops.health() IS
  'The state of the database as one document: sizes, queues, connections, replication, and findings of {severity: problem or warning, subject, told}. make db-health prints it.';
GRANT EXECUTE ON FUNCTION ops.health() TO dba_readonly;
