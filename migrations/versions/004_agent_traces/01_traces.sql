-- Columns of rows that a turn writes anyway: a table of spans would cost each turn two inserts with their index and foreign key.
ALTER TABLE chat.turns ADD COLUMN timings jsonb;
COMMENT ON COLUMN chat.turns.timings IS
  'How the turn was begun: milliseconds of the steps before the database, as the function measured them (auth, rate_limit, embedding), and '
  'the moments at which retrieval and routing began and the decision was there (retrieval_at, routing_at, decided_at).';

ALTER TABLE inference.jobs ADD COLUMN history jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN inference.jobs.history IS
  'An object for each attempt: worker, model, emitted_at (of the event that asked for it), claimed_at; once it is over also ended_at, outcome '
  '(completed, stopped, failed, lost, handed_back), code, and timings: milliseconds after claimed_at. lost: its lease ran out.';
