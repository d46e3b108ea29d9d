CREATE TABLE routing.models (
  name text PRIMARY KEY,
  tier text NOT NULL CHECK (tier IN ('light', 'standard', 'heavy')),
  enabled boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE routing.models IS 'The models that may answer, seeded from MODEL_LIGHT, MODEL_STANDARD and MODEL_HEAVY.';
COMMENT ON COLUMN routing.models.name IS 'As the model endpoint names it.';

CREATE TABLE routing.rules (
  position integer PRIMARY KEY,
  name text NOT NULL UNIQUE,
  tier text NOT NULL CHECK (tier IN ('light', 'standard', 'heavy')),
  min_chars integer,
  max_chars integer,
  pattern text,
  enabled boolean NOT NULL DEFAULT true
);
COMMENT ON TABLE routing.rules IS 'Read in order of position; the first rule whose conditions all hold names the tier.';
COMMENT ON COLUMN routing.rules.min_chars IS 'The question has at least so many characters; NULL asks nothing.';
COMMENT ON COLUMN routing.rules.max_chars IS 'The question has at most so many characters; NULL asks nothing.';
COMMENT ON COLUMN routing.rules.pattern IS 'A case-insensitive regular expression that the question matches; NULL asks nothing.';

INSERT INTO routing.rules (position, name, tier, min_chars, max_chars, pattern) VALUES
  (10, 'security review', 'heavy', NULL, NULL, '\m(security (review|audit)|threat model|vulnerabilit(y|ies)|penetration test|exploit)'),
  (20, 'multi-step reasoning', 'heavy', NULL, NULL,
   '\m(step by step|trade-?offs?|root cause|prove that|derive|'
   || 'compare .+ (and|with|against) .+ (and|then|recommend)|design an? )'),
  (30, 'long question', 'heavy', 4000, NULL, NULL),
  (40, 'intent or PII classification', 'light', NULL, NULL,
   '\m(classify|categori[sz]e|what is the intent|detect (the )?(pii|personal data)|does this (text|message) contain|is this spam|label (this|the following))'),
  (50, 'small talk', 'light', NULL, 40, '^\s*(hi|hello|hey|good (morning|evening)|thanks|thank you|ok(ay)?|bye)\M'),
  (1000, 'everything else', 'standard', NULL, NULL, NULL);

GRANT SELECT ON routing.models, routing.rules TO app;
GRANT SELECT ON routing.models, routing.rules TO dba_readonly;
