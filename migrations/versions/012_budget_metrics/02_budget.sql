CREATE TABLE budget.limits (
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  scope text NOT NULL CHECK (scope IN ('tenant', 'user', 'api_key')),
  holder_id uuid NOT NULL,
  period text NOT NULL CHECK (period IN ('day', 'month')),
  tokens bigint CHECK (tokens >= 0),
  cost_micros bigint CHECK (cost_micros >= 0),
  paused_at timestamptz,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, scope, holder_id, period),
  CHECK (scope <> 'tenant' OR holder_id = tenant_id)
);
COMMENT ON TABLE budget.limits IS
  'Limits of a tenant, a user or an API key. Without one in tokens, a tenant has TOKEN_BUDGET_DAILY and TOKEN_BUDGET_MONTHLY; a user or key has none.';
COMMENT ON COLUMN budget.limits.holder_id IS 'The tenant, the user or the key that the limit is for.';
COMMENT ON COLUMN budget.limits.tokens IS 'NULL: none of its own.';
COMMENT ON COLUMN budget.limits.cost_micros IS 'In millionths of the currency of routing.models'' prices; NULL: none. It counts the models whose price is known.';
COMMENT ON COLUMN budget.limits.paused_at IS 'Since then nothing is admitted, whatever is left.';

CREATE TABLE budget.balances (
  tenant_id uuid NOT NULL REFERENCES core.tenants ON DELETE CASCADE,
  scope text NOT NULL CHECK (scope IN ('tenant', 'user', 'api_key')),
  holder_id uuid NOT NULL,
  period text NOT NULL CHECK (period IN ('day', 'month')),
  starts_on date NOT NULL,
  tokens bigint,
  settled bigint NOT NULL DEFAULT 0 CHECK (settled >= 0),
  reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
  cost_micros bigint,
  cost_settled bigint NOT NULL DEFAULT 0 CHECK (cost_settled >= 0),
  cost_reserved bigint NOT NULL DEFAULT 0 CHECK (cost_reserved >= 0),
  reached smallint NOT NULL DEFAULT 0 CHECK (reached IN (0, 80, 100)),
  target_tokens bigint,
  target_cost bigint,
  PRIMARY KEY (tenant_id, scope, holder_id, period, starts_on),
  CONSTRAINT within_limit CHECK (settled + reserved <= tokens),
  CONSTRAINT within_cost CHECK (cost_settled + cost_reserved <= cost_micros),
  CHECK (scope <> 'tenant' OR tokens IS NOT NULL)
) WITH (fillfactor = 50);
COMMENT ON TABLE budget.balances IS 'What a tenant, and each user or key with a limit, has used and holds in one day or month. The constraints within_limit and within_cost are the budget.';
COMMENT ON COLUMN budget.balances.tokens IS 'The limit of this period; NULL: none in tokens.';
COMMENT ON COLUMN budget.balances.cost_micros IS 'The limit of this period in millionths of the currency; NULL: none in money.';
COMMENT ON COLUMN budget.balances.starts_on IS 'First day of the period in the tenant''s time zone.';
COMMENT ON COLUMN budget.balances.target_tokens IS
  'The limit that was set, where more was used and held already when it was lowered: tokens come down to it as turns end; target_cost: the same in money.';
COMMENT ON COLUMN budget.balances.reached IS 'The highest share of a limit, in percent, that was told by an event: each once a period.';

CREATE TABLE budget.reservations (
  tenant_id uuid NOT NULL,
  turn_id uuid NOT NULL,
  user_id uuid NOT NULL,
  api_key_id uuid,
  model text,
  input_price numeric,
  output_price numeric,
  day date NOT NULL,
  month date NOT NULL,
  tokens bigint NOT NULL CHECK (tokens > 0),
  cost_micros bigint NOT NULL CHECK (cost_micros >= 0),
  settled bigint CHECK (settled >= 0),
  cost_settled bigint CHECK (cost_settled >= 0),
  expires_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  closed_at timestamptz,
  CHECK ((settled IS NULL) = (closed_at IS NULL) AND (cost_settled IS NULL) = (closed_at IS NULL))
);
CREATE INDEX reservations_open ON budget.reservations (expires_at) WHERE closed_at IS NULL;
ALTER TABLE budget.reservations ADD PRIMARY KEY (tenant_id, turn_id);
COMMENT ON TABLE budget.reservations IS 'The tokens a turn holds until it ends. Closed once: settled 0 means released.';
COMMENT ON COLUMN budget.reservations.tenant_id IS 'Without a foreign key, as in budget.ledger: the turn''s row has one, and each turn would check it four times more. budget.forget_tenant deletes.';
COMMENT ON COLUMN budget.reservations.turn_id IS 'No foreign key: what a deleted turn holds must still be given back.';
COMMENT ON COLUMN budget.reservations.api_key_id IS 'The key by which the turn was asked for, if any. No foreign key: the key may go before the turn ends.';
COMMENT ON COLUMN budget.reservations.input_price IS 'Price of the model as it was, for a million tokens of the prompt; output_price for those generated; NULL: not known.';
COMMENT ON COLUMN budget.reservations.expires_at IS 'From then on budget.expire gives it back, unless the turn is still on its way.';

-- A sequence by hand: PostgreSQL 16 has no identity columns on partitioned tables.
CREATE SEQUENCE budget.ledger_id;
CREATE TABLE budget.ledger (
  id bigint NOT NULL DEFAULT nextval('budget.ledger_id'),
  tenant_id uuid NOT NULL,
  turn_id uuid NOT NULL,
  user_id uuid NOT NULL,
  api_key_id uuid,
  model text,
  entry text NOT NULL CHECK (entry IN ('reserve', 'settle', 'release', 'overrun')),
  tokens bigint NOT NULL CHECK (tokens >= 0),
  cost_micros bigint NOT NULL CHECK (cost_micros >= 0),
  prompt_tokens bigint,
  completion_tokens bigint,
  day date NOT NULL,
  month date NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant_id, month, id)
) PARTITION BY RANGE (month);
ALTER SEQUENCE budget.ledger_id OWNED BY budget.ledger.id;
CREATE INDEX ledger_turn ON budget.ledger (tenant_id, turn_id);
CREATE INDEX ledger_user ON budget.ledger (tenant_id, user_id, month);
CREATE INDEX ledger_api_key ON budget.ledger (tenant_id, api_key_id, month) WHERE api_key_id IS NOT NULL;
COMMENT ON TABLE budget.ledger IS 'Append-only: every movement of every balance, from which the balances can be recomputed (budget.verify). A partition a month, made ahead by budget.maintain.';
COMMENT ON COLUMN budget.ledger.turn_id IS 'No foreign key: what was spent stays spent when the conversation, the user or the key is deleted.';
COMMENT ON COLUMN budget.ledger.entry IS 'reserve adds to reserved; release takes the whole reservation back; settle adds to settled; overrun was used beyond the limit and could not be charged.';
COMMENT ON COLUMN budget.ledger.prompt_tokens IS 'What a settlement is made of, with completion_tokens; NULL for the other entries.';
CREATE TABLE budget.ledger_default PARTITION OF budget.ledger DEFAULT;
-- Without a policy: it is reached through the ledger alone.
ALTER TABLE budget.ledger_default ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE budget.ledger_default IS 'Movements of months for which no partition was made in time; budget.maintain moves them.';

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
