-- requires: 012_budget_metrics
CREATE OR REPLACE FUNCTION budget.maintain(p_ahead integer DEFAULT 3, p_keep_months integer DEFAULT NULL)
RETURNS TABLE (action text, partition text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_month date;
  v_old record;
BEGIN
  -- One run at a time, before anything is read: two that read the default partition would each wait for the other to let go of it.
  PERFORM pg_advisory_xact_lock(hashtextextended('budget.maintain', 0));

  -- 1. A partition for each month that has movements or is to come. What the default partition has of it moves along.
  FOR v_month IN
    SELECT g.month::date FROM generate_series(date_trunc('month', now()), date_trunc('month', now()) + make_interval(months => p_ahead), '1 month') AS g (month)
    UNION
    SELECT DISTINCT d.month FROM budget.ledger_default AS d
    ORDER BY 1
  LOOP
    partition := format('ledger_%s', to_char(v_month, 'YYYY_MM'));
    CONTINUE WHEN to_regclass('budget.' || partition) IS NOT NULL;
    -- Nothing may come into the default partition between the move and the attachment.
    LOCK TABLE budget.ledger_default IN SHARE ROW EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE budget.%I (LIKE budget.ledger INCLUDING ALL)', partition);
    EXECUTE format('COMMENT ON TABLE budget.%I IS %L', partition, format('Movements of the month that begins on %s.', v_month));
    EXECUTE format('ALTER TABLE budget.%I OWNER TO ea_owner', partition);
    EXECUTE format('ALTER TABLE budget.%I ENABLE ROW LEVEL SECURITY', partition);
    EXECUTE format('WITH moved AS (DELETE FROM budget.ledger_default WHERE month = %L RETURNING *) INSERT INTO budget.%I SELECT * FROM moved', v_month, partition);
    EXECUTE format('ALTER TABLE budget.ledger ATTACH PARTITION budget.%I FOR VALUES FROM (%L) TO (%L)', partition, v_month, v_month + interval '1 month');
    action := 'created';
    RETURN NEXT;
  END LOOP;

  -- 2. Old months leave the ledger and stay as tables of their own, to be dumped and dropped. One in which something is still held
  --    stays until that has ended.
  FOR v_old IN
    SELECT c.relname::text AS name
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'budget.ledger'::regclass AND c.relname ~ '^ledger_[0-9]{4}_[0-9]{2}$'
      AND to_date(right(c.relname, 7), 'YYYY_MM') < date_trunc('month', now()) - make_interval(months => p_keep_months)
      AND NOT EXISTS (SELECT FROM budget.reservations AS r WHERE r.closed_at IS NULL AND r.month = to_date(right(c.relname, 7), 'YYYY_MM'))
    ORDER BY 1
  LOOP
    EXECUTE format('ALTER TABLE budget.ledger DETACH PARTITION budget.%I', v_old.name);
    action := 'detached';
    partition := v_old.name;
    RETURN NEXT;
  END LOOP;
END
$$;

COMMENT ON FUNCTION budget.maintain(integer, integer) IS
  'Makes the ledger''s partitions of so many months ahead, and detaches those older than p_keep_months full months (NULL: none). For operators: make db-maintenance.';
