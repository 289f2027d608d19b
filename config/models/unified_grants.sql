-- What the daemon's role needs of unified: to add events, and to see their key where one is sent again.
-- Things and relationships are written by triggers that have rights of their own.

GRANT INSERT ON :"schema".events TO :"role";
GRANT SELECT (id, "timestamp") ON :"schema".events TO :"role";
