-- What the daemon's role needs of spirits: to add rows, and to recognise what is sent again by its key.

GRANT INSERT ON :"schema".spirits, :"schema".events TO :"role";
GRANT SELECT (id) ON :"schema".spirits TO :"role";
GRANT SELECT (dedupe_key) ON :"schema".events TO :"role";
