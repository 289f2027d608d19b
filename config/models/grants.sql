-- What the daemon's role needs, and no more: it adds events and moves watermarks.

GRANT USAGE ON SCHEMA :"schema" TO :"role";
GRANT USAGE ON SCHEMA :"own_schema" TO :"role";
GRANT INSERT ON :"schema".events TO :"role";
GRANT SELECT, INSERT, UPDATE ON :"own_schema".watermark TO :"role";
