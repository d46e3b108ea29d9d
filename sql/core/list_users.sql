-- requires: 000_core
CREATE OR REPLACE FUNCTION core.list_users(p_user_id uuid DEFAULT NULL, p_after text DEFAULT '', p_limit integer DEFAULT 100)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tenant uuid := core.require_tenant();
BEGIN
  PERFORM core.require_operation('users.read');
  RETURN (
    SELECT coalesce(jsonb_agg(core.user_document(u) ORDER BY u.subject), '[]')
    FROM (
      SELECT * FROM core.users AS u
      WHERE u.tenant_id = v_tenant AND u.subject > p_after AND (p_user_id IS NULL OR u.id = p_user_id)
      ORDER BY u.subject
      LIMIT p_limit
    ) AS u);
END
$$;

COMMENT ON FUNCTION core.list_users(uuid, text, integer) IS 'The current tenant''s users by subject, those after p_after, or one by id: [core.user_document].';
GRANT EXECUTE ON FUNCTION core.list_users(uuid, text, integer) TO app;
