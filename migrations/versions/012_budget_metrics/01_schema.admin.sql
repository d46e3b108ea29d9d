CREATE SCHEMA budget AUTHORIZATION ea_owner;
COMMENT ON SCHEMA budget IS 'Token budgets: limits, balances a period, reservations, and the ledger they add up from.';
GRANT USAGE ON SCHEMA budget TO app, dba_readonly;
