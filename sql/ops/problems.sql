-- requires: 000_core
-- The errors that the platform's SQL raises, named once. shared/problems.py gives each its HTTP status.
CREATE OR REPLACE FUNCTION ops.problems()
RETURNS TABLE (code text, sqlstate text, meaning text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  VALUES
    ('tenant_unset', 'EA001', 'The statement acts for no tenant, or for one that does not exist.'),
    ('not_found', 'EA002', 'No such object among those that the caller may see.'),
    ('idempotency_conflict', 'EA003', 'The idempotency key was used for a different request.'),
    ('budget_exceeded', 'EA004', 'A reservation does not fit into what is left of a budget.'),
    ('lease_lost', 'EA005', 'Another worker has taken the work over, or it has ended.'),
    ('no_model', 'EA006', 'No enabled model can answer.'),
    ('embedding_width_mismatch', 'EA007', 'A vector has another width than the database was made for.'),
    ('forbidden', 'EA008', 'The caller''s roles, or the key''s scopes, do not hold the operation.'),
    ('unauthenticated', 'EA009', 'The key or account by which the caller acts is not good, or no user is set.'),
    ('user_disabled', 'EA010', 'An administrator has disabled the user.'),
    ('tenant_suspended', 'EA011', 'The platform''s administrator has suspended the tenant.'),
    ('invalid_request', 'EA012', 'An argument is not what it must be.'),
    ('conflict', 'EA013', 'The object is there already, or not in a state for this.'),
    ('budget_paused', 'EA014', 'An administrator has paused a budget that binds the turn.'),
    ('no_healthy_model', 'EA015', 'Every model that could answer is failing.'),
    ('embedding_model_changed', 'EA020', 'A vector is of a model that made none of the stored ones.'),
    ('precondition_failed', 'EA030', 'The object is not as the caller expected it to be.'),
    ('tenant_elsewhere', 'EA040', 'The tenant''s home is another region, where its requests are redirected.'),
    ('residency_refused', 'EA041', 'The tenant''s home is another region, and its requests are refused here.'),
    ('foreign_event', 'EA042', 'An event, or its tenant, belongs to another region.')
$$;

COMMENT ON FUNCTION ops.problems() IS 'Every error the platform raises: its stable code and its SQLSTATE of class EA.';
GRANT EXECUTE ON FUNCTION ops.problems() TO app, dba_readonly;
