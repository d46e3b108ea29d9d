-- requires: 008_ingestion_pipeline
CREATE OR REPLACE FUNCTION rag.text_hash(p_text text)
RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT left(encode(sha256(convert_to(p_text, 'UTF8')), 'hex'), 32)::uuid
$$;

COMMENT ON FUNCTION rag.text_hash(text) IS '128 bits of the SHA-256 of a text, in the 16 bytes of a uuid. Internal.';
