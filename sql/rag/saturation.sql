-- requires: 015_hybrid_search
-- ts_rank is the only function that looks a word up in a tsvector without unpacking it. For one word it returns the sum of weight / j^2
-- over its occurrences j = 1, 2, ... n, divided by the limit of the sum of 1 / j^2, c = pi^2 / 6. With the weight 1/2 that is x / 2c,
-- where x is 1 for one occurrence and tends to c. What is wanted is n / (n + k): 1 / (1 + k) for one, and tending to 1. That has
-- x d / (k c - x (k - d)) with d = c - 1, and in between it differs by 2 % at most. Words of title and heading have the weight 1, and
-- one of them is as much as any number of others.
-- Without a SET clause, and with each parameter used as it is cheap to, so that it is inlined.
CREATE OR REPLACE FUNCTION rag.saturation(p_rank double precision, p_k double precision)
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
  SELECT 0.6449340668482264 / (p_k * 0.5::double precision / nullif(least(p_rank, 0.5::double precision), 0) - (p_k - 0.6449340668482264))
$$;

COMMENT ON FUNCTION rag.saturation(double precision, double precision) IS
  'n / (n + k), where n is how often a chunk has a word for which ts_rank returns the rank: with the weights 1/2, and 1 in title and heading; NULL for a rank of 0. Internal.';
