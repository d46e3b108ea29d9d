DROP TABLE core.api_keys;
