-- agent_log: the memory of an autonomous agent. Events are facts: they are added and never changed.
--
-- The key and the partitioning follow --partition. The table is partitioned by occurred_at and not
-- by received_at: it is the time that people ask about, and an event that is sent again has the same
-- one, so that the key (id, occurred_at) still recognises it.

CREATE TABLE IF NOT EXISTS :"schema".events (
  id            uuid        NOT NULL,
  occurred_at   timestamptz NOT NULL,
  type          text        NOT NULL,
  source        text,
  session_id    text,
  parent_id     uuid,
  data          jsonb,
  extra         jsonb,
  received_at   timestamptz NOT NULL,
  producer_uid  bigint,
  dedupe_key    text,
  PRIMARY KEY (:primary_key)
):partition_by;

-- Groupings are things of their own, and relationships rows of their own: they may be recognised long
-- after the events, and interpretations change where facts don't. No foreign keys: an edge may arrive
-- before what it joins, or be inferred later.
CREATE TABLE IF NOT EXISTS :"schema".nodes (
  id           uuid        PRIMARY KEY,
  kind         text        NOT NULL,
  name         text,
  created_at   timestamptz NOT NULL,
  data         jsonb,
  extra        jsonb,
  received_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS :"schema".edges (
  from_id      uuid        NOT NULL,
  to_id        uuid        NOT NULL,
  kind         text        NOT NULL,
  created_at   timestamptz NOT NULL,
  data         jsonb,
  extra        jsonb,
  received_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (from_id, to_id, kind)
);

-- Tables of these names may have been there before, for another purpose.
DO $sluice$
BEGIN
  PERFORM :"own_schema".require_table(format('%I.events', :'schema'),
    'id uuid, occurred_at timestamp with time zone, type text, source text, session_id text,
     parent_id uuid, data jsonb, extra jsonb, received_at timestamp with time zone,
     producer_uid bigint, dedupe_key text');
  PERFORM :"own_schema".require_table(format('%I.nodes', :'schema'),
    'id uuid, kind text, name text, created_at timestamp with time zone, data jsonb, extra jsonb,
     received_at timestamp with time zone');
  PERFORM :"own_schema".require_table(format('%I.edges', :'schema'),
    'from_id uuid, to_id uuid, kind text, created_at timestamp with time zone, data jsonb, extra jsonb,
     received_at timestamp with time zone');
  IF :'partition' <> 'none'
     AND (SELECT relkind FROM pg_class WHERE oid = to_regclass(format('%I.events', :'schema'))) <> 'p' THEN
    RAISE EXCEPTION '%.events is there already and is not partitioned: leave out --partition, or choose another schema with --schema',
      :'schema' USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END
$sluice$;

-- Indexes cost speed: these are what every reader needs. BRIN keeps one entry per 128 pages.
CREATE INDEX IF NOT EXISTS events_occurred_at_brin ON :"schema".events USING brin (occurred_at);
CREATE INDEX IF NOT EXISTS events_received_at_brin ON :"schema".events USING brin (received_at);
CREATE INDEX IF NOT EXISTS nodes_kind ON :"schema".nodes (kind);
CREATE INDEX IF NOT EXISTS edges_to_id ON :"schema".edges (to_id);

DO $sluice$
BEGIN
  IF :'index' = 'full' THEN
    CREATE INDEX IF NOT EXISTS events_type ON :"schema".events (type, occurred_at);
    CREATE INDEX IF NOT EXISTS events_session_id ON :"schema".events (session_id, occurred_at)
      WHERE session_id IS NOT NULL;
  END IF;
END
$sluice$;

COMMENT ON TABLE :"schema".events IS
  'What agents did, one row per event, as sluice received it. Append-only: a correction is a new row.';
COMMENT ON COLUMN :"schema".events.id IS
  'Of the producer if it gave a UUID or ULID, else a UUIDv7 of the daemon, which sorts by time of receipt.';
COMMENT ON COLUMN :"schema".events.occurred_at IS
  'When the agent chose to act, by its own clock; the time of receipt if it did not say.';
COMMENT ON COLUMN :"schema".events.type IS 'What kind of event, such as tool.call.';
COMMENT ON COLUMN :"schema".events.source IS 'Who says so: the agent or program, by its own name.';
COMMENT ON COLUMN :"schema".events.session_id IS 'The session it belongs to, in the simple case of one.';
COMMENT ON COLUMN :"schema".events.parent_id IS 'The event that led to this one, in the simple case of one.';
COMMENT ON COLUMN :"schema".events.data IS
  'What the event says, any JSON. Outcomes: status (success, failure, timeout, cancelled), ended_at, error.';
COMMENT ON COLUMN :"schema".events.extra IS
  'Fields that have no column, and fields whose value did not fit theirs. NULL if there were none.';
COMMENT ON COLUMN :"schema".events.received_at IS 'When the daemon read it, by the daemon''s clock.';
COMMENT ON COLUMN :"schema".events.producer_uid IS
  'The user that wrote it to the Unix socket, as the kernel says. NULL over TCP.';
COMMENT ON COLUMN :"schema".events.dedupe_key IS 'The key by which its producer recognises the same event sent again.';

COMMENT ON TABLE :"schema".nodes IS
  'What groups events: sessions, phases, executions, attempts, goals, plans. Append-only.';
COMMENT ON COLUMN :"schema".nodes.id IS 'Of the producer, so that its edges can name it.';
COMMENT ON COLUMN :"schema".nodes.kind IS
  'session, phase, execution, attempt, goal, plan or what else groups events.';
COMMENT ON COLUMN :"schema".nodes.name IS 'For people.';
COMMENT ON COLUMN :"schema".nodes.created_at IS 'When it began, or was recognised: as its producer says.';
COMMENT ON COLUMN :"schema".nodes.data IS
  'Any JSON. A session''s session_id here says that events with that session_id belong to it.';
COMMENT ON COLUMN :"schema".nodes.extra IS 'Fields that have no column.';
COMMENT ON COLUMN :"schema".nodes.received_at IS 'When the daemon read it, by the daemon''s clock.';
COMMENT ON TABLE :"schema".edges IS
  'What has to do with what: from an event or node to an event or node. Append-only, and either end may be unknown yet.';
COMMENT ON COLUMN :"schema".edges.from_id IS
  'The one that depends, refines, tests, retries, belongs: an event''s or a node''s id.';
COMMENT ON COLUMN :"schema".edges.to_id IS
  'The one that is depended on, refined, tested, tried again, belonged to: an event''s or a node''s id.';
COMMENT ON COLUMN :"schema".edges.kind IS
  'depends_on, refines, tests, generated, retries, belongs_to, fulfils or what else; belongs_to and retries have a meaning here.';
COMMENT ON COLUMN :"schema".edges.created_at IS 'When the relationship began or was inferred.';
COMMENT ON COLUMN :"schema".edges.data IS 'Any JSON, such as how sure the inference is.';
COMMENT ON COLUMN :"schema".edges.extra IS 'Fields that have no column.';
COMMENT ON COLUMN :"schema".edges.received_at IS 'When the daemon read it, by the daemon''s clock.';

CREATE OR REPLACE TRIGGER append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON :"schema".events
  FOR EACH STATEMENT EXECUTE FUNCTION :"own_schema".refuse_change();
CREATE OR REPLACE TRIGGER append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON :"schema".nodes
  FOR EACH STATEMENT EXECUTE FUNCTION :"own_schema".refuse_change();
CREATE OR REPLACE TRIGGER append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON :"schema".edges
  FOR EACH STATEMENT EXECUTE FUNCTION :"own_schema".refuse_change();

REVOKE UPDATE, DELETE, TRUNCATE ON :"schema".events, :"schema".nodes, :"schema".edges FROM PUBLIC;

SELECT :"own_schema".adopt_partitioned(to_regclass(format('%I.events', :'schema')), :'partition',
                                       'occurred_at', NULL, NULL, NULL);

-- Whatever producers write as a time, without an error for what is none: a view must not fail for one
-- row. The same forms as the daemon takes: RFC 3339 with a zone, or a number since the epoch.
CREATE OR REPLACE FUNCTION :"own_schema".time_of(value jsonb) RETURNS timestamptz
  LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog AS $sluice$
DECLARE
  written text := value #>> '{}';
  number numeric;
  result timestamptz;
BEGIN
  IF jsonb_typeof(value) = 'number' THEN
    number := value::numeric;
    IF number NOT BETWEEN 0 AND 1e19 THEN
      RETURN NULL;
    END IF;
    result := to_timestamp((number / CASE WHEN number < 1e11 THEN 1 WHEN number < 1e14 THEN 1e3
                                          WHEN number < 1e17 THEN 1e6 ELSE 1e9 END)::float8);
  ELSIF jsonb_typeof(value) = 'string' AND written ~ '^(19[7-9]\d|2[01]\d\d)-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d{1,20})?([Zz]|[+-](0\d|1[0-5]):?[0-5]\d)$'
        AND substr(written, 9, 2)::int
            <= extract(day FROM to_date(substr(written, 1, 7), 'YYYY-MM') + interval '1 month - 1 day') THEN
    result := written::timestamptz;
  END IF;
  RETURN CASE WHEN result < '2201-01-01Z' THEN result END;
END
$sluice$;
COMMENT ON FUNCTION :"own_schema".time_of(jsonb) IS
  'A time as the daemon reads it: RFC 3339 with a zone, or seconds to nanoseconds since 1970. NULL for all else.';

CREATE OR REPLACE VIEW :"schema".outcomes AS
  SELECT id, type, source, session_id,
         CASE WHEN data ->> 'status' IN ('success', 'failure', 'timeout', 'cancelled')
              THEN data ->> 'status' END AS status,
         occurred_at AS started,
         ended,
         ended - occurred_at AS duration,
         data -> 'error' AS error
    FROM :"schema".events
    CROSS JOIN LATERAL (SELECT :"own_schema".time_of(data -> 'ended_at') AS ended) e;
COMMENT ON VIEW :"schema".outcomes IS
  'How each event came out, by its data. status is NULL where it says none of the four, ended and duration where it has not ended.';

CREATE OR REPLACE VIEW :"schema".failures AS
  SELECT o.*,
         CASE jsonb_typeof(error) WHEN 'object' THEN coalesce(error ->> 'message', error::text)
                                  ELSE error #>> '{}' END AS message,
         EXISTS (SELECT FROM :"schema".edges WHERE to_id = o.id AND edges.kind = 'retries') AS retried
    FROM :"schema".outcomes o
   WHERE status IN ('failure', 'timeout');
COMMENT ON VIEW :"schema".failures IS
  'Events that failed or timed out. message: what the error says in one text; retried: something tried it again.';

-- belongs_to goes on over nodes that belong to nodes: a phase's events are its session's too.
CREATE OR REPLACE VIEW :"schema".memberships AS
  WITH RECURSIVE member (node_id, id) AS (
    SELECT to_id, from_id FROM :"schema".edges WHERE kind = 'belongs_to'
    UNION
    SELECT m.node_id, e.from_id FROM member m
      JOIN :"schema".edges e ON e.to_id = m.id AND e.kind = 'belongs_to'
  )
  SELECT node_id, id FROM member;
COMMENT ON VIEW :"schema".memberships IS
  'Which events and nodes (id) belong to which node, over any number of belongs_to edges.';

CREATE OR REPLACE FUNCTION :"schema".members_of(node uuid) RETURNS SETOF uuid
  LANGUAGE sql STABLE SET search_path = pg_catalog AS $sluice$
  WITH RECURSIVE member (id) AS (
    SELECT from_id FROM :"schema".edges WHERE to_id = node AND kind = 'belongs_to'
    UNION
    SELECT e.from_id FROM member m
      JOIN :"schema".edges e ON e.to_id = m.id AND e.kind = 'belongs_to'
  )
  SELECT id FROM member;
$sluice$;
COMMENT ON FUNCTION :"schema".members_of(uuid) IS
  'The ids of what belongs to a node, over any number of belongs_to edges.';

CREATE OR REPLACE FUNCTION :"schema".session_key(node :"schema".nodes) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog AS $sluice$
  SELECT coalesce(node.data ->> 'session_id', node.id::text);
$sluice$;
COMMENT ON FUNCTION :"schema".session_key(:"schema".nodes) IS
  'The session_id that a session''s events carry: the one that its data names, else its own id.';

CREATE OR REPLACE VIEW :"schema".sessions AS
  WITH RECURSIVE session_node AS (
    SELECT id, name, :"schema".session_key(n) AS session_id FROM :"schema".nodes n WHERE kind = 'session'
  ), member (session_id, id) AS (
    SELECT s.session_id, e.from_id FROM session_node s
      JOIN :"schema".edges e ON e.to_id = s.id AND e.kind = 'belongs_to'
    UNION
    SELECT m.session_id, e.from_id FROM member m
      JOIN :"schema".edges e ON e.to_id = m.id AND e.kind = 'belongs_to'
  ), belonging (session_id, name, id, started, status) AS (
    SELECT session_id, NULL, id, started, status FROM :"schema".outcomes WHERE session_id IS NOT NULL
    UNION ALL
    SELECT m.session_id, NULL, o.id, o.started, o.status FROM member m
      JOIN :"schema".outcomes o ON o.id = m.id AND o.session_id IS DISTINCT FROM m.session_id
    UNION ALL
    SELECT session_id, name, NULL, NULL, NULL FROM session_node
  )
  SELECT session_id, max(name) AS name, min(started) AS first, max(started) AS last,
         count(id) AS count, count(id) FILTER (WHERE status IN ('failure', 'timeout')) AS failures
    FROM belonging
   GROUP BY session_id;
COMMENT ON VIEW :"schema".sessions IS
  'Every session, whether events name it as their session_id or belong to its node by edges; an event that does both counts once. failures: failed or timed out.';

CREATE OR REPLACE FUNCTION :"schema".session_events(
    session text, since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity')
  RETURNS SETOF :"schema".events
  LANGUAGE sql STABLE SET search_path = pg_catalog AS $sluice$
  SELECT e.* FROM :"schema".events e
   WHERE e.session_id = session AND e.occurred_at BETWEEN since AND until
  UNION ALL
  SELECT e.* FROM :"schema".events e
   WHERE e.session_id IS DISTINCT FROM session AND e.occurred_at BETWEEN since AND until
     AND e.id = ANY (ARRAY(SELECT m FROM :"schema".nodes n, :"schema".members_of(n.id) m
                            WHERE n.kind = 'session' AND :"schema".session_key(n) = session))
   ORDER BY occurred_at, id;
$sluice$;
COMMENT ON FUNCTION :"schema".session_events(text, timestamptz, timestamptz) IS
  'The events of a session in their order, by session_id and by edges; without --index full give it a time, or it reads the whole table.';

-- An event or a node in a few words, for the other end of an edge. NULL: nothing is known of it yet.
CREATE OR REPLACE FUNCTION :"schema".brief_of(id uuid) RETURNS jsonb
  LANGUAGE sql STABLE SET search_path = pg_catalog AS $sluice$
  SELECT coalesce(
    (SELECT jsonb_build_object('is', 'event', 'id', o.id, 'type', o.type, 'occurred_at', o.started,
                               'status', o.status)
       FROM :"schema".outcomes o WHERE o.id = brief_of.id ORDER BY o.started LIMIT 1),
    (SELECT jsonb_build_object('is', 'node', 'id', n.id, 'kind', n.kind, 'name', n.name)
       FROM :"schema".nodes n WHERE n.id = brief_of.id));
$sluice$;
COMMENT ON FUNCTION :"schema".brief_of(uuid) IS
  'An event or a node in a few words; NULL if neither has arrived.';

-- The attempts of one deed, in their order: what it tried again and what tried it again, and so on.
CREATE OR REPLACE FUNCTION :"schema".attempts_of(id uuid)
  RETURNS TABLE (attempt uuid, started timestamptz, status text)
  LANGUAGE sql STABLE SET search_path = pg_catalog AS $sluice$
  WITH RECURSIVE attempt (id) AS (
    SELECT attempts_of.id
    UNION
    SELECT CASE WHEN e.from_id = a.id THEN e.to_id ELSE e.from_id END FROM attempt a
      JOIN :"schema".edges e ON e.kind = 'retries' AND (e.from_id = a.id OR e.to_id = a.id)
  )
  SELECT a.id, o.started, o.status FROM attempt a
    LEFT JOIN :"schema".outcomes o ON o.id = a.id
   ORDER BY o.started NULLS LAST, a.id;
$sluice$;
COMMENT ON FUNCTION :"schema".attempts_of(uuid) IS
  'An event and all that it retries or that retries it, over any number of retries edges, first attempt first.';

-- The sessions of an event or node: its session_id, and those that it belongs to by edges.
CREATE OR REPLACE FUNCTION :"schema".sessions_of(id uuid) RETURNS SETOF text
  LANGUAGE sql STABLE SET search_path = pg_catalog AS $sluice$
  WITH RECURSIVE above (id) AS (
    SELECT sessions_of.id
    UNION
    SELECT e.to_id FROM above a JOIN :"schema".edges e ON e.from_id = a.id AND e.kind = 'belongs_to'
  )
  SELECT e.session_id FROM :"schema".events e WHERE e.id = sessions_of.id AND e.session_id IS NOT NULL
  UNION
  SELECT :"schema".session_key(n) FROM above JOIN :"schema".nodes n ON n.id = above.id
   WHERE n.kind = 'session'
  ORDER BY 1;
$sluice$;
COMMENT ON FUNCTION :"schema".sessions_of(uuid) IS
  'The sessions of an event or node: its session_id and those whose node it belongs to.';

-- A session around a moment: ten events before and ten after. Looks no further than a day, so that the
-- index of times is enough to find them.
CREATE OR REPLACE FUNCTION :"schema".session_around(session text, event_id uuid, moment timestamptz)
  RETURNS jsonb
  LANGUAGE sql STABLE SET search_path = pg_catalog AS $sluice$
  WITH near AS MATERIALIZED (
    SELECT e.id, e.occurred_at
      FROM :"schema".session_events(session, moment - interval '1 day', moment + interval '1 day') e
     WHERE e.id <> event_id
  ), before AS (
    SELECT * FROM near WHERE (occurred_at, id) < (moment, event_id)
     ORDER BY occurred_at DESC, id DESC LIMIT 10
  ), after AS (
    SELECT * FROM near WHERE (occurred_at, id) > (moment, event_id) ORDER BY occurred_at, id LIMIT 10
  )
  SELECT jsonb_build_object(
    'session_id', session,
    'before', coalesce((SELECT jsonb_agg(:"schema".brief_of(id) ORDER BY occurred_at, id) FROM before), '[]'),
    'after', coalesce((SELECT jsonb_agg(:"schema".brief_of(id) ORDER BY occurred_at, id) FROM after), '[]'));
$sluice$;
COMMENT ON FUNCTION :"schema".session_around(text, uuid, timestamptz) IS
  'The ten events of a session before an event and the ten after it, as far as a day away.';

-- How far what belongs to a node has come.
CREATE OR REPLACE FUNCTION :"schema".summary_of(node :"schema".nodes) RETURNS jsonb
  LANGUAGE sql STABLE SET search_path = pg_catalog AS $sluice$
  SELECT jsonb_build_object('first', min(o.started), 'last', max(o.started), 'count', count(*),
                            'failures', count(*) FILTER (WHERE o.status IN ('failure', 'timeout')))
    FROM :"schema".outcomes o
   WHERE o.id = ANY (ARRAY(SELECT :"schema".members_of(node.id)))
      OR node.kind = 'session' AND o.session_id = :"schema".session_key(node);
$sluice$;
COMMENT ON FUNCTION :"schema".summary_of(:"schema".nodes) IS
  'First, last, count and failures of the events that belong to a node; a session''s by session_id too.';

-- Children are looked for from a day before the event on: clocks differ, but an effect is not older
-- than that, and the index of times does the rest.
CREATE OR REPLACE FUNCTION :"schema".everything_about(id uuid) RETURNS jsonb
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $sluice$
DECLARE
  event :"schema".events;
  node :"schema".nodes;
  about jsonb;
BEGIN
  SELECT * INTO event FROM :"schema".events e WHERE e.id = everything_about.id
    ORDER BY e.occurred_at LIMIT 1;
  SELECT * INTO node FROM :"schema".nodes n WHERE n.id = everything_about.id;
  about := jsonb_build_object(
    'id', everything_about.id,
    'event', CASE WHEN event.id IS NOT NULL THEN to_jsonb(event) END,
    'node', CASE WHEN node.id IS NOT NULL THEN to_jsonb(node) END,
    'edges_out', coalesce((
      SELECT jsonb_agg(jsonb_build_object('kind', e.kind, 'to_id', e.to_id, 'to', :"schema".brief_of(e.to_id),
                                          'created_at', e.created_at, 'data', e.data)
                       ORDER BY e.created_at, e.to_id, e.kind)
        FROM :"schema".edges e WHERE e.from_id = everything_about.id), '[]'),
    'edges_in', coalesce((
      SELECT jsonb_agg(jsonb_build_object('kind', e.kind, 'from_id', e.from_id,
                                          'from', :"schema".brief_of(e.from_id),
                                          'created_at', e.created_at, 'data', e.data)
                       ORDER BY e.created_at, e.from_id, e.kind)
        FROM :"schema".edges e WHERE e.to_id = everything_about.id), '[]'));
  IF event.id IS NOT NULL THEN
    about := about || jsonb_build_object(
      'outcome', (SELECT to_jsonb(o) - ARRAY['id', 'type', 'source', 'session_id']
                    FROM :"schema".outcomes o WHERE o.id = event.id AND o.started = event.occurred_at),
      'attempts', (SELECT jsonb_agg(jsonb_build_object('id', a.attempt, 'occurred_at', a.started,
                                                       'status', a.status)
                                    ORDER BY a.started NULLS LAST, a.attempt)
                     FROM :"schema".attempts_of(event.id) a),
      'parent', :"schema".brief_of(event.parent_id),
      'children', coalesce((
        SELECT jsonb_agg(:"schema".brief_of(c.id) ORDER BY c.occurred_at, c.id)
          FROM :"schema".events c
         WHERE c.parent_id = event.id AND c.occurred_at >= event.occurred_at - interval '1 day'), '[]'),
      'sessions', coalesce((
        SELECT jsonb_agg(:"schema".session_around(s, event.id, event.occurred_at) ORDER BY s)
          FROM :"schema".sessions_of(event.id) s), '[]'));
  END IF;
  IF node.id IS NOT NULL THEN
    about := about || jsonb_build_object('summary', :"schema".summary_of(node));
  END IF;
  IF event.id IS NULL AND node.id IS NULL AND about -> 'edges_out' = '[]' AND about -> 'edges_in' = '[]' THEN
    RETURN NULL;
  END IF;
  RETURN about;
END
$sluice$;
COMMENT ON FUNCTION :"schema".everything_about(uuid) IS
  'All that is known about an event or node, as one object: itself, its edges out and in with what is at their other end, '
  'for an event its outcome, attempts, parent, children and the neighbours in its sessions, for a node the summary of what belongs to it. '
  'NULL if nothing is known.';
