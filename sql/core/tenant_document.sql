-- requires: 000_core
CREATE OR REPLACE FUNCTION core.tenant_document(p_tenant core.tenants)
RETURNS jsonb
LANGUAGE sql STABLE
RETURN jsonb_build_object(
  'id', p_tenant.id, 'slug', p_tenant.slug, 'name', p_tenant.name, 'region', p_tenant.region, 'time_zone', p_tenant.time_zone,
  'active', p_tenant.suspended_at IS NULL, 'created_at', p_tenant.created_at);

COMMENT ON FUNCTION core.tenant_document(core.tenants) IS 'What is told of a tenant. Internal.';
