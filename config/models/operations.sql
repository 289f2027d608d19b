-- operations: usage, audit and jobs of many organisations in the same tables.
--
-- token_usage, user_events and audit_log are facts. planning_notes, agent_memory and job_queue are current
-- state and belong to their application; token_usage_daily is made from token_usage.

-- Tables of these names may have been there before, for another purpose.
DO $sluice$
BEGIN
  PERFORM :"own_schema".require_table(format('%I.token_usage', :'schema'),
    'id uuid, organization_id text, user_id text, operation text, model text, tokens bigint,
     cost numeric, created_at timestamp with time zone, extra jsonb, received_at timestamp with time zone');
  PERFORM :"own_schema".require_table(format('%I.token_usage_daily', :'schema'),
    'organization_id text, date date, total_tokens numeric, total_cost numeric, event_count bigint,
     operation_breakdown jsonb, last_updated timestamp with time zone');
  PERFORM :"own_schema".require_table(format('%I.user_events', :'schema'),
    'id uuid, user_id text, organization_id text, event_type text, event_data jsonb,
     created_at timestamp with time zone, extra jsonb, received_at timestamp with time zone');
  PERFORM :"own_schema".require_table(format('%I.audit_log', :'schema'),
    'id uuid, user_id text, organization_id text, action text, resource_id text, old_value jsonb,
     new_value jsonb, created_at timestamp with time zone, extra jsonb,
     received_at timestamp with time zone');
  PERFORM :"own_schema".require_table(format('%I.planning_notes', :'schema'),
    'id uuid, organization_id text, user_id text, content text, status text, metadata jsonb,
     created_at timestamp with time zone, updated_at timestamp with time zone, extra jsonb,
     received_at timestamp with time zone');
  PERFORM :"own_schema".require_table(format('%I.agent_memory', :'schema'),
    'id uuid, organization_id text, user_id text, memory_type text, content text, importance numeric,
     metadata jsonb, expires_at timestamp with time zone, created_at timestamp with time zone,
     updated_at timestamp with time zone, extra jsonb, received_at timestamp with time zone');
  PERFORM :"own_schema".require_table(format('%I.job_queue', :'schema'),
    'id uuid, organization_id text, kind text, payload jsonb, scheduled_for timestamp with time zone,
     picked_up_at timestamp with time zone, completed_at timestamp with time zone, attempt_count integer,
     last_error text, last_attempt_at timestamp with time zone, status text, result_id text,
     created_at timestamp with time zone, extra jsonb, received_at timestamp with time zone');
END
$sluice$;

CREATE TABLE IF NOT EXISTS :"schema".token_usage (
  id               uuid        PRIMARY KEY,
  organization_id  text        NOT NULL CHECK (organization_id <> ''),
  user_id          text,
  operation        text        NOT NULL,
  model            text,
  tokens           bigint      NOT NULL,
  -- NaN is greater than infinity, and one of either would spoil a day's total for ever.
  cost             numeric     CHECK (cost > '-Infinity' AND cost < 'Infinity'),
  created_at       timestamptz NOT NULL DEFAULT now(),
  extra            jsonb,
  received_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS :"schema".token_usage_daily (
  organization_id      text        NOT NULL,
  date                 date        NOT NULL,
  total_tokens         numeric     NOT NULL,
  total_cost           numeric     NOT NULL,
  event_count          bigint      NOT NULL,
  operation_breakdown  jsonb       NOT NULL,
  last_updated         timestamptz NOT NULL,
  PRIMARY KEY (organization_id, date)
);

CREATE TABLE IF NOT EXISTS :"schema".user_events (
  id               uuid        PRIMARY KEY,
  user_id          text,
  organization_id  text        NOT NULL CHECK (organization_id <> ''),
  event_type       text        NOT NULL,
  event_data       jsonb,
  created_at       timestamptz NOT NULL DEFAULT now(),
  extra            jsonb,
  received_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS :"schema".audit_log (
  id               uuid        PRIMARY KEY,
  user_id          text,
  organization_id  text        NOT NULL CHECK (organization_id <> ''),
  action           text        NOT NULL,
  resource_id      text,
  old_value        jsonb,
  new_value        jsonb,
  created_at       timestamptz NOT NULL DEFAULT now(),
  extra            jsonb,
  received_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS :"schema".planning_notes (
  id               uuid        PRIMARY KEY,
  organization_id  text        NOT NULL CHECK (organization_id <> ''),
  user_id          text,
  content          text        NOT NULL,
  status           text        NOT NULL DEFAULT 'pending'
                               CHECK (status IN ('pending', 'incorporated', 'archived')),
  metadata         jsonb,
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now(),
  extra            jsonb,
  received_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS :"schema".agent_memory (
  id               uuid        PRIMARY KEY,
  organization_id  text        NOT NULL CHECK (organization_id <> ''),
  user_id          text,
  memory_type      text        NOT NULL,
  content          text        NOT NULL,
  importance       numeric     CHECK (importance BETWEEN 0 AND 1),
  metadata         jsonb,
  expires_at       timestamptz,
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now(),
  extra            jsonb,
  received_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS :"schema".job_queue (
  id               uuid        PRIMARY KEY,
  organization_id  text        NOT NULL CHECK (organization_id <> ''),
  kind             text        NOT NULL,
  payload          jsonb,
  scheduled_for    timestamptz NOT NULL,
  picked_up_at     timestamptz,
  completed_at     timestamptz,
  attempt_count    integer     NOT NULL DEFAULT 0 CHECK (attempt_count >= 0),
  last_error       text,
  last_attempt_at  timestamptz,
  status           text        NOT NULL DEFAULT 'pending'
                               CHECK (status IN ('pending', 'processing', 'completed', 'failed',
                                                 'cancelled', 'blocked')),
  result_id        text,
  created_at       timestamptz NOT NULL DEFAULT now(),
  extra            jsonb,
  received_at      timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);

CREATE INDEX IF NOT EXISTS token_usage_organization_id_created_at
  ON :"schema".token_usage (organization_id, created_at);
CREATE INDEX IF NOT EXISTS user_events_organization_id_created_at
  ON :"schema".user_events (organization_id, created_at);
CREATE INDEX IF NOT EXISTS audit_log_organization_id_created_at
  ON :"schema".audit_log (organization_id, created_at);
CREATE INDEX IF NOT EXISTS planning_notes_organization_id_status
  ON :"schema".planning_notes (organization_id, status);
CREATE INDEX IF NOT EXISTS agent_memory_organization_id_memory_type
  ON :"schema".agent_memory (organization_id, memory_type);
CREATE INDEX IF NOT EXISTS job_queue_due ON :"schema".job_queue (scheduled_for, id) WHERE status = 'pending';

-- The daily totals. One upsert for each organisation and day of a statement, in the order of the key, so
-- that two lanes wait for each other and never in a circle. Whoever waited adds to what the other has
-- committed. What is no longer inserted because it was there already is not in `added`.
CREATE OR REPLACE FUNCTION :"schema".add_token_usage() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $sluice$
BEGIN
  INSERT INTO :"schema".token_usage_daily AS daily
    SELECT organization_id, date, sum(tokens), sum(cost), sum(count),
           jsonb_object_agg(operation, jsonb_build_object('tokens', tokens, 'cost', cost, 'count', count)),
           clock_timestamp()
      FROM (SELECT organization_id, (created_at AT TIME ZONE 'UTC')::date AS date, operation,
                   sum(tokens) AS tokens, coalesce(sum(cost), 0) AS cost, count(*) AS count
              FROM added GROUP BY 1, 2, 3) AS per_operation
      GROUP BY organization_id, date
      ORDER BY organization_id COLLATE "C", date
  ON CONFLICT (organization_id, date) DO UPDATE SET
    total_tokens = daily.total_tokens + excluded.total_tokens,
    total_cost = daily.total_cost + excluded.total_cost,
    event_count = daily.event_count + excluded.event_count,
    operation_breakdown = :"schema".add_breakdowns(daily.operation_breakdown, excluded.operation_breakdown),
    last_updated = excluded.last_updated;
  RETURN NULL;
END
$sluice$;

CREATE OR REPLACE FUNCTION :"schema".add_breakdowns(one jsonb, other jsonb) RETURNS jsonb
  LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $sluice$
  SELECT coalesce(jsonb_object_agg(operation, sums), '{}')
    FROM (SELECT key AS operation,
                 jsonb_build_object('tokens', sum((value ->> 'tokens')::numeric),
                                    'cost', sum((value ->> 'cost')::numeric),
                                    'count', sum((value ->> 'count')::numeric)) AS sums
            FROM (SELECT * FROM jsonb_each($1) UNION ALL SELECT * FROM jsonb_each($2)) AS parts
            GROUP BY key) AS by_operation
$sluice$;

CREATE OR REPLACE TRIGGER daily_totals
  AFTER INSERT ON :"schema".token_usage REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION :"schema".add_token_usage();

-- A float8, as programs hold limits in one and Postgres takes a numeric for it too, not the other way round.
CREATE OR REPLACE FUNCTION :"schema".over_limit(org text, day date, cost_max float8) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $sluice$
  SELECT coalesce((SELECT daily.total_cost > $3::numeric FROM :"schema".token_usage_daily AS daily
                     WHERE daily.organization_id = $1 AND daily.date = $2), false)
$sluice$;

-- A producer says when a job is due, or nothing: then it is due when it was made.
CREATE OR REPLACE FUNCTION :"schema".schedule_job() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $sluice$
BEGIN
  NEW.scheduled_for := NEW.created_at;
  RETURN NEW;
END
$sluice$;

CREATE OR REPLACE TRIGGER schedule_job BEFORE INSERT ON :"schema".job_queue
  FOR EACH ROW WHEN (NEW.scheduled_for IS NULL) EXECUTE FUNCTION :"schema".schedule_job();

-- The rows are chosen in a WITH of their own: in a subquery the planner could run the choice, and its
-- LIMIT, more than once.
CREATE OR REPLACE FUNCTION :"schema".claim_jobs(n integer) RETURNS SETOF :"schema".job_queue
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $sluice$
  WITH due AS MATERIALIZED (
    SELECT id FROM :"schema".job_queue
      WHERE status = 'pending' AND scheduled_for <= now()
      ORDER BY scheduled_for, id LIMIT $1 FOR UPDATE SKIP LOCKED
  ), claimed AS (
    UPDATE :"schema".job_queue AS job
      SET status = 'processing', picked_up_at = now(), last_attempt_at = now(),
          attempt_count = job.attempt_count + 1
      FROM due WHERE job.id = due.id
      RETURNING job.*
  )
  SELECT * FROM claimed ORDER BY scheduled_for, id
$sluice$;

CREATE OR REPLACE FUNCTION :"schema".finish_job(job uuid, result text DEFAULT NULL) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $sluice$
BEGIN
  UPDATE :"schema".job_queue SET status = 'completed', completed_at = now(), result_id = $2
    WHERE id = $1 AND status = 'processing';
  IF NOT FOUND THEN
    RAISE EXCEPTION 'job % is not being processed', $1 USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END
$sluice$;

CREATE OR REPLACE FUNCTION :"schema".fail_job(job uuid, error text, attempts_max integer DEFAULT 3) RETURNS text
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $sluice$
DECLARE
  now_is text;
BEGIN
  -- 2^9 s are more than five minutes: greater powers need not be taken.
  UPDATE :"schema".job_queue
    SET status = CASE WHEN attempt_count < $3 THEN 'pending' ELSE 'failed' END,
        scheduled_for = CASE WHEN attempt_count < $3
                          THEN now() + least(interval '5 min',
                                             interval '1 s' * 2 ^ least(attempt_count, 9))
                          ELSE scheduled_for END,
        completed_at = CASE WHEN attempt_count < $3 THEN NULL ELSE now() END,
        last_error = $2
    WHERE id = $1 AND status = 'processing'
    RETURNING status INTO now_is;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'job % is not being processed', $1 USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  RETURN now_is;
END
$sluice$;

COMMENT ON TABLE :"schema".token_usage IS
  'What each call of a model used. Append-only: a correction is a new row, with negative numbers.';
COMMENT ON COLUMN :"schema".token_usage.id IS
  'Of the producer if it gave a UUID or ULID, else of the daemon.';
COMMENT ON COLUMN :"schema".token_usage.organization_id IS
  'Whose row it is: row-level security shows it to no other organisation.';
COMMENT ON COLUMN :"schema".token_usage.user_id IS 'The user it is about, by the application''s name.';
COMMENT ON COLUMN :"schema".token_usage.operation IS
  'What the tokens were used for: the keys of operation_breakdown.';
COMMENT ON COLUMN :"schema".token_usage.model IS 'The model that was asked.';
COMMENT ON COLUMN :"schema".token_usage.tokens IS 'All tokens of the call, in and out.';
COMMENT ON COLUMN :"schema".token_usage.cost IS
  'In the currency of the installation. NULL, if unknown, counts as nothing.';
COMMENT ON COLUMN :"schema".token_usage.created_at IS 'When it happened, by the producer''s clock.';
COMMENT ON COLUMN :"schema".token_usage.extra IS
  'Fields of the event that have no column. NULL if there were none.';
COMMENT ON COLUMN :"schema".token_usage.received_at IS 'When the daemon read it, by the daemon''s clock.';

COMMENT ON TABLE :"schema".token_usage_daily IS
  'Totals for each organisation and day, kept by a trigger on token_usage. Limits are checked here.';
COMMENT ON COLUMN :"schema".token_usage_daily.organization_id IS
  'Whose row it is: row-level security shows it to no other organisation.';
COMMENT ON COLUMN :"schema".token_usage_daily.date IS 'The day of created_at, by UTC.';
COMMENT ON COLUMN :"schema".token_usage_daily.total_tokens IS 'The sum of tokens.';
COMMENT ON COLUMN :"schema".token_usage_daily.total_cost IS 'The sum of cost.';
COMMENT ON COLUMN :"schema".token_usage_daily.event_count IS 'How many rows of token_usage.';
COMMENT ON COLUMN :"schema".token_usage_daily.operation_breakdown IS
  'For each operation {"tokens", "cost", "count"}.';
COMMENT ON COLUMN :"schema".token_usage_daily.last_updated IS 'When the last usage of this day came in.';

COMMENT ON TABLE :"schema".user_events IS
  'What users did. Append-only.';
COMMENT ON COLUMN :"schema".user_events.id IS
  'Of the producer if it gave a UUID or ULID, else of the daemon.';
COMMENT ON COLUMN :"schema".user_events.user_id IS 'The user it is about, by the application''s name.';
COMMENT ON COLUMN :"schema".user_events.organization_id IS
  'Whose row it is: row-level security shows it to no other organisation.';
COMMENT ON COLUMN :"schema".user_events.event_type IS 'The event''s type, such as page.opened.';
COMMENT ON COLUMN :"schema".user_events.event_data IS 'What the event says, any JSON.';
COMMENT ON COLUMN :"schema".user_events.created_at IS 'When it happened, by the producer''s clock.';
COMMENT ON COLUMN :"schema".user_events.extra IS
  'Fields of the event that have no column. NULL if there were none.';
COMMENT ON COLUMN :"schema".user_events.received_at IS 'When the daemon read it, by the daemon''s clock.';

COMMENT ON TABLE :"schema".audit_log IS
  'Who changed what. Append-only, also for the owner.';
COMMENT ON COLUMN :"schema".audit_log.id IS
  'Of the producer if it gave a UUID or ULID, else of the daemon.';
COMMENT ON COLUMN :"schema".audit_log.user_id IS 'The user it is about, by the application''s name.';
COMMENT ON COLUMN :"schema".audit_log.organization_id IS
  'Whose row it is: row-level security shows it to no other organisation.';
COMMENT ON COLUMN :"schema".audit_log.action IS 'What was done, such as role.grant.';
COMMENT ON COLUMN :"schema".audit_log.resource_id IS 'What it was done to.';
COMMENT ON COLUMN :"schema".audit_log.old_value IS 'As it was before. NULL if there was nothing.';
COMMENT ON COLUMN :"schema".audit_log.new_value IS 'As it is since. NULL if it is gone.';
COMMENT ON COLUMN :"schema".audit_log.created_at IS 'When it happened, by the producer''s clock.';
COMMENT ON COLUMN :"schema".audit_log.extra IS
  'Fields of the event that have no column. NULL if there were none.';
COMMENT ON COLUMN :"schema".audit_log.received_at IS 'When the daemon read it, by the daemon''s clock.';

COMMENT ON TABLE :"schema".planning_notes IS
  'Current state, of the application: notes that wait to be taken into a plan.';
COMMENT ON COLUMN :"schema".planning_notes.id IS
  'Of the producer if it gave a UUID or ULID, else of the daemon.';
COMMENT ON COLUMN :"schema".planning_notes.organization_id IS
  'Whose row it is: row-level security shows it to no other organisation.';
COMMENT ON COLUMN :"schema".planning_notes.user_id IS 'The user it is about, by the application''s name.';
COMMENT ON COLUMN :"schema".planning_notes.content IS 'The note.';
COMMENT ON COLUMN :"schema".planning_notes.status IS 'pending, incorporated or archived.';
COMMENT ON COLUMN :"schema".planning_notes.metadata IS 'Whatever else is known, any JSON.';
COMMENT ON COLUMN :"schema".planning_notes.created_at IS 'When it happened, by the producer''s clock.';
COMMENT ON COLUMN :"schema".planning_notes.updated_at IS 'When this row last changed.';
COMMENT ON COLUMN :"schema".planning_notes.extra IS
  'Fields of the event that have no column. NULL if there were none.';
COMMENT ON COLUMN :"schema".planning_notes.received_at IS
  'When the daemon read it, by the daemon''s clock.';

COMMENT ON TABLE :"schema".agent_memory IS
  'Current state, of the application: what agents remember.';
COMMENT ON COLUMN :"schema".agent_memory.id IS
  'Of the producer if it gave a UUID or ULID, else of the daemon.';
COMMENT ON COLUMN :"schema".agent_memory.organization_id IS
  'Whose row it is: row-level security shows it to no other organisation.';
COMMENT ON COLUMN :"schema".agent_memory.user_id IS 'The user it is about, by the application''s name.';
COMMENT ON COLUMN :"schema".agent_memory.memory_type IS 'What kind of memory, such as fact or preference.';
COMMENT ON COLUMN :"schema".agent_memory.content IS 'What is remembered.';
COMMENT ON COLUMN :"schema".agent_memory.importance IS '0 to 1.';
COMMENT ON COLUMN :"schema".agent_memory.metadata IS 'Whatever else is known, any JSON.';
COMMENT ON COLUMN :"schema".agent_memory.expires_at IS 'When it is to be forgotten. NULL: never.';
COMMENT ON COLUMN :"schema".agent_memory.created_at IS 'When it happened, by the producer''s clock.';
COMMENT ON COLUMN :"schema".agent_memory.updated_at IS 'When this row last changed.';
COMMENT ON COLUMN :"schema".agent_memory.extra IS
  'Fields of the event that have no column. NULL if there were none.';
COMMENT ON COLUMN :"schema".agent_memory.received_at IS 'When the daemon read it, by the daemon''s clock.';

COMMENT ON TABLE :"schema".job_queue IS
  'Current state, of the workers: claim_jobs, finish_job and fail_job move jobs on.';
COMMENT ON COLUMN :"schema".job_queue.id IS
  'Of the producer if it gave a UUID or ULID, else of the daemon.';
COMMENT ON COLUMN :"schema".job_queue.organization_id IS
  'Whose row it is: row-level security shows it to no other organisation.';
COMMENT ON COLUMN :"schema".job_queue.kind IS 'What kind of work.';
COMMENT ON COLUMN :"schema".job_queue.payload IS 'What the work is, any JSON.';
COMMENT ON COLUMN :"schema".job_queue.scheduled_for IS
  'Not to be started before; created_at if the producer did not say. Moves with each failure.';
COMMENT ON COLUMN :"schema".job_queue.picked_up_at IS 'When it was last claimed.';
COMMENT ON COLUMN :"schema".job_queue.completed_at IS 'When it was completed or given up.';
COMMENT ON COLUMN :"schema".job_queue.attempt_count IS 'How often it was claimed.';
COMMENT ON COLUMN :"schema".job_queue.last_error IS 'What the last failure said.';
COMMENT ON COLUMN :"schema".job_queue.last_attempt_at IS 'When the last attempt began.';
COMMENT ON COLUMN :"schema".job_queue.status IS
  'pending, processing, completed, failed, cancelled or blocked.';
COMMENT ON COLUMN :"schema".job_queue.result_id IS 'What came of it, as finish_job said.';
COMMENT ON COLUMN :"schema".job_queue.created_at IS 'When it happened, by the producer''s clock.';
COMMENT ON COLUMN :"schema".job_queue.extra IS
  'Fields of the event that have no column. NULL if there were none.';
COMMENT ON COLUMN :"schema".job_queue.received_at IS 'When the daemon read it, by the daemon''s clock.';

-- Who could make a trigger with it on a table of his own would write totals of any organisation.
REVOKE EXECUTE ON FUNCTION :"schema".add_token_usage(), :"schema".schedule_job() FROM PUBLIC;

COMMENT ON FUNCTION :"schema".add_token_usage() IS
  'Adds a statement''s rows of token_usage to token_usage_daily.';
COMMENT ON FUNCTION :"schema".add_breakdowns(jsonb, jsonb) IS
  'The sums, operation by operation, of two operation_breakdowns.';
COMMENT ON FUNCTION :"schema".over_limit(text, date, float8) IS
  'Whether an organisation spent more than so much on a day (UTC). False where it spent nothing.';
COMMENT ON FUNCTION :"schema".claim_jobs(integer) IS
  'Takes up to n jobs that are due, the longest due first; two workers never get the same one.';
COMMENT ON FUNCTION :"schema".finish_job(uuid, text) IS
  'Completes a job that was claimed. 55000 if it is not being processed.';
COMMENT ON FUNCTION :"schema".fail_job(uuid, text, integer) IS
  'Puts a job that was claimed back, due in 1 s x 2^attempt_count and at most 5 minutes, or gives it up after so many attempts. Returns its status; 55000 if it is not being processed.';
COMMENT ON FUNCTION :"schema".schedule_job() IS
  'Makes a job due at once if its producer did not say when.';

DO $sluice$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['token_usage', 'user_events', 'audit_log'] LOOP
    EXECUTE format('CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION %I.refuse_change()', :'schema', name, :'own_schema');
    EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON %I.%I FROM PUBLIC', :'schema', name);
  END LOOP;
  FOREACH name IN ARRAY ARRAY['planning_notes', 'agent_memory'] LOOP
    EXECUTE format('CREATE OR REPLACE TRIGGER updated_at BEFORE UPDATE ON %I.%I '
                   'FOR EACH ROW EXECUTE FUNCTION %I.set_updated_at()', :'schema', name, :'own_schema');
  END LOOP;
END
$sluice$;

-- Every role but the owner sees the organisation that it says it works for, and none if it says none:
-- SET LOCAL app.current_org_id = '…', in a transaction, which a pooler too keeps to one client. An empty
-- setting is what SET LOCAL leaves behind. What is there already is left alone, as these take locks that
-- wait for readers.
DO $sluice$
DECLARE
  name text;
  target regclass;
BEGIN
  FOREACH name IN ARRAY ARRAY['token_usage', 'token_usage_daily', 'user_events', 'audit_log',
                              'planning_notes', 'agent_memory', 'job_queue'] LOOP
    target := format('%I.%I', :'schema', name);
    IF NOT (SELECT relrowsecurity FROM pg_class WHERE oid = target) THEN
      EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = target AND polname = 'one_organization') THEN
      EXECUTE format('CREATE POLICY one_organization ON %s '
                     'USING (organization_id = nullif(current_setting(''app.current_org_id'', true), ''''))',
                     target);
    END IF;
  END LOOP;
END
$sluice$;

-- What `sluice show` prints. Row-level security says whose rows the caller sees.
CREATE OR REPLACE FUNCTION :"schema".everything_about_operations(id uuid) RETURNS jsonb
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $sluice$
DECLARE
  name text;
  found jsonb;
  neighbours jsonb;
  about jsonb := '{}';
BEGIN
  FOREACH name IN ARRAY ARRAY['token_usage', 'user_events', 'audit_log', 'planning_notes', 'agent_memory',
                              'job_queue'] LOOP
    EXECUTE format('SELECT to_jsonb(t) FROM %I.%I t WHERE t.id = $1', :'schema', name) INTO found USING $1;
    CONTINUE WHEN found IS NULL;
    EXECUTE format(
      'SELECT jsonb_build_object('
      '  %3$L, coalesce((SELECT jsonb_agg(to_jsonb(n) ORDER BY n.created_at, n.id)'
      '                    FROM (SELECT * FROM %1$I.%2$I t WHERE t.organization_id = $1'
      '                             AND (t.created_at, t.id) < ($2, $3)'
      '                           ORDER BY t.created_at DESC, t.id DESC LIMIT 10) n), ''[]''),'
      '  %4$L, coalesce((SELECT jsonb_agg(to_jsonb(n) ORDER BY n.created_at, n.id)'
      '                    FROM (SELECT * FROM %1$I.%2$I t WHERE t.organization_id = $1'
      '                             AND (t.created_at, t.id) > ($2, $3)'
      '                           ORDER BY t.created_at, t.id LIMIT 10) n), ''[]''))',
      :'schema', name, name || '_before', name || '_after')
      INTO neighbours
      USING found ->> 'organization_id', (found ->> 'created_at')::timestamptz, $1;
    about := about || jsonb_build_object('id', $1, name, found) || neighbours;
    IF name = 'token_usage' THEN
      about := about || jsonb_build_object('token_usage_daily', (
        SELECT to_jsonb(d) FROM :"schema".token_usage_daily d
         WHERE d.organization_id = found ->> 'organization_id'
           AND d.date = ((found ->> 'created_at')::timestamptz AT TIME ZONE 'UTC')::date));
    END IF;
  END LOOP;
  RETURN nullif(about, '{}');
END
$sluice$;
COMMENT ON FUNCTION :"schema".everything_about_operations(uuid) IS
  'The row with that id, of any of the tables, with the ten before and the ten after it of the same organisation; of usage the day''s total too. '
  'NULL if there is none that the caller may see.';
