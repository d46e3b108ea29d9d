-- Where in its document a passage stands, so that a citation points to a place, and what stands around it.
ALTER TABLE chat.passages
  ADD COLUMN page integer CHECK (page >= 1),
  ADD COLUMN start_char integer,
  ADD COLUMN end_char integer,
  ADD COLUMN context_before text NOT NULL DEFAULT '',
  ADD COLUMN context_after text NOT NULL DEFAULT '',
  ADD COLUMN rerank_score double precision;
COMMENT ON COLUMN chat.passages.page IS 'The page, slide or sheet; NULL where the format has none, and for passages from before this was kept.';
COMMENT ON COLUMN chat.passages.start_char IS 'Offset of the first character in the document''s text, of the version that was searched; end_char is one past the last.';
COMMENT ON COLUMN chat.passages.context_before IS 'What stands before it in the document, put before the model with it; a citation points to the passage alone.';
COMMENT ON COLUMN chat.passages.rerank_score IS 'What the reranking model made of it; NULL where none was asked.';
COMMENT ON COLUMN chat.passages.score IS 'Weighted reciprocal rank fusion of the three ranks; a NULL rank means that this leg did not find the passage.';

ALTER TABLE chat.citations
  ADD COLUMN page integer CHECK (page >= 1),
  ADD COLUMN start_char integer,
  ADD COLUMN end_char integer;
COMMENT ON COLUMN chat.citations.page IS 'As in chat.passages; start_char and end_char likewise.';
