CREATE TABLE routing.models (
  name text PRIMARY KEY,
  tier text NOT NULL CHECK (tier IN ('light', 'standard', 'heavy')),
  endpoint text CHECK (endpoint ~ '^https?://'),
  context_window integer CHECK (context_window > 0),
  input_price numeric CHECK (input_price >= 0),
  output_price numeric CHECK (output_price >= 0),
  regions text[] CHECK (cardinality(regions) > 0),
  tools boolean NOT NULL DEFAULT true,
  enabled boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE routing.models IS 'The models that may answer, seeded from MODEL_LIGHT, MODEL_STANDARD and MODEL_HEAVY; an administrator adds others and what the variables do not say.';
COMMENT ON COLUMN routing.models.name IS 'As the model endpoint names it.';
COMMENT ON COLUMN routing.models.endpoint IS 'Base URL of an OpenAI-compatible API that serves this model; NULL: LITELLM_BASE_URL.';
COMMENT ON COLUMN routing.models.context_window IS 'Tokens that prompt and answer may have together; NULL: not known, and not checked.';
COMMENT ON COLUMN routing.models.input_price IS 'Price of a million tokens of the prompt; output_price of those generated. 0: free, NULL: not known. Both count against budgets in tokens.';
COMMENT ON COLUMN routing.models.regions IS 'Where the model runs; it answers only tenants of these regions. NULL: everywhere.';
COMMENT ON COLUMN routing.models.tools IS 'Whether it can call tools.';

CREATE TABLE routing.health (
  model text PRIMARY KEY REFERENCES routing.models ON DELETE CASCADE,
  state text NOT NULL DEFAULT 'closed' CHECK (state IN ('closed', 'open', 'half_open')),
  failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
  openings integer NOT NULL DEFAULT 0 CHECK (openings >= 0),
  retry_at timestamptz,
  latency_ms double precision,
  last_error text,
  last_failure_at timestamptz,
  last_success_at timestamptz,
  updated_at timestamptz NOT NULL DEFAULT now(),
  CHECK ((state = 'closed') = (retry_at IS NULL))
);
COMMENT ON TABLE routing.health IS 'A circuit breaker a model: closed (answers), open (is left alone until retry_at), half_open (one turn or probe tries it).';
COMMENT ON COLUMN routing.health.failures IS 'Failures in a row.';
COMMENT ON COLUMN routing.health.openings IS 'How often it opened since it last answered: each time it is left alone for twice as long.';
COMMENT ON COLUMN routing.health.latency_ms IS 'Moving average of the milliseconds to the first token.';

CREATE TABLE routing.rules (
  position integer PRIMARY KEY,
  name text NOT NULL UNIQUE,
  tier text NOT NULL CHECK (tier IN ('light', 'standard', 'heavy')),
  model text REFERENCES routing.models ON DELETE CASCADE,
  min_chars integer,
  max_chars integer,
  question_types text[],
  languages text[],
  code boolean,
  tools boolean,
  min_tasks integer,
  min_passages integer,
  max_passages integer,
  min_history_chars integer,
  requested text[],
  tenants uuid[],
  roles text[],
  pattern text,
  enabled boolean NOT NULL DEFAULT true
);
CREATE INDEX rules_model ON routing.rules (model);
COMMENT ON TABLE routing.rules IS
  'Read in order of position; the first rule whose conditions all hold names the tier. A condition that is NULL asks nothing; the others are held against routing.features.';
COMMENT ON COLUMN routing.rules.model IS 'A model that is tried before the others of the tier; NULL: the tier''s own order.';
COMMENT ON COLUMN routing.rules.min_chars IS 'The question has at least so many characters; max_chars: at most.';
COMMENT ON COLUMN routing.rules.question_types IS 'The question is of one of these types: see routing.question_types.';
COMMENT ON COLUMN routing.rules.languages IS 'It is in one of these languages (ISO 639-1), as far as routing.language can tell.';
COMMENT ON COLUMN routing.rules.code IS 'It holds source code, or does not.';
COMMENT ON COLUMN routing.rules.tools IS 'The turn brings tools, or does not.';
COMMENT ON COLUMN routing.rules.min_tasks IS 'It asks for at least so many kinds of analytic work: compare, estimate, recommend, ...';
COMMENT ON COLUMN routing.rules.min_passages IS 'So many passages were found for it; max_passages: at most.';
COMMENT ON COLUMN routing.rules.min_history_chars IS 'The history that goes to the model has at least so many characters.';
COMMENT ON COLUMN routing.rules.requested IS 'The request names one of these as its model: auto, a tier, or a model.';
COMMENT ON COLUMN routing.rules.tenants IS 'The turn is of one of these tenants.';
COMMENT ON COLUMN routing.rules.roles IS 'The user has one of these roles.';
COMMENT ON COLUMN routing.rules.pattern IS 'A case-insensitive regular expression that the question matches.';

INSERT INTO routing.rules (position, name, tier, question_types, min_chars, max_chars, min_tasks) VALUES
  (10, 'security review', 'heavy', '{security}', NULL, NULL, NULL),
  (20, 'intent or PII classification', 'light', '{pii,classification}', NULL, 4000, NULL),
  (30, 'small talk', 'light', '{smalltalk}', NULL, 80, NULL),
  (40, 'multi-step reasoning', 'heavy', '{reasoning}', NULL, NULL, NULL),
  (50, 'several tasks in one', 'heavy', NULL, NULL, NULL, 3),
  (55, 'two tasks in one', 'heavy', '{other}', NULL, NULL, 2),
  (60, 'long question', 'heavy', '{other,code}', 4000, NULL, NULL),
  (1000, 'everything else', 'standard', NULL, NULL, NULL, NULL);

GRANT SELECT ON routing.models, routing.rules, routing.health TO app;
GRANT SELECT ON routing.models, routing.rules, routing.health TO dba_readonly;
