-- requires: 000_core
CREATE OR REPLACE FUNCTION core.known_roles(p_names text[])
RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT ARRAY(
    SELECT DISTINCT n.name FROM unnest(p_names) AS n (name)
    WHERE n.name IN ('platform_admin', 'tenant_admin', 'member', 'viewer', 'auditor', 'service')
    ORDER BY 1)
$$;

COMMENT ON FUNCTION core.known_roles(text[]) IS 'Those of the names that are roles of the platform, each once: an identity provider names others as well.';
GRANT EXECUTE ON FUNCTION core.known_roles(text[]) TO app, dba_readonly;
