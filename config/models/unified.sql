-- unified: events as history, things as current state.
--
-- Events are facts. Things and relationships follow from them: a trigger applies each mutation in the
-- order of (event time, id), whatever order it arrives in, and rebuild_things() makes the same of the
-- events alone. The event table has plain columns of plain types, without arrays, enums and generated
-- columns, so that it moves to a columnar engine as it is.

-- Names: of a namespace, and of what is in it.
CREATE OR REPLACE FUNCTION :"schema".is_ns(ns text) RETURNS boolean
  LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $sluice$
  SELECT ns ~ '^[a-z0-9.-]+(/[a-z0-9.-]+)*$';
$sluice$;
COMMENT ON FUNCTION :"schema".is_ns(text) IS
  'Whether it can be a namespace: lower-case letters, digits, dots and dashes, in parts between single slashes.';

CREATE OR REPLACE FUNCTION :"schema".is_thing_id(id text) RETURNS boolean
  LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $sluice$
  SELECT char_length(id) BETWEEN 1 AND 2048;
$sluice$;
COMMENT ON FUNCTION :"schema".is_thing_id(text) IS
  'Whether it can name a thing in its namespace: 1 to 2048 characters, spaces and slashes too; id#variant names a variant.';

-- A mutation of a relationship names its ends and its type: all when it is created, else what changes.
CREATE OR REPLACE FUNCTION :"schema".is_relationship_data(data jsonb, created boolean) RETURNS boolean
  LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog AS $sluice$
BEGIN
  IF created AND NOT coalesce(data ?& ARRAY['type', 'from_ns', 'from_id', 'to_ns', 'to_id'], false) THEN
    RETURN false;
  END IF;
  RETURN (NOT coalesce(data ? 'type', false) OR coalesce(data ->> 'type' <> '', false))
     AND (NOT coalesce(data ? 'from_ns', false) OR coalesce(:"schema".is_ns(data ->> 'from_ns'), false))
     AND (NOT coalesce(data ? 'to_ns', false) OR coalesce(:"schema".is_ns(data ->> 'to_ns'), false))
     AND (NOT coalesce(data ? 'from_id', false) OR coalesce(:"schema".is_thing_id(data ->> 'from_id'), false))
     AND (NOT coalesce(data ? 'to_id', false) OR coalesce(:"schema".is_thing_id(data ->> 'to_id'), false));
END
$sluice$;
COMMENT ON FUNCTION :"schema".is_relationship_data(jsonb, boolean) IS
  'Whether type, from_ns, from_id, to_ns and to_id can be a relationship''s; all must be there when it is created.';

CREATE TABLE IF NOT EXISTS :"schema".events (
  id                  uuid             NOT NULL,
  "timestamp"         timestamptz      NOT NULL,
  event_timestamp     timestamptz,
  event_type          text             NOT NULL,
  mutation_type       text,
  entity_ns           text,
  entity_id           text,
  entity_type         text,
  source              text,
  script_name         text,
  dispatch_namespace  text,
  request_url         text,
  request_method      text,
  request_ray         text,
  request_user_agent  text,
  request_ip          text,
  response_status     int,
  response_outcome    text,
  rpc_method          text,
  severity            text,
  category            text,
  error_type          text,
  error_message       text,
  error_message_cut   boolean          NOT NULL DEFAULT false,
  has_exception       boolean          NOT NULL DEFAULT false,
  cpu_time_ms         double precision,
  wall_time_ms        double precision,
  data                jsonb,
  metadata            jsonb,
  logs                jsonb,
  log_count           int              NOT NULL DEFAULT 0,
  exceptions          jsonb,
  exception_count     int              NOT NULL DEFAULT 0,
  extra               jsonb,
  pipeline_instance   text,
  pipeline_batch_id   text,
  pipeline_segment    uuid,
  pipeline_index      bigint,
  retry_count         int              NOT NULL DEFAULT 0,
  received_at         timestamptz      NOT NULL,
  PRIMARY KEY (:primary_key),
  CONSTRAINT event_type_is_known CHECK (event_type IN ('log', 'mutation', 'metric', 'error')),
  CONSTRAINT mutation_type_is_known CHECK (mutation_type IN ('create', 'update', 'delete')),
  CONSTRAINT entity_ns_is_one CHECK (:"schema".is_ns(entity_ns)),
  CONSTRAINT entity_id_is_one CHECK (:"schema".is_thing_id(entity_id)),
  CONSTRAINT mutation_is_whole CHECK (
    event_type <> 'mutation'
    OR mutation_type IS NOT NULL AND entity_ns IS NOT NULL AND entity_id IS NOT NULL
       AND coalesce(jsonb_typeof(data), 'null') IN ('object', 'null')),
  CONSTRAINT relationship_is_whole CHECK (
    event_type <> 'mutation' OR entity_type IS DISTINCT FROM 'relationship'
    OR mutation_type = 'delete'
    OR :"schema".is_relationship_data(data, mutation_type = 'create'))
):partition_by;

-- Mutations of partitions that were detached: things follow from their whole history.
CREATE TABLE IF NOT EXISTS :"schema".kept_mutations (
  id                  uuid             NOT NULL,
  "timestamp"         timestamptz      NOT NULL,
  event_timestamp     timestamptz,
  mutation_type       text             NOT NULL,
  entity_ns           text             NOT NULL,
  entity_id           text             NOT NULL,
  entity_type         text,
  data                jsonb,
  PRIMARY KEY (id, "timestamp")
);

CREATE TABLE IF NOT EXISTS :"schema".things (
  ns               text         NOT NULL CHECK (:"schema".is_ns(ns)),
  id               text         NOT NULL CHECK (:"schema".is_thing_id(id)),
  type             text,
  visibility       text,
  content          text,
  code             text,
  data             jsonb        NOT NULL DEFAULT '{}',
  created_at       timestamptz,
  updated_at       timestamptz,
  deleted_at       timestamptz,
  last_event_time  timestamptz,
  last_event_id    uuid,
  -- Long texts are searched by their beginning: Postgres refuses a vector of more than a megabyte.
  search_vector    tsvector     GENERATED ALWAYS AS (CASE WHEN deleted_at IS NULL THEN
    setweight(to_tsvector('pg_catalog.english', id), 'A')
    || to_tsvector('pg_catalog.english', left(coalesce(content, ''), 100000)) END) STORED,
  PRIMARY KEY (ns, id)
);

CREATE TABLE IF NOT EXISTS :"schema".relationships (
  ns               text         NOT NULL CHECK (:"schema".is_ns(ns)),
  id               text         NOT NULL CHECK (:"schema".is_thing_id(id)),
  type             text,
  from_ns          text         CHECK (:"schema".is_ns(from_ns)),
  from_id          text         CHECK (:"schema".is_thing_id(from_id)),
  to_ns            text         CHECK (:"schema".is_ns(to_ns)),
  to_id            text         CHECK (:"schema".is_thing_id(to_id)),
  data             jsonb        NOT NULL DEFAULT '{}',
  created_at       timestamptz,
  updated_at       timestamptz,
  deleted_at       timestamptz,
  last_event_time  timestamptz,
  last_event_id    uuid,
  PRIMARY KEY (ns, id)
);

