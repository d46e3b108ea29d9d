-- requires: 000_core
-- Who may do what, in one table. A role that is listed may call the operation; a person or key with several roles may do what
-- any of them may; `anyone` is whoever has a good token or key, also without a role. A key is limited to its scopes besides. Reads marked audited leave an entry in the audit log each time.
-- tests/functions/test_roles.py walks every route of every function with every role against this table.
CREATE OR REPLACE FUNCTION core.operations()
RETURNS TABLE (name text, scope text, roles text[], audited boolean, meaning text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  VALUES
    ('me.read',           'identity:read',   '{anyone}'::text[],                                     false, 'Who am I, and what may I do'),
    ('chat.ask',          'chat',            '{tenant_admin,member,service}',                        false, 'Ask a question'),
    ('chat.read',         'chat:read',       '{tenant_admin,member,viewer,service}',                 false, 'List, search, read and export conversations and turns of one''s own, or read those that are shared'),
    ('chat.stop',         'chat',            '{tenant_admin,member,service}',                        false, 'Stop a turn of one''s own'),
    ('chat.manage',       'chat',            '{tenant_admin,member,service}',                        false, 'Rename, archive or delete a conversation of one''s own'),
    ('chat.share',        'chat',            '{tenant_admin,member}',                                false, 'Say who else may read a conversation of one''s own'),
    ('embeddings.create', 'chat',            '{tenant_admin,member,service}',                        false, 'Have texts embedded'),
    ('documents.write',   'documents',       '{tenant_admin,member,service}',                        false, 'Store a document, or let one that failed begin anew'),
    ('documents.read',    'documents:read',  '{tenant_admin,member,viewer,service}',                 false, 'See how far documents are, and read them'),
    ('documents.delete',  'documents',       '{tenant_admin,member,service}',                        false, 'Delete a document'),
    ('collections.read',  'documents:read',  '{tenant_admin,member,viewer,service}',                 false, 'List the collections'),
    ('collections.update','documents',       '{tenant_admin,member,service}',                        false, 'Make a collection, or change one that one has made, or as tenant_admin any'),
    ('collections.delete','documents',       '{tenant_admin,member,service}',                        false, 'Delete a collection that one has made, or as tenant_admin any'),
    ('collections.share', 'documents',       '{tenant_admin,member,service}',                        false, 'See and say who may use a collection that one has made, or as tenant_admin any'),
    ('buckets.read',      'documents:read',  '{platform_admin,tenant_admin,auditor}',                false, 'See which objects of which buckets become documents'),
    ('buckets.update',    'documents',       '{platform_admin,tenant_admin}',                        false, 'Say which objects of which buckets become documents of which collection'),
    ('search',            'documents:read',  '{tenant_admin,member,viewer,service}',                 false, 'Search the documents'),
    ('search.configure',  'documents',       '{tenant_admin}',                                       false, 'Change how the tenant is searched'),
    ('routing.explain',   'routing:read',    '{tenant_admin,member,viewer,service}',                 false, 'Ask which model would answer'),
    ('routing.models',    'routing:read',    '{platform_admin,tenant_admin,member,viewer,service}',  false, 'List the models'),
    ('aliases.read',      'routing:read',    '{tenant_admin,member,viewer,service}',                 false, 'List the tenant''s own model names'),
    ('aliases.update',    'routing',         '{tenant_admin}',                                       false, 'Make, change or end a model name of the tenant''s own'),
    ('routing.health',    'routing:read',    '{platform_admin,tenant_admin,auditor}',                false, 'See how the models are, and the rules'),
    ('usage.read',        'usage:read',      '{platform_admin,tenant_admin,member,auditor,service}', false, 'Read the use: one''s own, or as tenant_admin or auditor the tenant''s'),
    ('budgets.read',      'usage:read',      '{platform_admin,tenant_admin,member,viewer,auditor,service}', false, 'Read the tenant''s budget and those of one''s own, or as tenant_admin or auditor all'),
    ('budgets.update',    'budgets',         '{platform_admin,tenant_admin}',                        false, 'Set, raise or pause limits: of users and keys, or as platform_admin of the tenant'),
    ('keys.create',       'keys',            '{tenant_admin,member}',                                false, 'Make an API key: for oneself, or as tenant_admin for a service account'),
    ('keys.read',         'keys',            '{tenant_admin,member,auditor}',                        false, 'List API keys: one''s own, or as tenant_admin or auditor all of the tenant'),
    ('keys.rotate',       'keys',            '{tenant_admin,member}',                                false, 'Give an API key another secret'),
    ('keys.revoke',       'keys',            '{tenant_admin,member}',                                false, 'End an API key'),
    ('tenant.read',       'identity:read',   '{platform_admin,tenant_admin,member,viewer,auditor,service}', false, 'Read one''s own tenant'),
    ('tenant.update',     'identity',        '{tenant_admin}',                                       false, 'Change one''s own tenant'),
    ('users.read',        'identity:read',   '{tenant_admin,auditor}',                               true,  'Read the tenant''s users'),
    ('users.create',      'identity',        '{tenant_admin}',                                       false, 'Make a service account'),
    ('users.update',      'identity',        '{tenant_admin}',                                       false, 'Disable or enable a user'),
    ('users.erase',       'identity',        '{tenant_admin}',                                       false, 'Erase a user and all that is the user''s own'),
    ('roles.read',        'identity:read',   '{tenant_admin,auditor}',                               true,  'Read this table, and who was granted which role'),
    ('roles.grant',       'identity',        '{platform_admin,tenant_admin}',                        false, 'Grant roles to a user or a group'),
    ('audit.read',        'audit:read',      '{platform_admin,tenant_admin,auditor}',                true,  'Read the audit log: the tenant''s, or as platform_admin the platform''s'),
    ('audit.verify',      'audit:read',      '{platform_admin,tenant_admin,auditor}',                false, 'Check the chain of the audit log'),
    ('tenants.read',      'platform',        '{platform_admin}',                                     true,  'Read all tenants'),
    ('tenants.create',    'platform',        '{platform_admin}',                                     false, 'Make a tenant'),
    ('tenants.update',    'platform',        '{platform_admin}',                                     false, 'Change, suspend or resume a tenant'),
    ('regions.read',      'platform',        '{platform_admin}',                                     false, 'Read which regions there are, and where a tenant is at home'),
    ('regions.update',    'platform',        '{platform_admin}',                                     false, 'Say which regions there are, and where a tenant is at home')
$$;

COMMENT ON FUNCTION core.operations() IS
  'Every operation of the HTTP functions: the scope that a key needs for it, the roles that may call it, whether each call is audited, and what it does.';
GRANT EXECUTE ON FUNCTION core.operations() TO app, dba_readonly;
