"""The matrix role x object x privilege of a database, as sql/privileges.json has it."""

from pathlib import Path

from tests.support import Caller

GOLDEN = Path(__file__).parent / "sql" / "privileges.json"
ROLES = ("app", "relay", "dba_readonly")
OWN = "pg_get_userbyid(n.nspowner) = 'ea_owner'"
QUERY = f"""
SELECT r.role, c.oid::regclass::text, string_agg(lower(k.kind), ' ' ORDER BY k.kind)
FROM unnest(%s::text[]) AS r (role)
CROSS JOIN pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS k (kind)
WHERE {OWN} AND c.relkind IN ('r', 'p', 'v') AND has_table_privilege(r.role, c.oid, k.kind)
GROUP BY 1, 2
UNION ALL
SELECT r.role, p.oid::regprocedure::text, 'execute'
FROM unnest(%s::text[]) AS r (role)
CROSS JOIN pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE {OWN} AND has_function_privilege(r.role, p.oid, 'EXECUTE')
ORDER BY 1, 2
"""


def privileges(operator: Caller) -> dict[str, dict[str, str]]:
    """Return what each login role may do with which object."""
    matrix: dict[str, dict[str, str]] = {role: {} for role in ROLES}
    for role, name, kinds in operator.query(QUERY, [list(ROLES), list(ROLES)]):
        matrix[role][name] = kinds
    return matrix
