-- requires: 012_budget_metrics
-- An image travels as text, but a model sees patches: what it takes of them is bounded by the model, for those in use at most 16,384
-- tokens (Qwen2.5-VL with its default of 12.8 million pixels, 28 x 28 of them a token).
CREATE OR REPLACE FUNCTION budget.estimate_prompt(p_messages jsonb)
RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c_image constant bigint := 16384;
  v_images bigint;
  v_text jsonb;
BEGIN
  IF NOT jsonb_path_exists(p_messages, '$[*].content[*] ? (@.type == "image_url")') THEN
    RETURN budget.estimate_tokens(p_messages::text);
  END IF;
  SELECT jsonb_agg(CASE WHEN part.value ->> 'type' = 'image_url' THEN NULL ELSE coalesce(part.value, m.value) END),
    count(*) FILTER (WHERE part.value ->> 'type' = 'image_url')
  INTO v_text, v_images
  FROM jsonb_array_elements(p_messages) AS m
  LEFT JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(m.value -> 'content') WHEN 'array' THEN m.value -> 'content' END) AS part ON true;
  RETURN budget.estimate_tokens(v_text::text) + c_image * v_images;
END
$$;

COMMENT ON FUNCTION budget.estimate_prompt(jsonb) IS 'An upper estimate of the tokens of a prompt, [{role, content}], with its images.';
GRANT EXECUTE ON FUNCTION budget.estimate_prompt(jsonb) TO app, dba_readonly;
