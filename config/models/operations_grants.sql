-- What the daemon's role needs of operations: to add rows for every organisation, and to recognise what
-- is sent again. Where the application changes rows their key decides, so no more than that is to be seen.

GRANT INSERT ON :"schema".token_usage, :"schema".user_events, :"schema".audit_log, :"schema".planning_notes,
  :"schema".agent_memory, :"schema".job_queue TO :"role";
GRANT SELECT ON :"schema".token_usage, :"schema".user_events, :"schema".audit_log TO :"role";
GRANT SELECT (id) ON :"schema".planning_notes, :"schema".agent_memory, :"schema".job_queue TO :"role";

-- Policies of its own. A role that was named before keeps them.
DO $sluice$
DECLARE
  name text;
  target regclass;
  policy text;
  roles text;
BEGIN
  FOREACH name IN ARRAY ARRAY['token_usage', 'user_events', 'audit_log', 'planning_notes', 'agent_memory',
                              'job_queue'] LOOP
    target := format('%I.%I', :'schema', name);
    FOREACH policy IN ARRAY ARRAY['daemon_adds', 'daemon_compares'] LOOP
      SELECT string_agg(quote_ident(rolname), ', ') INTO roles
        FROM pg_policy JOIN pg_roles ON pg_roles.oid = ANY (polroles)
        WHERE polrelid = target AND polname = policy;
      IF roles IS NULL THEN
        EXECUTE format(CASE policy
                         WHEN 'daemon_adds' THEN 'CREATE POLICY %I ON %s FOR INSERT TO %I WITH CHECK (true)'
                         ELSE 'CREATE POLICY %I ON %s FOR SELECT TO %I USING (true)'
                       END, policy, target, :'role');
      ELSIF NOT EXISTS (SELECT FROM pg_policy JOIN pg_roles ON pg_roles.oid = ANY (polroles)
                          WHERE polrelid = target AND polname = policy AND rolname = :'role') THEN
        EXECUTE format('ALTER POLICY %I ON %s TO %s, %I', policy, target, roles, :'role');
      END IF;
    END LOOP;
  END LOOP;
END
$sluice$;
