CREATE TABLE rag.search_settings (
  tenant_id uuid REFERENCES core.tenants ON DELETE CASCADE,
  vector_weight real CHECK (vector_weight BETWEEN 0 AND 10),
  text_weight real CHECK (text_weight BETWEEN 0 AND 10),
  trigram_weight real CHECK (trigram_weight BETWEEN 0 AND 10),
  rrf_k integer CHECK (rrf_k BETWEEN 1 AND 1000),
  depth integer CHECK (depth BETWEEN 10 AND 500),
  exact_below integer CHECK (exact_below BETWEEN 0 AND 1000000),
  ef_search integer CHECK (ef_search BETWEEN 10 AND 1000),
  max_scan_tuples integer CHECK (max_scan_tuples BETWEEN 1000 AND 10000000),
  candidates integer CHECK (candidates BETWEEN 100 AND 100000),
  spelling_similarity real CHECK (spelling_similarity BETWEEN 0.1 AND 1),
  corrections integer CHECK (corrections BETWEEN 1 AND 20),
  duplicate_similarity real CHECK (duplicate_similarity BETWEEN 0.5 AND 1),
  passage_tokens integer CHECK (passage_tokens BETWEEN 0 AND 8192),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE NULLS NOT DISTINCT (tenant_id),
  CHECK (tenant_id IS NOT NULL OR num_nulls(
    vector_weight, text_weight, trigram_weight, rrf_k, depth, exact_below, ef_search, max_scan_tuples, candidates,
    spelling_similarity, corrections, duplicate_similarity, passage_tokens) = 0)
);
COMMENT ON TABLE rag.search_settings IS
  'How rag.search searches: the row without a tenant is for all; a tenant''s own row overrides what is not NULL in it. Changed by rag.set_search_settings.';
COMMENT ON COLUMN rag.search_settings.vector_weight IS 'Of the vector leg in the fusion; 0 leaves the leg out. text_weight and trigram_weight likewise.';
COMMENT ON COLUMN rag.search_settings.rrf_k IS 'The constant of reciprocal rank fusion, weight / (k + rank): the smaller, the more the first ranks count.';
COMMENT ON COLUMN rag.search_settings.depth IS 'How many chunks of each leg are fused; more where more results are asked for.';
COMMENT ON COLUMN rag.search_settings.exact_below IS
  'With fewer chunks than this to compare with, all vectors are: quicker than the index there, and exact.';
COMMENT ON COLUMN rag.search_settings.ef_search IS 'hnsw.ef_search: how many candidates an index scan holds. More find better, and take longer.';
COMMENT ON COLUMN rag.search_settings.max_scan_tuples IS 'hnsw.max_scan_tuples: after so many an index scan that does not find enough gives way to an exact one.';
COMMENT ON COLUMN rag.search_settings.candidates IS 'About how many chunks the text leg ranks: those with the rarest words of the query.';
COMMENT ON COLUMN rag.search_settings.spelling_similarity IS 'Trigram similarity from which on a word is taken for another spelling of one that the tenant lacks.';
COMMENT ON COLUMN rag.search_settings.corrections IS 'How many such words are taken for one.';
COMMENT ON COLUMN rag.search_settings.duplicate_similarity IS
  'Trigram similarity from which on two passages with the same numbers are duplicates, of which the better one is told; 1: only those with the same words.';
COMMENT ON COLUMN rag.search_settings.passage_tokens IS
  'As long as it stays within so many tokens, a passage is told with the chunks beside it as its context; 0: without.';

INSERT INTO rag.search_settings (
  tenant_id, vector_weight, text_weight, trigram_weight, rrf_k, depth, exact_below, ef_search, max_scan_tuples, candidates,
  spelling_similarity, corrections, duplicate_similarity, passage_tokens)
VALUES (NULL, 1, 1.5, 1, 10, 40, 10000, 200, 5000, 1500, 0.3, 3, 0.95, 512);

ALTER TABLE rag.search_settings ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON rag.search_settings TO app
USING (tenant_id = (SELECT core.current_tenant())) WITH CHECK (tenant_id = (SELECT core.current_tenant()));
COMMENT ON POLICY tenant ON rag.search_settings IS 'The functions'' role has no right to the table; the policy stands against the day when someone grants one.';
CREATE POLICY dba ON rag.search_settings FOR SELECT TO dba_readonly USING (true);
COMMENT ON POLICY dba ON rag.search_settings IS 'Database administrators read every tenant.';
GRANT SELECT ON rag.search_settings TO dba_readonly;
