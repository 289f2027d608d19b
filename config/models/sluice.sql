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
