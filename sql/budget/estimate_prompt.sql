-- requires: 012_budget_metrics
-- An image travels as text, but a model sees patches: what it takes of them is bounded by the model, for those in use at most 16,384
-- tokens (Qwen2.5-VL with its default of 12.8 million pixels, 28 x 28 of them a token).
CREATE OR REPLACE FUNCTION budget.estimate_prompt(p_messages jsonb)
RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
  c_image constant bigint := 16384;
  v_images bigint;
  v_text jsonb;
BEGIN
  IF NOT jsonb_path_exists(p_messages, '$[*].content[*] ? (@.type == "image_url")') THEN
    RETURN budget.estimate_tokens(p_messages::text);
  END IF;
  -- Of a message all counts but its images: the parts of its content, and what stands beside them.
  SELECT jsonb_agg(x.counted), count(*) FILTER (WHERE x.image)
  INTO v_text, v_images
  FROM jsonb_array_elements(p_messages) AS m
  CROSS JOIN LATERAL (
    SELECT m.value - 'content' AS counted, false AS image
    UNION ALL
    SELECT CASE WHEN part.value ->> 'type' = 'image_url' THEN part.value - 'image_url' ELSE part.value END,
      coalesce(part.value ->> 'type' = 'image_url', false)
    FROM jsonb_array_elements(
      CASE jsonb_typeof(m.value -> 'content') WHEN 'array' THEN m.value -> 'content' ELSE jsonb_build_array(m.value -> 'content') END) AS part
  ) AS x;
  RETURN budget.estimate_tokens(v_text::text) + c_image * v_images;
END
$$;

COMMENT ON FUNCTION budget.estimate_prompt(jsonb) IS 'An upper estimate of the tokens of a prompt, [{role, content}], with its images.';
GRANT EXECUTE ON FUNCTION budget.estimate_prompt(jsonb) TO app, dba_readonly;
