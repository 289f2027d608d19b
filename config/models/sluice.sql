-- sluice's own tables, which every model needs.
--
-- :"schema" is where the model's tables go, :"own_schema" where sluice's own tables go.

DO $sluice$
BEGIN
  IF current_setting('server_version_num')::int < 140000 THEN
    RAISE EXCEPTION 'sluice needs PostgreSQL 14 or later, this is %', current_setting('server_version')
      USING ERRCODE = 'feature_not_supported';
  END IF;
  -- Two that apply at once would trip over each other's IF NOT EXISTS.
  PERFORM pg_advisory_xact_lock(hashtext('sluice schema apply'));
  -- CREATE SCHEMA IF NOT EXISTS would ask for the right to create even where there is nothing to do.
  IF to_regnamespace(quote_ident(:'schema')) IS NULL THEN
    CREATE SCHEMA :"schema";
  END IF;
  IF to_regnamespace(quote_ident(:'own_schema')) IS NULL THEN
    CREATE SCHEMA :"own_schema";
    COMMENT ON SCHEMA :"own_schema" IS 'What sluice keeps about its own deliveries.';
  END IF;
END
$sluice$;

-- Each batch updates one row here. A low fillfactor and no index on what changes keep the update on
-- its page and out of the index (HOT), so that the table stays as small as it is.
CREATE TABLE IF NOT EXISTS :"own_schema".watermark (
  segment_id  uuid        PRIMARY KEY,
  upto        bigint      NOT NULL DEFAULT 0 CHECK (upto >= 0),
  rows        bigint      NOT NULL DEFAULT 0,
  instance    text,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 20);

COMMENT ON TABLE :"own_schema".watermark IS
  'How far each segment of a sluice daemon is committed. Changes in one transaction with the rows themselves: never edit it.';
COMMENT ON COLUMN :"own_schema".watermark.segment_id IS 'The run of events that this row is about.';
COMMENT ON COLUMN :"own_schema".watermark.upto IS 'Events of the segment below this index are committed.';
COMMENT ON COLUMN :"own_schema".watermark.rows IS 'Rows that came of them.';
COMMENT ON COLUMN :"own_schema".watermark.instance IS 'The daemon that wrote the segment.';

-- Rows that came of set-aside records. The primary key makes a second try of one find it done. A row here
-- must live as long as the watermark of its segment, as only that makes the record count.
CREATE TABLE IF NOT EXISTS :"own_schema".redelivered (
  segment_id    uuid        NOT NULL,
  index         bigint      NOT NULL CHECK (index >= 0),
  delivered_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (segment_id, index)
);

COMMENT ON TABLE :"own_schema".redelivered IS
  'Events that a sluice daemon had set aside and that got into their table later. Changes in one transaction with the rows themselves: never edit it.';
COMMENT ON COLUMN :"own_schema".redelivered.segment_id IS 'The run of events that the event is in.';
COMMENT ON COLUMN :"own_schema".redelivered.index IS 'Its place there.';

-- Append-only, also for the owner. Once per statement and not for INSERT, so it costs nothing.
-- Detaching and dropping whole partitions stays possible.
CREATE OR REPLACE FUNCTION :"own_schema".refuse_change() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $sluice$
BEGIN
  RAISE EXCEPTION '%.% is append-only: % is refused', tg_table_schema, tg_table_name, tg_op
    USING HINT = 'A correction is a new row. Old events go by detaching a partition.',
          ERRCODE = 'insufficient_privilege';
END
$sluice$;

-- For tables of current state.
CREATE OR REPLACE FUNCTION :"own_schema".set_updated_at() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $sluice$
BEGIN
  NEW.updated_at := now();
  RETURN NEW;
END
$sluice$;

-- Refuses a table that has a model's name for another purpose; one that is not there yet is none. `name` is
-- quoted where it must be; `columns` as in 'id uuid, created_at timestamp with time zone'.
CREATE OR REPLACE FUNCTION :"own_schema".require_table(name text, columns text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $sluice$
DECLARE
  found regclass := to_regclass(name);
  names text[];
  wrong text;
BEGIN
  IF found IS NULL THEN
    RETURN;
  END IF;
  IF (SELECT relkind FROM pg_class WHERE oid = found) NOT IN ('r', 'p') THEN
    RAISE EXCEPTION '% is there already and is not a table: choose another schema with --schema', name
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  SELECT array_agg(split_part(spec, ' ', 1)), string_agg(spec, ', ') FILTER (
           WHERE NOT EXISTS (SELECT FROM pg_attribute
                               WHERE attrelid = found AND attnum > 0 AND NOT attisdropped
                                 AND attname || ' ' || format_type(atttypid, atttypmod) = spec))
    INTO names, wrong
    FROM regexp_split_to_table(columns, ',\s*') AS spec;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION '% is there already and lacks %: choose another schema with --schema', name, wrong
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  SELECT string_agg(quote_ident(attname), ', ') INTO wrong
    FROM pg_attribute
    WHERE attrelid = found AND attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef
      AND attidentity = '' AND attname <> ALL (names);
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION '% is there already and would refuse every event for want of %: choose another schema with --schema',
      name, wrong USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END
$sluice$;
