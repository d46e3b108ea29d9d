-- requires: 009_api_keys
CREATE OR REPLACE FUNCTION core.key_refusal(p_key core.api_keys)
RETURNS text
LANGUAGE sql STABLE
RETURN CASE
  WHEN p_key.revoked_at IS NOT NULL THEN 'revoked'
  WHEN p_key.expires_at <= now() THEN 'expired'
END;

COMMENT ON FUNCTION core.key_refusal(core.api_keys) IS 'Why a key is good for nothing any more: revoked or expired; NULL for one that is good. Internal.';
