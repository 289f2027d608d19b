-- What the daemon's role needs of agent_log: to add rows. To look at them too, as a row whose key is
-- taken is compared with the one that is there.

GRANT INSERT, SELECT ON :"schema".events TO :"role";
GRANT INSERT, SELECT ON :"schema".nodes TO :"role";
GRANT INSERT, SELECT ON :"schema".edges TO :"role";