-- How long a partition is hot, then warm, then cold, and where each kind is to lie.
CREATE TABLE IF NOT EXISTS :"schema".event_tiers (
  tier        text      PRIMARY KEY CHECK (tier IN ('hot', 'warm', 'cold')),
  until_age   interval  CHECK ((until_age IS NULL) = (tier = 'cold')),
  tablespace  name
);
INSERT INTO :"schema".event_tiers VALUES ('hot', '7 days'), ('warm', '30 days'), ('cold', NULL)
  ON CONFLICT (tier) DO NOTHING;

-- Tables of these names may have been there before, for another purpose.
DO $sluice$
BEGIN
  PERFORM :"own_schema".require_table(format('%I.events', :'schema'),
    'id uuid, timestamp timestamp with time zone, event_timestamp timestamp with time zone,
     event_type text, mutation_type text, entity_ns text, entity_id text, entity_type text, source text,
     script_name text, dispatch_namespace text, request_url text, request_method text,
     request_ray text, request_user_agent text, request_ip text, response_status integer,
     response_outcome text, rpc_method text, severity text, category text, error_type text,
     error_message text, error_message_cut boolean, has_exception boolean,
     cpu_time_ms double precision, wall_time_ms double precision, data jsonb, metadata jsonb, logs jsonb,
     log_count integer, exceptions jsonb, exception_count integer, extra jsonb, pipeline_instance text,
     pipeline_batch_id text, pipeline_segment uuid, pipeline_index bigint, retry_count integer,
     received_at timestamp with time zone');
  PERFORM :"own_schema".require_table(format('%I.kept_mutations', :'schema'),
    'id uuid, timestamp timestamp with time zone, event_timestamp timestamp with time zone,
     mutation_type text, entity_ns text, entity_id text, entity_type text, data jsonb');
  PERFORM :"own_schema".require_table(format('%I.things', :'schema'),
    'ns text, id text, type text, visibility text, content text, code text, data jsonb,
     created_at timestamp with time zone, updated_at timestamp with time zone,
     deleted_at timestamp with time zone, last_event_time timestamp with time zone,
     last_event_id uuid, search_vector tsvector');
  PERFORM :"own_schema".require_table(format('%I.relationships', :'schema'),
    'ns text, id text, type text, from_ns text, from_id text, to_ns text, to_id text, data jsonb,
     created_at timestamp with time zone, updated_at timestamp with time zone,
     deleted_at timestamp with time zone, last_event_time timestamp with time zone, last_event_id uuid');
  PERFORM :"own_schema".require_table(format('%I.event_tiers', :'schema'),
    'tier text, until_age interval, tablespace name');
  IF :'partition' <> 'none'
     AND (SELECT relkind FROM pg_class WHERE oid = to_regclass(format('%I.events', :'schema'))) <> 'p' THEN
    RAISE EXCEPTION '%.events is there already and is not partitioned: say --partition none, or choose another schema with --schema',
      :'schema' USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END
$sluice$;

-- Names may be long, so that keys are looked up by their hash and then compared.
CREATE OR REPLACE FUNCTION :"schema".key_of(ns text, id text) RETURNS bigint
  LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $sluice$
  SELECT pg_catalog.hashtextextended(ns || '/' || id, 0);
$sluice$;
COMMENT ON FUNCTION :"schema".key_of(text, text) IS 'What the indexes of mutations have for a name.';

CREATE INDEX IF NOT EXISTS events_timestamp_brin ON :"schema".events USING brin ("timestamp");
CREATE INDEX IF NOT EXISTS events_received_at_brin ON :"schema".events USING brin (received_at);
CREATE INDEX IF NOT EXISTS events_mutations ON :"schema".events (:"schema".key_of(entity_ns, entity_id))
  WHERE event_type = 'mutation';
CREATE INDEX IF NOT EXISTS kept_mutations_key ON :"schema".kept_mutations (:"schema".key_of(entity_ns, entity_id));
CREATE INDEX IF NOT EXISTS things_search ON :"schema".things USING gin (search_vector);
CREATE INDEX IF NOT EXISTS things_type ON :"schema".things (ns, type) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS relationships_from ON :"schema".relationships (:"schema".key_of(from_ns, from_id))
  WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS relationships_to ON :"schema".relationships (:"schema".key_of(to_ns, to_id))
  WHERE deleted_at IS NULL;

DO $sluice$
BEGIN
  IF :'index' = 'full' THEN
    CREATE INDEX IF NOT EXISTS events_event_type ON :"schema".events (event_type, "timestamp");
    CREATE INDEX IF NOT EXISTS events_script_name ON :"schema".events (script_name, "timestamp")
      WHERE script_name IS NOT NULL;
    CREATE INDEX IF NOT EXISTS events_entity ON :"schema".events (:"schema".key_of(entity_ns, entity_id), "timestamp")
      WHERE entity_id IS NOT NULL;
  END IF;
END
$sluice$;

-- What a row says of itself is completed as it is stored.
CREATE OR REPLACE FUNCTION :"schema".complete_event() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $sluice$
DECLARE
  batch text;
BEGIN
  NEW.log_count := CASE WHEN jsonb_typeof(NEW.logs) = 'array' THEN jsonb_array_length(NEW.logs) ELSE 0 END;
  NEW.exception_count :=
    CASE WHEN jsonb_typeof(NEW.exceptions) = 'array' THEN jsonb_array_length(NEW.exceptions) ELSE 0 END;
  NEW.has_exception := coalesce(NEW.has_exception, false) OR NEW.exception_count > 0;
  NEW.retry_count := coalesce(NEW.retry_count, 0);
  NEW.error_message_cut := char_length(NEW.error_message) > 1000;
  IF NEW.error_message_cut THEN
    NEW.error_message := left(NEW.error_message, 1000);
  END IF;
  NEW.error_message_cut := coalesce(NEW.error_message_cut, false);
  -- The first row of a transaction names the batch for those after it.
  IF NEW.pipeline_segment IS NOT NULL THEN
    batch := current_setting('sluice.batch', true);
    IF batch IS NULL OR left(batch, 36) <> NEW.pipeline_segment::text THEN
      batch := set_config('sluice.batch', NEW.pipeline_segment || ':' || NEW.pipeline_index, true);
    END IF;
    NEW.pipeline_batch_id := batch;
  END IF;
  RETURN NEW;
END
$sluice$;
COMMENT ON FUNCTION :"schema".complete_event() IS
  'Trigger: counts logs and exceptions, cuts a long error message and says so, names the batch.';

CREATE OR REPLACE TRIGGER complete_event BEFORE INSERT ON :"schema".events
  FOR EACH ROW EXECUTE FUNCTION :"schema".complete_event();

-- One mutation after another. `base` is where the history begins, NULL at its very beginning.
CREATE OR REPLACE FUNCTION :"schema".thing_after(
    state :"schema".things, base :"schema".things, change text, ns text, id text, type text, patch jsonb,
    at timestamptz, event_id uuid)
  RETURNS :"schema".things
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $sluice$
DECLARE
  given jsonb := CASE WHEN jsonb_typeof(patch) = 'object' THEN patch ELSE '{}' END;
  rest jsonb := given - ARRAY['type', 'visibility', 'content', 'code'];
BEGIN
  IF state.ns IS NULL THEN
    state := base;
  END IF;
  IF change = 'create' OR state.last_event_id IS NULL AND change = 'update' THEN
    state.type := NULL;
    state.visibility := NULL;
    state.content := NULL;
    state.code := NULL;
    state.data := '{}';
    state.created_at := at;
    state.deleted_at := NULL;
  END IF;
  state.ns := ns;
  state.id := id;
  state.last_event_time := at;
  state.last_event_id := event_id;
  IF change = 'delete' THEN
    state.type := coalesce(state.type, type);
    state.visibility := NULL;
    state.content := NULL;
    state.code := NULL;
    state.data := '{}';
    state.updated_at := coalesce(state.deleted_at, at);
    state.deleted_at := coalesce(state.deleted_at, at);
  ELSIF state.deleted_at IS NULL THEN
    state.type := coalesce(type, given ->> 'type', state.type);
    state.visibility := CASE WHEN given ? 'visibility' THEN given ->> 'visibility' ELSE state.visibility END;
    state.content := CASE WHEN given ? 'content' THEN given ->> 'content' ELSE state.content END;
    state.code := CASE WHEN given ? 'code' THEN given ->> 'code' ELSE state.code END;
    state.data := (state.data || rest)
                  - ARRAY(SELECT m.key FROM jsonb_each(rest) m WHERE m.value = 'null'::jsonb);
    state.updated_at := at;
  END IF;
  RETURN state;
END
$sluice$;
COMMENT ON FUNCTION :"schema".thing_after(:"schema".things, :"schema".things, text, text, text, text, jsonb, timestamptz, uuid) IS
  'A thing after one more mutation. create starts afresh; update changes the members that are given, and null takes one away; '
  'delete leaves a tombstone, which only create brings to life. An update of what never was creates it.';

CREATE OR REPLACE AGGREGATE :"schema".thing_fold(
    base :"schema".things, change text, ns text, id text, type text, patch jsonb, at timestamptz, event_id uuid) (
  SFUNC = :"schema".thing_after, STYPE = :"schema".things);
COMMENT ON AGGREGATE :"schema".thing_fold(:"schema".things, text, text, text, text, jsonb, timestamptz, uuid) IS
  'A thing after its mutations: say ORDER BY at, event_id.';

CREATE OR REPLACE FUNCTION :"schema".relationship_after(
    state :"schema".relationships, base :"schema".relationships, change text, ns text, id text, patch jsonb,
    at timestamptz, event_id uuid)
  RETURNS :"schema".relationships
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $sluice$
DECLARE
  given jsonb := CASE WHEN jsonb_typeof(patch) = 'object' THEN patch ELSE '{}' END;
  rest jsonb := given - ARRAY['type', 'from_ns', 'from_id', 'to_ns', 'to_id'];
BEGIN
  IF state.ns IS NULL THEN
    state := base;
  END IF;
  IF change = 'create' THEN
    state.data := '{}';
    state.created_at := at;
    state.deleted_at := NULL;
  ELSIF state.last_event_id IS NULL THEN
    -- Without its ends there is none: it waits as a tombstone for its creation.
    state.data := '{}';
    state.updated_at := at;
    state.deleted_at := at;
  END IF;
  state.ns := ns;
  state.id := id;
  state.last_event_time := at;
  state.last_event_id := event_id;
  IF change = 'delete' THEN
    state.data := '{}';
    state.updated_at := coalesce(state.deleted_at, at);
    state.deleted_at := coalesce(state.deleted_at, at);
  ELSIF state.deleted_at IS NULL THEN
    state.type := coalesce(given ->> 'type', state.type);
    state.from_ns := coalesce(given ->> 'from_ns', state.from_ns);
    state.from_id := coalesce(given ->> 'from_id', state.from_id);
    state.to_ns := coalesce(given ->> 'to_ns', state.to_ns);
    state.to_id := coalesce(given ->> 'to_id', state.to_id);
    state.data := (state.data || rest)
                  - ARRAY(SELECT m.key FROM jsonb_each(rest) m WHERE m.value = 'null'::jsonb);
    state.updated_at := at;
  END IF;
  RETURN state;
END
$sluice$;
COMMENT ON FUNCTION :"schema".relationship_after(:"schema".relationships, :"schema".relationships, text, text, text, jsonb, timestamptz, uuid) IS
  'A relationship after one more mutation, as thing_after; an update of what never was leaves a tombstone, as it has no ends.';

CREATE OR REPLACE AGGREGATE :"schema".relationship_fold(
    base :"schema".relationships, change text, ns text, id text, patch jsonb, at timestamptz, event_id uuid) (
  SFUNC = :"schema".relationship_after, STYPE = :"schema".relationships);
COMMENT ON AGGREGATE :"schema".relationship_fold(:"schema".relationships, text, text, text, jsonb, timestamptz, uuid) IS
  'A relationship after its mutations: say ORDER BY at, event_id.';

CREATE OR REPLACE VIEW :"schema".mutations AS
  SELECT entity_ns AS ns, entity_id AS id, :"schema".key_of(entity_ns, entity_id) AS key,
         (entity_type = 'relationship') IS TRUE AS of_relationship,
         mutation_type AS change, entity_type AS type, data AS patch,
         coalesce(event_timestamp, "timestamp") AS at, e.id AS event_id
    FROM :"schema".events e WHERE event_type = 'mutation'
  UNION ALL
  SELECT entity_ns, entity_id, :"schema".key_of(entity_ns, entity_id),
         (entity_type = 'relationship') IS TRUE,
         mutation_type, entity_type, data, coalesce(event_timestamp, "timestamp"), k.id
    FROM :"schema".kept_mutations k;
COMMENT ON VIEW :"schema".mutations IS
  'Every mutation there is, those of detached partitions too. Their order is (at, event_id).';

-- Rows of new keys are made and then all are locked, both in the order of keys: two transactions that
-- touch the same keys wait for each other and never in a circle. A row lock each, as Postgres has room
-- for few others. After the lock, what others committed is seen; what is later than the thing's last
-- event goes on from there, and a key with an event that is not is made again from its history.
--
-- Postgres plans these statements once for each connection, perhaps while things is still small. So that
-- each key is looked up by its index all the same, lookups are LATERAL with OFFSET 0, rows are found again
-- by the place where they were locked, and other kinds of joins are switched off.
CREATE OR REPLACE FUNCTION :"schema".apply_to_things() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $sluice$
BEGIN
  IF NOT EXISTS (SELECT FROM added
                   WHERE event_type = 'mutation' AND entity_type IS DISTINCT FROM 'relationship') THEN
    RETURN NULL;
  END IF;
  INSERT INTO :"schema".things (ns, id)
    SELECT entity_ns AS ns, entity_id AS id FROM added
     WHERE event_type = 'mutation' AND entity_type IS DISTINCT FROM 'relationship'
     GROUP BY entity_ns, entity_id ORDER BY entity_ns COLLATE "C", entity_id COLLATE "C"
    ON CONFLICT (ns, id) DO NOTHING;
  PERFORM FROM (SELECT entity_ns AS ns, entity_id AS id FROM added
                  WHERE event_type = 'mutation' AND entity_type IS DISTINCT FROM 'relationship'
                  GROUP BY entity_ns, entity_id ORDER BY entity_ns COLLATE "C", entity_id COLLATE "C") touched
    CROSS JOIN LATERAL (SELECT FROM :"schema".things t
                          WHERE t.ns = touched.ns AND t.id = touched.id FOR UPDATE) locked;

  WITH new_mutation AS MATERIALIZED (
    SELECT a.entity_ns AS ns, a.entity_id AS id, a.mutation_type AS change, a.entity_type AS type,
           a.data AS patch, coalesce(a.event_timestamp, a."timestamp") AS at, a.id AS event_id,
           bool_or((coalesce(a.event_timestamp, a."timestamp"), a.id) <= (t.last_event_time, t.last_event_id))
             OVER (PARTITION BY t.ns, t.id) IS TRUE AS late
      FROM added a
      CROSS JOIN LATERAL (SELECT * FROM :"schema".things s
                            WHERE s.ns = a.entity_ns AND s.id = a.entity_id OFFSET 0) t
     WHERE a.event_type = 'mutation' AND a.entity_type IS DISTINCT FROM 'relationship'
  ), history AS (
    SELECT * FROM new_mutation WHERE NOT late
    UNION ALL
    SELECT m.ns, m.id, m.change, m.type, m.patch, m.at, m.event_id, true
      FROM (SELECT DISTINCT ns, id FROM new_mutation WHERE late) l
      CROSS JOIN LATERAL (SELECT * FROM :"schema".mutations h
                            WHERE h.key = :"schema".key_of(l.ns, l.id) AND h.ns = l.ns AND h.id = l.id
                              AND NOT h.of_relationship OFFSET 0) m
  ), folded AS MATERIALIZED (
    SELECT :"schema".thing_fold(CASE WHEN NOT h.late THEN b.t END, h.change, h.ns, h.id, h.type, h.patch, h.at,
                                h.event_id ORDER BY h.at, h.event_id) AS outcome,
           b.place
      FROM history h
      CROSS JOIN LATERAL (SELECT s AS t, s.ctid AS place FROM :"schema".things s
                            WHERE s.ns = h.ns AND s.id = h.id OFFSET 0) b
     GROUP BY b.place
  )
  UPDATE :"schema".things
     SET type = (outcome).type, visibility = (outcome).visibility, content = (outcome).content, code = (outcome).code,
         data = (outcome).data, created_at = (outcome).created_at, updated_at = (outcome).updated_at,
         deleted_at = (outcome).deleted_at, last_event_time = (outcome).last_event_time,
         last_event_id = (outcome).last_event_id
    FROM folded
   WHERE things.ctid = folded.place;
  RETURN NULL;
END
$sluice$;
COMMENT ON FUNCTION :"schema".apply_to_things() IS 'Trigger: makes things follow the mutations that came.';

CREATE OR REPLACE FUNCTION :"schema".apply_to_relationships() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $sluice$
BEGIN
  IF NOT EXISTS (SELECT FROM added WHERE event_type = 'mutation' AND entity_type = 'relationship') THEN
    RETURN NULL;
  END IF;
  INSERT INTO :"schema".relationships (ns, id)
    SELECT entity_ns AS ns, entity_id AS id FROM added
     WHERE event_type = 'mutation' AND entity_type = 'relationship'
     GROUP BY entity_ns, entity_id ORDER BY entity_ns COLLATE "C", entity_id COLLATE "C"
    ON CONFLICT (ns, id) DO NOTHING;
  PERFORM FROM (SELECT entity_ns AS ns, entity_id AS id FROM added
                  WHERE event_type = 'mutation' AND entity_type = 'relationship'
                  GROUP BY entity_ns, entity_id ORDER BY entity_ns COLLATE "C", entity_id COLLATE "C") touched
    CROSS JOIN LATERAL (SELECT FROM :"schema".relationships r
                          WHERE r.ns = touched.ns AND r.id = touched.id FOR UPDATE) locked;

  WITH new_mutation AS MATERIALIZED (
    SELECT a.entity_ns AS ns, a.entity_id AS id, a.mutation_type AS change, a.data AS patch,
           coalesce(a.event_timestamp, a."timestamp") AS at, a.id AS event_id,
           bool_or((coalesce(a.event_timestamp, a."timestamp"), a.id) <= (r.last_event_time, r.last_event_id))
             OVER (PARTITION BY r.ns, r.id) IS TRUE AS late
      FROM added a
      CROSS JOIN LATERAL (SELECT * FROM :"schema".relationships s
                            WHERE s.ns = a.entity_ns AND s.id = a.entity_id OFFSET 0) r
     WHERE a.event_type = 'mutation' AND a.entity_type = 'relationship'
  ), history AS (
    SELECT * FROM new_mutation WHERE NOT late
    UNION ALL
    SELECT m.ns, m.id, m.change, m.patch, m.at, m.event_id, true
      FROM (SELECT DISTINCT ns, id FROM new_mutation WHERE late) l
      CROSS JOIN LATERAL (SELECT * FROM :"schema".mutations h
                            WHERE h.key = :"schema".key_of(l.ns, l.id) AND h.ns = l.ns AND h.id = l.id
                              AND h.of_relationship OFFSET 0) m
  ), folded AS MATERIALIZED (
    SELECT :"schema".relationship_fold(CASE WHEN NOT h.late THEN b.r END, h.change, h.ns, h.id, h.patch, h.at,
                                       h.event_id ORDER BY h.at, h.event_id) AS outcome,
           b.place
      FROM history h
      CROSS JOIN LATERAL (SELECT s AS r, s.ctid AS place FROM :"schema".relationships s
                            WHERE s.ns = h.ns AND s.id = h.id OFFSET 0) b
     GROUP BY b.place
  )
  UPDATE :"schema".relationships
     SET type = (outcome).type, from_ns = (outcome).from_ns, from_id = (outcome).from_id, to_ns = (outcome).to_ns,
         to_id = (outcome).to_id, data = (outcome).data, created_at = (outcome).created_at,
         updated_at = (outcome).updated_at, deleted_at = (outcome).deleted_at,
         last_event_time = (outcome).last_event_time, last_event_id = (outcome).last_event_id
    FROM folded
   WHERE relationships.ctid = folded.place;
  RETURN NULL;
END
$sluice$;
COMMENT ON FUNCTION :"schema".apply_to_relationships() IS
  'Trigger: makes relationships follow the mutations that came.';

CREATE OR REPLACE TRIGGER apply_to_things AFTER INSERT ON :"schema".events
  REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION :"schema".apply_to_things();
CREATE OR REPLACE TRIGGER apply_to_relationships AFTER INSERT ON :"schema".events
  REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION :"schema".apply_to_relationships();

CREATE OR REPLACE TRIGGER append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON :"schema".events
  FOR EACH STATEMENT EXECUTE FUNCTION :"own_schema".refuse_change();
CREATE OR REPLACE TRIGGER append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON :"schema".kept_mutations
  FOR EACH STATEMENT EXECUTE FUNCTION :"own_schema".refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON :"schema".events, :"schema".kept_mutations FROM PUBLIC;

-- Rows that are right already are left alone, so that nobody waits for more than what was wrong.
CREATE OR REPLACE FUNCTION :"schema".rebuild_things() RETURNS TABLE (things bigint, relationships bigint)
  LANGUAGE plpgsql SET search_path = pg_catalog AS $sluice$
BEGIN
  LOCK TABLE :"schema".things, :"schema".relationships IN EXCLUSIVE MODE;
  DELETE FROM :"schema".things t WHERE NOT EXISTS (
    SELECT FROM :"schema".mutations m
     WHERE m.key = :"schema".key_of(t.ns, t.id) AND m.ns = t.ns AND m.id = t.id AND NOT m.of_relationship);
  DELETE FROM :"schema".relationships r WHERE NOT EXISTS (
    SELECT FROM :"schema".mutations m
     WHERE m.key = :"schema".key_of(r.ns, r.id) AND m.ns = r.ns AND m.id = r.id AND m.of_relationship);

  INSERT INTO :"schema".things AS t (ns, id, type, visibility, content, code, data, created_at, updated_at,
                                     deleted_at, last_event_time, last_event_id)
    SELECT (outcome).ns, (outcome).id, (outcome).type, (outcome).visibility, (outcome).content, (outcome).code, (outcome).data,
           (outcome).created_at, (outcome).updated_at, (outcome).deleted_at, (outcome).last_event_time, (outcome).last_event_id
      FROM (SELECT :"schema".thing_fold(NULL, m.change, m.ns, m.id, m.type, m.patch, m.at, m.event_id
                                        ORDER BY m.at, m.event_id) AS outcome
              FROM :"schema".mutations m WHERE NOT m.of_relationship GROUP BY m.ns, m.id OFFSET 0) f
    ON CONFLICT (ns, id) DO UPDATE
      SET type = excluded.type, visibility = excluded.visibility, content = excluded.content,
          code = excluded.code, data = excluded.data, created_at = excluded.created_at,
          updated_at = excluded.updated_at, deleted_at = excluded.deleted_at,
          last_event_time = excluded.last_event_time, last_event_id = excluded.last_event_id
      WHERE (t.type, t.visibility, t.content, t.code, t.data, t.created_at, t.updated_at, t.deleted_at,
             t.last_event_time, t.last_event_id)
            IS DISTINCT FROM
            (excluded.type, excluded.visibility, excluded.content, excluded.code, excluded.data,
             excluded.created_at, excluded.updated_at, excluded.deleted_at, excluded.last_event_time,
             excluded.last_event_id);
  GET DIAGNOSTICS things = ROW_COUNT;

  INSERT INTO :"schema".relationships AS r (ns, id, type, from_ns, from_id, to_ns, to_id, data, created_at,
                                            updated_at, deleted_at, last_event_time, last_event_id)
    SELECT (outcome).ns, (outcome).id, (outcome).type, (outcome).from_ns, (outcome).from_id, (outcome).to_ns, (outcome).to_id, (outcome).data,
           (outcome).created_at, (outcome).updated_at, (outcome).deleted_at, (outcome).last_event_time, (outcome).last_event_id
      FROM (SELECT :"schema".relationship_fold(NULL, m.change, m.ns, m.id, m.patch, m.at, m.event_id
                                               ORDER BY m.at, m.event_id) AS outcome
              FROM :"schema".mutations m WHERE m.of_relationship GROUP BY m.ns, m.id OFFSET 0) f
    ON CONFLICT (ns, id) DO UPDATE
      SET type = excluded.type, from_ns = excluded.from_ns, from_id = excluded.from_id,
          to_ns = excluded.to_ns, to_id = excluded.to_id, data = excluded.data,
          created_at = excluded.created_at, updated_at = excluded.updated_at,
          deleted_at = excluded.deleted_at, last_event_time = excluded.last_event_time,
          last_event_id = excluded.last_event_id
      WHERE (r.type, r.from_ns, r.from_id, r.to_ns, r.to_id, r.data, r.created_at, r.updated_at,
             r.deleted_at, r.last_event_time, r.last_event_id)
            IS DISTINCT FROM
            (excluded.type, excluded.from_ns, excluded.from_id, excluded.to_ns, excluded.to_id, excluded.data,
             excluded.created_at, excluded.updated_at, excluded.deleted_at, excluded.last_event_time,
             excluded.last_event_id);
  GET DIAGNOSTICS relationships = ROW_COUNT;
  RETURN NEXT;
END
$sluice$;
COMMENT ON FUNCTION :"schema".rebuild_things() IS
  'Makes things and relationships again from the mutations alone. Says how many of each were not right. Events wait meanwhile, readers do not.';

CREATE OR REPLACE FUNCTION :"schema".thing_at(ns text, id text, moment timestamptz)
  RETURNS SETOF :"schema".things
  LANGUAGE sql STABLE ROWS 1 SET search_path = pg_catalog AS $sluice$
  SELECT (f.outcome).*
    FROM (SELECT :"schema".thing_fold(NULL, m.change, m.ns, m.id, m.type, m.patch, m.at, m.event_id
                                      ORDER BY m.at, m.event_id) AS outcome
            FROM :"schema".mutations m
           WHERE m.key = :"schema".key_of(thing_at.ns, thing_at.id)
             AND m.ns = thing_at.ns AND m.id = thing_at.id AND NOT m.of_relationship
             AND m.at <= moment OFFSET 0) f
   WHERE (f.outcome).ns IS NOT NULL AND (f.outcome).deleted_at IS NULL;
$sluice$;
COMMENT ON FUNCTION :"schema".thing_at(text, text, timestamptz) IS
  'The thing as it was at a moment, by what is known now. No row: it was not there, or deleted.';

CREATE OR REPLACE FUNCTION :"schema".to_url(ns text, id text) RETURNS text
  LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $sluice$
  SELECT '/' || ns || '/' || pg_catalog.replace(id, ' ', '_');
$sluice$;
COMMENT ON FUNCTION :"schema".to_url(text, text) IS
  '/ns/id with underscores for spaces. Two names can have one URL, as a_b and a b.';

CREATE INDEX IF NOT EXISTS things_url
  ON :"schema".things (pg_catalog.hashtextextended(:"schema".to_url(ns, id), 0));

CREATE OR REPLACE FUNCTION :"schema".from_url(url text)
  RETURNS TABLE (ns text, id text, certain boolean)
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $sluice$
DECLARE
  path text := substring(url FROM '^(?:https?://[^/]+)?(/.+)$');
  parts text[] := string_to_array(substr(path, 2), '/');
  ns_parts int := 0;
BEGIN
  RETURN QUERY
    SELECT t.ns, t.id, count(*) OVER () = 1
      FROM :"schema".things t
     WHERE hashtextextended(:"schema".to_url(t.ns, t.id), 0) = hashtextextended(path, 0)
       AND :"schema".to_url(t.ns, t.id) = path
     ORDER BY t.deleted_at IS NOT NULL, t.ns, t.id;
  IF FOUND THEN
    RETURN;
  END IF;
  WHILE ns_parts + 1 < cardinality(parts) AND :"schema".is_ns(parts[ns_parts + 1]) LOOP
    ns_parts := ns_parts + 1;
  END LOOP;
  IF ns_parts > 0 THEN
    ns := array_to_string(parts[: ns_parts], '/');
    id := replace(array_to_string(parts[ns_parts + 1 :], '/'), '_', ' ');
    certain := false;
    IF :"schema".is_thing_id(id) THEN
      RETURN NEXT;
    END IF;
  END IF;
END
$sluice$;
COMMENT ON FUNCTION :"schema".from_url(text) IS
  'The way back from to_url. A URL does not say where the namespace ends nor which underscores were spaces, so existing things decide: '
  'certain if exactly one has this URL; all that have it, living ones first, if more do. If none has it, a guess: the namespace is as long as it can be '
  '(what cannot be part of one, and the last part in any case, belongs to the id) and all underscores were spaces.';

-- Partitions by age. Hot ones are written, warm and cold ones only read.
CREATE OR REPLACE VIEW :"schema".event_partitions AS
  SELECT p.part, p.from_time, p.to_time,
         CASE WHEN p.is_default THEN 'hot'
              WHEN p.to_time > now() - hot.until_age THEN 'hot'
              WHEN p.to_time > now() - warm.until_age THEN 'warm'
              ELSE 'cold' END AS tier,
         greatest(c.reltuples, 0)::bigint AS rows_estimate,
         pg_total_relation_size(p.part) AS bytes,
         s.spcname AS tablespace
    FROM :"own_schema".partitions_of(to_regclass(format('%I.events', :'schema'))) p
    JOIN pg_class c ON c.oid = p.part
    LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
    JOIN :"schema".event_tiers hot ON hot.tier = 'hot'
    JOIN :"schema".event_tiers warm ON warm.tier = 'warm';
COMMENT ON VIEW :"schema".event_partitions IS
  'The partitions of events with their age''s tier, size and tablespace (NULL: the database''s own).';

CREATE OR REPLACE FUNCTION :"schema".place_partitions(parent regclass)
  RETURNS TABLE (action text, part text, moved bigint)
  LANGUAGE plpgsql SET search_path = pg_catalog AS $sluice$
DECLARE
  found record;
  of_part regclass;
BEGIN
  moved := 0;
  FOR found IN SELECT p.part AS oid, c.relname, t.tablespace AS target
                 FROM :"schema".event_partitions p JOIN pg_class c ON c.oid = p.part
                 JOIN :"schema".event_tiers t USING (tier)
                WHERE t.tablespace IS NOT NULL AND t.tablespace IS DISTINCT FROM p.tablespace
                ORDER BY p.from_time LOOP
    EXECUTE format('ALTER TABLE %s SET TABLESPACE %I', found.oid, found.target);
    FOR of_part IN SELECT indexrelid FROM pg_index WHERE indrelid = found.oid LOOP
      EXECUTE format('ALTER INDEX %s SET TABLESPACE %I', of_part, found.target);
    END LOOP;
    action := 'placed';
    part := found.relname;
    RETURN NEXT;
  END LOOP;
END
$sluice$;
COMMENT ON FUNCTION :"schema".place_partitions(regclass) IS
  'Moves partitions with their indexes to the tablespace of their tier, where event_tiers names one.';

CREATE OR REPLACE FUNCTION :"schema".keep_mutations(part regclass) RETURNS bigint
  LANGUAGE plpgsql SET search_path = pg_catalog AS $sluice$
DECLARE
  kept bigint;
BEGIN
  EXECUTE format('INSERT INTO %I.kept_mutations '
                 'SELECT id, "timestamp", event_timestamp, mutation_type, entity_ns, entity_id, entity_type, data '
                 'FROM %s WHERE event_type = ''mutation'' ON CONFLICT (id, "timestamp") DO NOTHING', :'schema', part);
  GET DIAGNOSTICS kept = ROW_COUNT;
  RETURN kept;
END
$sluice$;
COMMENT ON FUNCTION :"schema".keep_mutations(regclass) IS
  'Copies the mutations of a partition that is about to be detached, as things follow from all of them.';

SELECT :"own_schema".adopt_partitioned(
  to_regclass(format('%I.events', :'schema')), :'partition', 'timestamp', '90 days',
  format('%I.keep_mutations', :'schema'), format('%I.place_partitions', :'schema'));

-- A vector is an application's: it is made from the content, so new content takes it away.
CREATE OR REPLACE FUNCTION :"schema".forget_embedding() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $sluice$
BEGIN
  NEW.embedding := NULL;
  RETURN NEW;
END
$sluice$;
COMMENT ON FUNCTION :"schema".forget_embedding() IS 'Trigger: new content has no embedding yet.';

DO $sluice$
DECLARE
  vector text := (SELECT format('%I.vector(768)', nspname) FROM pg_type t
                    JOIN pg_namespace n ON n.oid = typnamespace
                   WHERE typname = 'vector' AND typmodin <> 0 LIMIT 1);
BEGIN
  IF vector IS NOT NULL THEN
    EXECUTE format('ALTER TABLE %I.things ADD COLUMN IF NOT EXISTS embedding %s', :'schema', vector);
    COMMENT ON COLUMN :"schema".things.embedding IS
      'Of an application that makes it from the content. Empty again when the content changes.';
    CREATE OR REPLACE TRIGGER forget_embedding BEFORE UPDATE ON :"schema".things
      FOR EACH ROW WHEN (OLD.content IS DISTINCT FROM NEW.content)
      EXECUTE FUNCTION :"schema".forget_embedding();
  END IF;
END
$sluice$;

COMMENT ON TABLE :"schema".events IS
  'What the platform''s workers said: logs, mutations, metrics, errors. Append-only: a correction is a new row.';
COMMENT ON COLUMN :"schema".events.id IS 'A ULID of the producer, stored as a uuid: sorts by time.';
COMMENT ON COLUMN :"schema".events."timestamp" IS
  'When the producer said it, by its own clock; the time of receipt if it did not say.';
COMMENT ON COLUMN :"schema".events.event_timestamp IS
  'When it happened, if that differs from timestamp. The event time is this one, else timestamp.';
COMMENT ON COLUMN :"schema".events.event_type IS 'log, mutation, metric or error.';
COMMENT ON COLUMN :"schema".events.mutation_type IS 'Of a mutation: create, update or delete.';
COMMENT ON COLUMN :"schema".events.entity_ns IS 'Namespace of what it is about, such as github.com/repos.';
COMMENT ON COLUMN :"schema".events.entity_id IS 'What it is about, in its namespace; id#variant for a variant.';
COMMENT ON COLUMN :"schema".events.entity_type IS
  'What kind of thing that is; relationship makes a mutation one of relationships.';
COMMENT ON COLUMN :"schema".events.source IS 'Who says so, by its own name.';
COMMENT ON COLUMN :"schema".events.script_name IS 'The worker or script that ran.';
COMMENT ON COLUMN :"schema".events.dispatch_namespace IS 'Where that worker was dispatched from.';
COMMENT ON COLUMN :"schema".events.request_url IS 'URL of the request that it served.';
COMMENT ON COLUMN :"schema".events.request_method IS 'Its method, such as GET.';
COMMENT ON COLUMN :"schema".events.request_ray IS 'Its id in the network in front of the worker.';
COMMENT ON COLUMN :"schema".events.request_user_agent IS 'Who asked, by its own words.';
COMMENT ON COLUMN :"schema".events.request_ip IS 'The address that asked. Text, as what moves best.';
COMMENT ON COLUMN :"schema".events.response_status IS 'Status of the answer, such as 200.';
COMMENT ON COLUMN :"schema".events.response_outcome IS 'How the run ended, such as ok, exception, exceededCpu.';
COMMENT ON COLUMN :"schema".events.rpc_method IS 'The method, where it was called by RPC.';
COMMENT ON COLUMN :"schema".events.severity IS 'How bad it is: debug, info, warn, error or what else is used.';
COMMENT ON COLUMN :"schema".events.category IS 'What part of the platform it is about.';
COMMENT ON COLUMN :"schema".events.error_type IS 'Class or code of the error.';
COMMENT ON COLUMN :"schema".events.error_message IS 'Its message, at most the first 1,000 characters.';
COMMENT ON COLUMN :"schema".events.error_message_cut IS 'Whether the message was longer.';
COMMENT ON COLUMN :"schema".events.has_exception IS 'Whether there was an exception: said so, or one is in exceptions.';
COMMENT ON COLUMN :"schema".events.cpu_time_ms IS 'Milliseconds of CPU.';
COMMENT ON COLUMN :"schema".events.wall_time_ms IS 'Milliseconds from start to end.';
COMMENT ON COLUMN :"schema".events.data IS
  'What it says, any JSON; of a mutation an object: of a thing type, visibility, content, code and what else goes to its data, '
  'of a relationship type, from_ns, from_id, to_ns, to_id and likewise.';
COMMENT ON COLUMN :"schema".events.metadata IS 'What is said about it, any JSON.';
COMMENT ON COLUMN :"schema".events.logs IS 'Lines that the run logged, as the producer has them.';
COMMENT ON COLUMN :"schema".events.log_count IS 'How many logs there are, if logs is an array, else 0.';
COMMENT ON COLUMN :"schema".events.exceptions IS 'Exceptions of the run, as the producer has them.';
COMMENT ON COLUMN :"schema".events.exception_count IS 'How many exceptions there are, if that is an array, else 0.';
COMMENT ON COLUMN :"schema".events.extra IS
  'Fields that have no column, and fields whose value did not fit theirs. NULL if there were none.';
COMMENT ON COLUMN :"schema".events.pipeline_instance IS 'The daemon that it came through.';
COMMENT ON COLUMN :"schema".events.pipeline_batch_id IS
  'Which rows were committed together: their segment and the first of their indexes, as segment:index.';
COMMENT ON COLUMN :"schema".events.pipeline_segment IS 'The daemon''s log segment, which with the index is the event''s identity there.';
COMMENT ON COLUMN :"schema".events.pipeline_index IS 'Its position in that segment, from 0.';
COMMENT ON COLUMN :"schema".events.retry_count IS 'How often its producer had tried before.';
COMMENT ON COLUMN :"schema".events.received_at IS 'When the daemon read it, by the daemon''s clock.';

COMMENT ON TABLE :"schema".kept_mutations IS
  'Mutations of partitions of events that were detached: the history of things stays whole. Append-only.';
COMMENT ON COLUMN :"schema".kept_mutations.id IS 'As in events.';
COMMENT ON COLUMN :"schema".kept_mutations."timestamp" IS 'As in events.';
COMMENT ON COLUMN :"schema".kept_mutations.event_timestamp IS 'As in events.';
COMMENT ON COLUMN :"schema".kept_mutations.mutation_type IS 'As in events.';
COMMENT ON COLUMN :"schema".kept_mutations.entity_ns IS 'As in events.';
COMMENT ON COLUMN :"schema".kept_mutations.entity_id IS 'As in events.';
COMMENT ON COLUMN :"schema".kept_mutations.entity_type IS 'As in events.';
COMMENT ON COLUMN :"schema".kept_mutations.data IS 'As in events.';

COMMENT ON TABLE :"schema".things IS
  'Current state, derived from the mutations of events: never edit it. rebuild_things() makes it again.';
COMMENT ON COLUMN :"schema".things.ns IS 'Namespace, such as en.wikipedia.org or github.com/repos.';
COMMENT ON COLUMN :"schema".things.id IS
  'Its name there, 1 to 2048 characters; id#variant for a variant. A key must fit an index, of 2.7 kB compressed.';
COMMENT ON COLUMN :"schema".things.type IS 'What kind of thing: the entity_type of its mutations.';
COMMENT ON COLUMN :"schema".things.visibility IS 'Who may see it, as the application has it.';
COMMENT ON COLUMN :"schema".things.content IS 'Its text.';
COMMENT ON COLUMN :"schema".things.code IS 'Its code.';
COMMENT ON COLUMN :"schema".things.data IS 'All other members of its mutations, later ones over earlier ones.';
COMMENT ON COLUMN :"schema".things.created_at IS 'Event time of its creation; NULL: only its deletion is known.';
COMMENT ON COLUMN :"schema".things.updated_at IS 'Event time of its last change.';
COMMENT ON COLUMN :"schema".things.deleted_at IS
  'A tombstone: it was deleted then, and only a later creation brings it back. NULL while it lives.';
COMMENT ON COLUMN :"schema".things.last_event_time IS 'Event time of the last mutation that it follows from.';
COMMENT ON COLUMN :"schema".things.last_event_id IS 'Id of that mutation.';
COMMENT ON COLUMN :"schema".things.search_vector IS
  'Of id and content, for @@ with to_tsquery(''english'', ...). NULL for tombstones.';

COMMENT ON TABLE :"schema".relationships IS
  'Current state, derived from the mutations of events with the entity_type relationship: never edit it.';
COMMENT ON COLUMN :"schema".relationships.ns IS 'Namespace of the relationship itself.';
COMMENT ON COLUMN :"schema".relationships.id IS 'Its name there.';
COMMENT ON COLUMN :"schema".relationships.type IS 'What the one is to the other.';
COMMENT ON COLUMN :"schema".relationships.from_ns IS 'Namespace of the thing that it goes from.';
COMMENT ON COLUMN :"schema".relationships.from_id IS 'That thing''s id. To look it up: key_of(from_ns, from_id) = key_of(…) and both.';
COMMENT ON COLUMN :"schema".relationships.to_ns IS 'Namespace of the thing that it goes to.';
COMMENT ON COLUMN :"schema".relationships.to_id IS 'That thing''s id.';
COMMENT ON COLUMN :"schema".relationships.data IS 'All other members of its mutations, later ones over earlier ones.';
COMMENT ON COLUMN :"schema".relationships.created_at IS 'Event time of its creation; NULL: that is not known.';
COMMENT ON COLUMN :"schema".relationships.updated_at IS 'Event time of its last change.';
COMMENT ON COLUMN :"schema".relationships.deleted_at IS
  'A tombstone, as of things; also of one that was changed and whose creation is not known.';
COMMENT ON COLUMN :"schema".relationships.last_event_time IS 'Event time of the last mutation that it follows from.';
COMMENT ON COLUMN :"schema".relationships.last_event_id IS 'Id of that mutation.';

COMMENT ON TABLE :"schema".event_tiers IS
  'When partitions of events grow warm and cold, and where they go then. Edit it as you like; when cold ones are detached says sluice.partitioned.keep.';
COMMENT ON COLUMN :"schema".event_tiers.tier IS 'hot, warm or cold.';
COMMENT ON COLUMN :"schema".event_tiers.until_age IS 'How long after its end a partition is of this tier.';
COMMENT ON COLUMN :"schema".event_tiers.tablespace IS 'Where its partitions are moved to; NULL: they stay where they are.';

-- What `sluice show` prints. Events that only mention a thing are not looked for: they have no index on it.
CREATE OR REPLACE FUNCTION :"schema".everything_about_thing(ns text, id text) RETURNS jsonb
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $sluice$
DECLARE
  wanted bigint := :"schema".key_of($1, $2);
  history jsonb := (
    SELECT jsonb_agg(jsonb_build_object('at', m.at, 'change', m.change, 'type', m.type, 'event_id', m.event_id,
                                        'data', m.patch) ORDER BY m.at, m.event_id)
      FROM (SELECT * FROM :"schema".mutations h WHERE h.key = wanted AND h.ns = $1 AND h.id = $2
             ORDER BY h.at DESC, h.event_id DESC LIMIT 1000) m);
BEGIN
  IF history IS NULL THEN
    RETURN NULL;
  END IF;
  RETURN jsonb_build_object(
    'ns', $1, 'id', $2,
    'thing', (SELECT to_jsonb(t) - ARRAY['search_vector', 'embedding']
                FROM :"schema".things t WHERE t.ns = $1 AND t.id = $2),
    'relationship', (SELECT to_jsonb(r) FROM :"schema".relationships r WHERE r.ns = $1 AND r.id = $2),
    'history', history,
    'relationships_out', coalesce((
      SELECT jsonb_agg(to_jsonb(r) ORDER BY r.created_at, r.ns, r.id) FROM :"schema".relationships r
       WHERE :"schema".key_of(r.from_ns, r.from_id) = wanted AND r.from_ns = $1 AND r.from_id = $2
         AND r.deleted_at IS NULL), '[]'),
    'relationships_in', coalesce((
      SELECT jsonb_agg(to_jsonb(r) ORDER BY r.created_at, r.ns, r.id) FROM :"schema".relationships r
       WHERE :"schema".key_of(r.to_ns, r.to_id) = wanted AND r.to_ns = $1 AND r.to_id = $2
         AND r.deleted_at IS NULL), '[]'));
END
$sluice$;
COMMENT ON FUNCTION :"schema".everything_about_thing(text, text) IS
  'A thing or relationship as it is, the last thousand of its mutations, and its living relationships. NULL if no mutation names it.';

CREATE OR REPLACE FUNCTION :"schema".everything_about_unified(name text) RETURNS jsonb
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog AS $sluice$
DECLARE
  event :"schema".events;
  kept :"schema".kept_mutations;
  path text := ltrim(regexp_replace(name, '^https?://[^/]+', ''), '/');
  parts text[] := string_to_array(path, '/');
  named jsonb;
BEGIN
  IF name ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN
    SELECT * INTO event FROM :"schema".events e WHERE e.id = name::uuid ORDER BY e."timestamp" LIMIT 1;
    IF event.id IS NOT NULL THEN
      RETURN jsonb_build_object('id', event.id, 'event', to_jsonb(event),
                                'about', :"schema".everything_about_thing(event.entity_ns, event.entity_id));
    END IF;
    SELECT * INTO kept FROM :"schema".kept_mutations k WHERE k.id = name::uuid ORDER BY k."timestamp" LIMIT 1;
    IF kept.id IS NOT NULL THEN
      RETURN jsonb_build_object('id', kept.id, 'kept_mutation', to_jsonb(kept),
                                'about', :"schema".everything_about_thing(kept.entity_ns, kept.entity_id));
    END IF;
    RETURN NULL;
  END IF;
  named := (
    SELECT jsonb_agg(about ORDER BY about ->> 'ns', about ->> 'id')
      FROM (SELECT array_to_string(parts[: n], '/') AS ns, array_to_string(parts[n + 1 :], '/') AS id
              FROM generate_series(1, least(cardinality(parts) - 1, 50)) n
            UNION
            SELECT u.ns, u.id FROM :"schema".from_url('/' || replace(path, ' ', '_')) u) names,
           LATERAL (SELECT :"schema".everything_about_thing(names.ns, names.id) AS about) a
     WHERE about IS NOT NULL);
  RETURN CASE WHEN named IS NOT NULL THEN jsonb_build_object('name', name, 'known', named) END;
END
$sluice$;
COMMENT ON FUNCTION :"schema".everything_about_unified(text) IS
  'All that is known by a name: an event''s id (the event, and what it is about), or a thing''s or relationship''s ns/id or URL (all that have it). '
  'NULL if nothing is known.';
