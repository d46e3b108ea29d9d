CREATE TABLE ops.settings (
  name text PRIMARY KEY,
  value text NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ops.settings IS 'Deployment variables that the logic reads: those set in the environment of a migration run, and defaults for those never set.';
COMMENT ON COLUMN ops.settings.name IS 'The variable''s name in lower case, for example token_budget_daily.';

CREATE TABLE ops.sql_history (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  file text NOT NULL,
  action text NOT NULL CHECK (action IN ('apply', 'drop', 'restore')),
  requires text NOT NULL,
  checksum text,
  body text,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  applied_by text NOT NULL DEFAULT session_user,
  CHECK ((action = 'drop') = (body IS NULL)),
  CHECK ((body IS NULL) = (checksum IS NULL))
);
CREATE INDEX sql_history_file ON ops.sql_history (file, id DESC);
COMMENT ON TABLE ops.sql_history IS 'Every version of every file of sql/ that this database has run, so that a downgrade can bring the older one back.';
COMMENT ON COLUMN ops.sql_history.file IS 'Path below sql/, for example chat/begin_turn.sql.';
COMMENT ON COLUMN ops.sql_history.requires IS 'The revision whose structure the body needs.';
COMMENT ON COLUMN ops.sql_history.checksum IS 'SHA-256 of the body, hexadecimal.';

GRANT SELECT ON ops.settings TO app;
GRANT SELECT ON ops.settings, ops.sql_history TO dba_readonly;
