ALTER TABLE inference.jobs DROP COLUMN history;
ALTER TABLE chat.turns DROP COLUMN timings;
