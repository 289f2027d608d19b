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

-- A table of that name may have been there before, for another purpose.
DO $sluice$
DECLARE
  events regclass := to_regclass(format('%I.events', :'schema'));
  kind "char" := (SELECT relkind FROM pg_class WHERE oid = events);
  wrong text;
BEGIN
  IF kind NOT IN ('r', 'p') THEN
    RAISE EXCEPTION '% is there already and is not a table: choose another schema with --schema', events
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  SELECT string_agg(name || ' ' || type, ', ') INTO wrong
    FROM (VALUES ('id', 'uuid'), ('occurred_at', 'timestamp with time zone'), ('type', 'text'),
                 ('source', 'text'), ('session_id', 'text'), ('parent_id', 'uuid'),
                 ('data', 'jsonb'), ('extra', 'jsonb'),
                 ('received_at', 'timestamp with time zone'), ('producer_uid', 'bigint'),
                 ('dedupe_key', 'text')) AS expected (name, type)
    WHERE NOT EXISTS (SELECT FROM pg_attribute
                        WHERE attrelid = events AND attname = name AND NOT attisdropped
                          AND format_type(atttypid, atttypmod) = type);
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION '% is there already and lacks %: choose another schema with --schema', events, wrong
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  SELECT string_agg(quote_ident(attname), ', ') INTO wrong
    FROM pg_attribute
    WHERE attrelid = events AND attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef
      AND attidentity = ''
      AND attname NOT IN ('id', 'occurred_at', 'type', 'source', 'session_id', 'parent_id', 'data',
                          'extra', 'received_at', 'producer_uid', 'dedupe_key');
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION '% is there already and would refuse every event for want of %: choose another schema with --schema',
      events, wrong USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  IF :'partition' <> 'none' AND kind <> 'p' THEN
    RAISE EXCEPTION '% is there already and is not partitioned: leave out --partition, or choose another schema with --schema',
      events USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END
$sluice$;

-- Indexes cost speed: these are what every reader needs. BRIN keeps one entry per 128 pages.
CREATE INDEX IF NOT EXISTS events_occurred_at_brin ON :"schema".events USING brin (occurred_at);
CREATE INDEX IF NOT EXISTS events_received_at_brin ON :"schema".events USING brin (received_at);

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

CREATE OR REPLACE TRIGGER append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON :"schema".events
  FOR EACH STATEMENT EXECUTE FUNCTION :"own_schema".refuse_change();

REVOKE UPDATE, DELETE, TRUNCATE ON :"schema".events FROM PUBLIC;

SELECT :"own_schema".adopt_partitioned(to_regclass(format('%I.events', :'schema')), :'partition',
                                       'occurred_at', NULL, NULL);
