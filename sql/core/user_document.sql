-- requires: 000_core
CREATE OR REPLACE FUNCTION core.user_document(p_user core.users)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'id', p_user.id, 'subject', p_user.subject, 'kind', p_user.kind, 'name', p_user.name, 'email', p_user.email,
    'roles', core.effective_roles(p_user.tenant_id, p_user.id), 'groups', p_user.groups,
    'active', p_user.disabled_at IS NULL, 'created_at', p_user.created_at, 'seen_at', p_user.seen_at)
$$;

COMMENT ON FUNCTION core.user_document(core.users) IS 'What is told of a user. Internal.';
