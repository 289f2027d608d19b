-- spirits: long-term memory, into which the same event may be sent any number of times.
--
-- Events are facts: all that may change of one is whether it is deleted. A spirit's row belongs to its
-- application.

-- Tables of these names may have been there before, for another purpose.
DO $sluice$
BEGIN
  PERFORM :"own_schema".require_table(format('%I.spirits', :'schema'),
    'id uuid, name text, description text, meta jsonb, created_at timestamp with time zone,
     updated_at timestamp with time zone, is_deleted boolean, extra jsonb,
     received_at timestamp with time zone');
  PERFORM :"own_schema".require_table(format('%I.events', :'schema'),
    'id uuid, spirit_id uuid, event_type text, meta_summary text, content text,
     occurred_at timestamp with time zone, session_id text, meta jsonb, source_uri text, dedupe_key text,
     importance_score numeric, created_at timestamp with time zone, updated_at timestamp with time zone,
     is_deleted boolean, extra jsonb');
END
$sluice$;

CREATE TABLE IF NOT EXISTS :"schema".spirits (
  id           uuid        PRIMARY KEY,
  name         text        NOT NULL,
  description  text,
  meta         jsonb,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  is_deleted   boolean     NOT NULL DEFAULT false,
  extra        jsonb,
  received_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS :"schema".events (
  id                uuid        PRIMARY KEY,
  spirit_id         uuid        NOT NULL REFERENCES :"schema".spirits,
  event_type        text        NOT NULL,
  meta_summary      text,
  content           text,
  occurred_at       timestamptz NOT NULL,
  session_id        text,
  meta              jsonb,
  source_uri        text,
  -- Unique where it is not NULL: to Postgres no NULL equals another. An index with WHERE would say the
  -- same and could not be named by ON CONFLICT (dedupe_key).
  dedupe_key        text        UNIQUE,
  importance_score  numeric     CHECK (importance_score BETWEEN 0 AND 1),
  created_at        timestamptz NOT NULL DEFAULT now(),
  updated_at        timestamptz NOT NULL DEFAULT now(),
  is_deleted        boolean     NOT NULL DEFAULT false,
  extra             jsonb
);

CREATE INDEX IF NOT EXISTS events_spirit_id_occurred_at ON :"schema".events (spirit_id, occurred_at, id);
CREATE INDEX IF NOT EXISTS events_event_type ON :"schema".events (event_type);
CREATE INDEX IF NOT EXISTS events_session_id ON :"schema".events (session_id);

COMMENT ON TABLE :"schema".spirits IS
  'Current state, of the application: whose memory the events are.';
COMMENT ON COLUMN :"schema".spirits.id IS 'Of the application: events refer to it.';
COMMENT ON COLUMN :"schema".spirits.name IS 'For people.';
COMMENT ON COLUMN :"schema".spirits.description IS 'What kind of spirit it is.';
COMMENT ON COLUMN :"schema".spirits.meta IS 'Whatever else is known of it, any JSON.';
COMMENT ON COLUMN :"schema".spirits.created_at IS 'When it began, by the producer''s clock.';
COMMENT ON COLUMN :"schema".spirits.updated_at IS 'When this row last changed.';
COMMENT ON COLUMN :"schema".spirits.is_deleted IS 'True: recent() and replay() no longer know its events.';
COMMENT ON COLUMN :"schema".spirits.extra IS 'Fields of the event that have no column. NULL if there were none.';
COMMENT ON COLUMN :"schema".spirits.received_at IS 'When the daemon read it, by the daemon''s clock.';

COMMENT ON TABLE :"schema".events IS
  'What spirits remember. Facts: only is_deleted changes, and a correction is a new row.';
COMMENT ON COLUMN :"schema".events.id IS 'Of the producer if it gave a UUID or ULID, else of the daemon.';
COMMENT ON COLUMN :"schema".events.spirit_id IS 'Whose memory it is.';
COMMENT ON COLUMN :"schema".events.event_type IS 'What kind of event, such as conversation.';
COMMENT ON COLUMN :"schema".events.meta_summary IS 'In a few words, what it was about.';
COMMENT ON COLUMN :"schema".events.content IS 'What is remembered, whole.';
COMMENT ON COLUMN :"schema".events.occurred_at IS
  'When it happened, by the producer''s clock; created_at if it did not say.';
COMMENT ON COLUMN :"schema".events.session_id IS 'The session it belongs to; replay() gives one in order.';
COMMENT ON COLUMN :"schema".events.meta IS 'Whatever else is known of it, any JSON.';
COMMENT ON COLUMN :"schema".events.source_uri IS 'Where it is from.';
COMMENT ON COLUMN :"schema".events.dedupe_key IS
  'What makes it the same event, for ever: the producer''s key, else event_dedupe_key() if source_uri is there, else NULL.';
COMMENT ON COLUMN :"schema".events.importance_score IS '0 to 1. NULL: nobody said.';
COMMENT ON COLUMN :"schema".events.created_at IS 'When the daemon read it, by the daemon''s clock.';
COMMENT ON COLUMN :"schema".events.updated_at IS 'When is_deleted last changed, else when the row was made.';
COMMENT ON COLUMN :"schema".events.is_deleted IS
  'True: recent() and replay() pass it over. The row and its key stay.';
COMMENT ON COLUMN :"schema".events.extra IS 'Fields of the event that have no column. NULL if there were none.';

-- The daemon computes the same key of an event's fields as they came, before it is here: so it is the time as
-- most programs write it.
CREATE OR REPLACE FUNCTION :"schema".event_dedupe_key(
    spirit_id uuid, event_type text, content text, occurred_at timestamptz, source_uri text) RETURNS text
  LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $sluice$
BEGIN
  RETURN left(encode(sha256(convert_to(
      concat_ws('|', coalesce($1::text, ''), coalesce($2, ''), left(coalesce($3, ''), 100),
                coalesce(regexp_replace(to_char($4 AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'),
                                        '\.?0+$', '') || 'Z', ''),
                coalesce($5, '')),
      'UTF8')), 'hex'), 32);
END
$sluice$;

COMMENT ON FUNCTION :"schema".event_dedupe_key(uuid, text, text, timestamptz, text) IS
  'The first 32 hex digits of SHA-256 over spirit_id|event_type|first 100 characters of content|occurred_at|source_uri; occurred_at as 2026-01-31T23:59:59.25Z, without zeros at its end, empty if NULL.';

CREATE OR REPLACE FUNCTION :"schema".complete_event() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $sluice$
BEGIN
  IF NEW.dedupe_key IS NULL AND NEW.source_uri IS NOT NULL THEN
    -- Where the producer gave no time, the daemon gives that of receipt. It is no part of the key: it
    -- would be another one each time.
    NEW.dedupe_key := :"schema".event_dedupe_key(NEW.spirit_id, NEW.event_type, NEW.content,
                                                 nullif(NEW.occurred_at, NEW.created_at), NEW.source_uri);
  END IF;
  NEW.occurred_at := coalesce(NEW.occurred_at, NEW.created_at);
  RETURN NEW;
END
$sluice$;

COMMENT ON FUNCTION :"schema".complete_event() IS 'Gives an event the time and the key that it came without.';

CREATE OR REPLACE TRIGGER complete_event BEFORE INSERT ON :"schema".events
  FOR EACH ROW WHEN (NEW.occurred_at IS NULL OR (NEW.dedupe_key IS NULL AND NEW.source_uri IS NOT NULL))
  EXECUTE FUNCTION :"schema".complete_event();

CREATE OR REPLACE FUNCTION :"schema".keep_event() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $sluice$
DECLARE
  changed :"schema".events := NEW;
BEGIN
  changed.is_deleted := OLD.is_deleted;
  changed.updated_at := OLD.updated_at;
  IF changed IS DISTINCT FROM OLD THEN
    RAISE EXCEPTION '%.% keeps what happened: only is_deleted may change', tg_table_schema, tg_table_name
      USING HINT = 'A correction is a new row.', ERRCODE = 'insufficient_privilege';
  END IF;
  NEW.updated_at := now();
  RETURN NEW;
END
$sluice$;

COMMENT ON FUNCTION :"schema".keep_event() IS 'Refuses changes of an event but for is_deleted.';

CREATE OR REPLACE TRIGGER keep_event BEFORE UPDATE ON :"schema".events
  FOR EACH ROW EXECUTE FUNCTION :"schema".keep_event();
CREATE OR REPLACE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON :"schema".events
  FOR EACH STATEMENT EXECUTE FUNCTION :"own_schema".refuse_change();
CREATE OR REPLACE TRIGGER updated_at BEFORE UPDATE ON :"schema".spirits
  FOR EACH ROW EXECUTE FUNCTION :"own_schema".set_updated_at();

REVOKE UPDATE, DELETE, TRUNCATE ON :"schema".events FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION :"schema".complete_event(), :"schema".keep_event() FROM PUBLIC;

CREATE OR REPLACE FUNCTION :"schema".recent(
    spirit uuid, "limit" integer DEFAULT 20, "offset" integer DEFAULT 0, type text DEFAULT NULL,
    min_importance float8 DEFAULT NULL) RETURNS SETOF :"schema".events
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $sluice$
  SELECT event.* FROM :"schema".events AS event
    JOIN :"schema".spirits AS whose ON whose.id = event.spirit_id AND NOT whose.is_deleted
    WHERE event.spirit_id = $1 AND NOT event.is_deleted
      AND ($4 IS NULL OR event.event_type = $4)
      AND ($5 IS NULL OR event.importance_score >= $5)
    ORDER BY event.occurred_at DESC, event.id DESC
    LIMIT $2 OFFSET $3
$sluice$;

CREATE OR REPLACE FUNCTION :"schema".replay(spirit uuid, session text) RETURNS SETOF :"schema".events
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $sluice$
  SELECT event.* FROM :"schema".events AS event
    JOIN :"schema".spirits AS whose ON whose.id = event.spirit_id AND NOT whose.is_deleted
    WHERE event.spirit_id = $1 AND event.session_id = $2 AND NOT event.is_deleted
    ORDER BY event.occurred_at, event.id
$sluice$;

COMMENT ON FUNCTION :"schema".recent(uuid, integer, integer, text, float8) IS
  'What a spirit remembers, newest first, without what is deleted: of one type, and at least so important, if given.';
COMMENT ON FUNCTION :"schema".replay(uuid, text) IS
  'One session of a spirit, oldest first, without what is deleted.';

-- What `sluice show` prints.
CREATE OR REPLACE FUNCTION :"schema".everything_about_spirits(id uuid) RETURNS jsonb
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $sluice$
DECLARE
  event :"schema".events;
  spirit :"schema".spirits;
  about jsonb := jsonb_build_object('id', $1);
  spared constant text[] := ARRAY['spirit_id', 'meta', 'source_uri', 'dedupe_key', 'created_at', 'updated_at',
                                  'is_deleted', 'extra'];
BEGIN
  SELECT * INTO event FROM :"schema".events e WHERE e.id = $1;
  SELECT * INTO spirit FROM :"schema".spirits s WHERE s.id = coalesce(event.spirit_id, $1);
  IF spirit.id IS NULL THEN
    RETURN NULL;
  END IF;
  about := about || jsonb_build_object('spirit', to_jsonb(spirit));
  IF event.id IS NULL THEN
    RETURN about || jsonb_build_object(
      'event_count', (SELECT count(*) FROM :"schema".events e WHERE e.spirit_id = spirit.id AND NOT e.is_deleted),
      'recent', coalesce((SELECT jsonb_agg(to_jsonb(r) - spared ORDER BY r.occurred_at DESC, r.id DESC)
                            FROM :"schema".recent(spirit.id) r), '[]'));
  END IF;
  RETURN about || jsonb_build_object(
    'event', to_jsonb(event),
    'events_before', coalesce((
      SELECT jsonb_agg(to_jsonb(n) - spared ORDER BY n.occurred_at, n.id)
        FROM (SELECT * FROM :"schema".events e
               WHERE e.spirit_id = event.spirit_id AND NOT e.is_deleted
                 AND (event.session_id IS NULL OR e.session_id = event.session_id)
                 AND (e.occurred_at, e.id) < (event.occurred_at, event.id)
               ORDER BY e.occurred_at DESC, e.id DESC LIMIT 10) n), '[]'),
    'events_after', coalesce((
      SELECT jsonb_agg(to_jsonb(n) - spared ORDER BY n.occurred_at, n.id)
        FROM (SELECT * FROM :"schema".events e
               WHERE e.spirit_id = event.spirit_id AND NOT e.is_deleted
                 AND (event.session_id IS NULL OR e.session_id = event.session_id)
                 AND (e.occurred_at, e.id) > (event.occurred_at, event.id)
               ORDER BY e.occurred_at, e.id LIMIT 10) n), '[]'));
END
$sluice$;
COMMENT ON FUNCTION :"schema".everything_about_spirits(uuid) IS
  'All that is known about a spirit or an event, as one object: a spirit with the newest of what it remembers, an event with its spirit and '
  'the ten before and after it of its session (of the spirit, if it has none). Neighbours that are deleted are passed over. NULL if nothing is known.';
