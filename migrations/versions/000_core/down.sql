-- Roles and extensions stay: others may use them.
ALTER DEFAULT PRIVILEGES FOR ROLE ea_owner GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
DROP SCHEMA events, inference, routing, chat, rag, core, ops CASCADE;
