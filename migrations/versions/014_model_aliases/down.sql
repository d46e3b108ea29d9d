DROP TABLE routing.aliases;
