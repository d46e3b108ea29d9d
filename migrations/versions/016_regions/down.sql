DROP TABLE core.tenant_homes;
DROP TABLE core.regions;
