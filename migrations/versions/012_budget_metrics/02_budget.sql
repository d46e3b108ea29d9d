CREATE TABLE budget.limits (
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  scope text NOT NULL CHECK (scope IN ('tenant', 'user', 'api_key')),
  holder_id uuid NOT NULL,
  period text NOT NULL CHECK (period IN ('day', 'month')),
  tokens bigint NOT NULL CHECK (tokens >= 0),
  PRIMARY KEY (tenant_id, scope, holder_id, period),
  CHECK (scope <> 'tenant' OR holder_id = tenant_id)
);
COMMENT ON TABLE budget.limits IS 'Limits of a tenant, a user or an API key. Without a row, a tenant has TOKEN_BUDGET_DAILY and TOKEN_BUDGET_MONTHLY, and a user or key none of its own.';
COMMENT ON COLUMN budget.limits.holder_id IS 'The tenant, the user or the key that the limit is for.';

CREATE TABLE budget.balances (
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  scope text NOT NULL CHECK (scope IN ('tenant', 'user', 'api_key')),
  holder_id uuid NOT NULL,
  period text NOT NULL CHECK (period IN ('day', 'month')),
  starts_on date NOT NULL,
  tokens bigint NOT NULL,
  settled bigint NOT NULL DEFAULT 0 CHECK (settled >= 0),
  reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
  PRIMARY KEY (tenant_id, scope, holder_id, period, starts_on),
  CONSTRAINT within_limit CHECK (settled + reserved <= tokens)
);
COMMENT ON TABLE budget.balances IS 'What a tenant, and each user or key with a limit, has used and holds in one day or month. The constraint within_limit is the budget.';
COMMENT ON COLUMN budget.balances.tokens IS 'The limit of this period, taken over when its row was created.';
COMMENT ON COLUMN budget.balances.starts_on IS 'First day of the period in the tenant''s time zone.';

CREATE TABLE budget.reservations (
  tenant_id uuid NOT NULL,
  turn_id uuid NOT NULL,
  user_id uuid NOT NULL,
  api_key_id uuid,
  day date NOT NULL,
  month date NOT NULL,
  tokens bigint NOT NULL CHECK (tokens > 0),
  settled bigint CHECK (settled >= 0),
  created_at timestamptz NOT NULL DEFAULT now(),
  closed_at timestamptz,
  PRIMARY KEY (tenant_id, turn_id),
  FOREIGN KEY (tenant_id, turn_id) REFERENCES chat.turns ON DELETE CASCADE,
  CHECK ((settled IS NULL) = (closed_at IS NULL))
);
COMMENT ON TABLE budget.reservations IS 'The tokens a turn holds until it ends. Closed once: settled 0 means released.';
COMMENT ON COLUMN budget.reservations.api_key_id IS 'The key by which the turn was asked for, if any. No foreign key: the key may go before the turn ends.';

CREATE TABLE budget.ledger (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  turn_id uuid NOT NULL,
  user_id uuid NOT NULL,
  api_key_id uuid,
  entry text NOT NULL CHECK (entry IN ('reserve', 'settle', 'release', 'overrun')),
  tokens bigint NOT NULL,
  day date NOT NULL,
  month date NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ledger_tenant ON budget.ledger (tenant_id, day);
CREATE INDEX ledger_user ON budget.ledger (tenant_id, user_id, month);
CREATE INDEX ledger_api_key ON budget.ledger (tenant_id, api_key_id, month) WHERE api_key_id IS NOT NULL;
COMMENT ON TABLE budget.ledger IS 'Append-only: every movement of every balance, from which the balances can be recomputed.';
COMMENT ON COLUMN budget.ledger.turn_id IS 'No foreign key: what was spent stays spent when the conversation, the user or the key is deleted.';
COMMENT ON COLUMN budget.ledger.entry IS 'reserve adds to reserved; release takes the whole reservation back; settle adds to settled; overrun was used beyond the limit and could not be charged.';

DO $$
DECLARE
  protected record;
  c_tenant constant text := 'tenant_id = (SELECT core.current_tenant())';
BEGIN
  FOR protected IN
    SELECT * FROM (VALUES
      ('budget.limits', c_tenant), ('budget.balances', c_tenant),
      ('budget.reservations', c_tenant || ' AND user_id = (SELECT core.current_user_id())'),
      ('budget.ledger', c_tenant || ' AND user_id = (SELECT core.current_user_id())')
    ) AS t (name, readable)
  LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', protected.name);
    EXECUTE format('CREATE POLICY tenant ON %s FOR SELECT TO app USING (%s)', protected.name, protected.readable);
    EXECUTE format('COMMENT ON POLICY tenant ON %s IS %L', protected.name,
                   'The functions read the current tenant''s rows, and of single turns the current user''s; only budget''s own functions write.');
    EXECUTE format('CREATE POLICY dba ON %s FOR SELECT TO dba_readonly USING (true)', protected.name);
    EXECUTE format('COMMENT ON POLICY dba ON %s IS %L', protected.name, 'Database administrators read every tenant.');
    EXECUTE format('GRANT SELECT ON %s TO app, dba_readonly', protected.name);
  END LOOP;
END
$$;
