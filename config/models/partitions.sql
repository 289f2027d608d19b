-- Partitions by time: what every model with partitions needs, and what keeps them up to date.
--
-- Periods are days or months of UTC. What fits no partition lies in the DEFAULT one, so that no event
-- is refused; when its partition is made, it moves there.

CREATE TABLE IF NOT EXISTS :"own_schema".partitioned (
  table_schema   text     NOT NULL,
  table_name     text     NOT NULL,
  period         text     NOT NULL CHECK (period IN ('day', 'month')),
  time_column    text     NOT NULL,
  ahead          int      NOT NULL CHECK (ahead >= 0),
  behind         int      NOT NULL CHECK (behind >= 0),
  keep           interval CHECK (keep > interval '0'),
  before_detach  text,
  afterwards     text,
  PRIMARY KEY (table_schema, table_name)
);

COMMENT ON TABLE :"own_schema".partitioned IS
  'Which tables maintain_partitions() looks after, and how. Edit ahead, behind and keep as you like.';
COMMENT ON COLUMN :"own_schema".partitioned.period IS 'What one partition spans: day or month, of UTC.';
COMMENT ON COLUMN :"own_schema".partitioned.time_column IS 'The column that rows are dealt out by.';
COMMENT ON COLUMN :"own_schema".partitioned.ahead IS 'How many periods after this one have a partition.';
COMMENT ON COLUMN :"own_schema".partitioned.behind IS
  'How many periods before this one get a partition if the DEFAULT partition holds rows of theirs.';
COMMENT ON COLUMN :"own_schema".partitioned.keep IS
  'Partitions whose last moment is longer ago are detached. NULL: none are.';
COMMENT ON COLUMN :"own_schema".partitioned.before_detach IS
  'A function of (regclass) that is called with a partition before it is detached.';
COMMENT ON COLUMN :"own_schema".partitioned.afterwards IS
  'A function of (regclass) that is called with the table at the end, and says what it did as maintain_partitions does.';

CREATE OR REPLACE FUNCTION :"own_schema".partitions_of(parent regclass)
  RETURNS TABLE (part regclass, from_time timestamptz, to_time timestamptz, is_default boolean)
  LANGUAGE sql STABLE SET search_path = pg_catalog SET timezone = 'UTC' SET datestyle = 'ISO' AS $sluice$
  SELECT c.oid::regclass,
         (regexp_match(bound, 'FROM \(''([^'']+)''\)'))[1]::timestamptz,
         (regexp_match(bound, 'TO \(''([^'']+)''\)'))[1]::timestamptz,
         bound = 'DEFAULT'
    FROM pg_inherits
    JOIN pg_class c ON c.oid = inhrelid
    CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) b
   WHERE inhparent = parent
   ORDER BY 2 NULLS LAST;
$sluice$;
COMMENT ON FUNCTION :"own_schema".partitions_of(regclass) IS
  'The partitions of a table: from_time is in it, to_time is not; both NULL for the DEFAULT partition.';

-- The trigger on the parent does not see statements that name a partition.
CREATE OR REPLACE FUNCTION :"own_schema".guard_partition(part regclass) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog AS $sluice$
BEGIN
  EXECUTE format('CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s '
                 'FOR EACH STATEMENT EXECUTE FUNCTION %I.refuse_change()', part, :'own_schema');
END
$sluice$;

-- What lies in the DEFAULT partition of a period goes to the partition that is about to be attached.
-- Other transactions see the rows in the one or in the other. Returns how many there were.
CREATE OR REPLACE FUNCTION :"own_schema".move_out_of_default(
    parent regclass, target regclass, time_column text, from_time timestamptz, to_time timestamptz)
  RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog SET timezone = 'UTC' AS $sluice$
DECLARE
  source regclass := (SELECT inhrelid FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
                        WHERE inhparent = parent AND pg_get_expr(relpartbound, inhrelid) = 'DEFAULT');
  names text := (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
                   WHERE attrelid = parent AND attnum > 0 AND NOT attisdropped AND attgenerated = '');
  moved bigint;
BEGIN
  IF source IS NULL THEN
    RETURN 0;
  END IF;
  EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', source);
  EXECUTE format('ALTER TABLE %s DISABLE TRIGGER append_only', source);
  EXECUTE format('WITH moved AS (DELETE FROM %s WHERE %I >= %L AND %2$I < %4$L RETURNING %5$s) '
                 'INSERT INTO %6$s (%5$s) SELECT %5$s FROM moved',
                 source, time_column, from_time, to_time, names, target);
  GET DIAGNOSTICS moved = ROW_COUNT;
  EXECUTE format('ALTER TABLE %s ENABLE TRIGGER append_only', source);
  RETURN moved;
END
$sluice$;

-- Attached and not created in place: that would lock the whole table against its readers. Writers wait
-- at the parent: one that waited at the DEFAULT partition would go on there, and its rows be refused.
CREATE OR REPLACE FUNCTION :"own_schema".make_partition(
    parent regclass, part_name text, time_column text, from_time timestamptz, to_time timestamptz)
  RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog SET timezone = 'UTC' AS $sluice$
DECLARE
  schema_name text := (SELECT nspname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
                         WHERE pg_class.oid = parent);
  part regclass;
  moved bigint;
BEGIN
  EXECUTE format('LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE', parent);
  EXECUTE format('CREATE TABLE %I.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)',
                 schema_name, part_name, parent);
  part := to_regclass(format('%I.%I', schema_name, part_name));
  moved := :"own_schema".move_out_of_default(parent, part, time_column, from_time, to_time);
  EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', parent, part,
                 from_time, to_time);
  PERFORM :"own_schema".guard_partition(part);
  RETURN moved;
END
$sluice$;

-- The starts of the periods that shall have a partition: the one before this (events may come late),
-- this one and those ahead, and those behind of which the DEFAULT partition holds rows.
CREATE OR REPLACE FUNCTION :"own_schema".wanted_periods(parent regclass, settings :"own_schema".partitioned)
  RETURNS SETOF timestamptz
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog SET timezone = 'UTC' AS $sluice$
DECLARE
  step interval := ('1 ' || settings.period)::interval;
  this timestamptz := date_trunc(settings.period, now());
  source regclass := (SELECT part FROM :"own_schema".partitions_of(parent) WHERE is_default);
BEGIN
  RETURN QUERY SELECT this + n * step FROM generate_series(-1, settings.ahead) n;
  IF source IS NOT NULL THEN
    RETURN QUERY EXECUTE format(
      'SELECT DISTINCT date_trunc(%L, %I) FROM %s WHERE %2$I >= %4$L AND %2$I < %5$L',
      settings.period, settings.time_column, source,
      greatest(this - settings.behind * step, date_trunc(settings.period, now() - settings.keep)),
      this - step);
  END IF;
END
$sluice$;

CREATE OR REPLACE FUNCTION :"own_schema".make_partitions(parent regclass)
  RETURNS TABLE (action text, part text, moved bigint)
  LANGUAGE plpgsql SET search_path = pg_catalog SET timezone = 'UTC' AS $sluice$
DECLARE
  settings :"own_schema".partitioned;
  schema_name text;
  start timestamptz;
BEGIN
  SELECT p.* INTO STRICT settings
    FROM :"own_schema".partitioned p
    JOIN pg_namespace ON nspname = table_schema
    JOIN pg_class c ON c.relnamespace = pg_namespace.oid AND relname = table_name
   WHERE c.oid = parent;
  schema_name := settings.table_schema;
  action := 'made';
  FOR start IN SELECT DISTINCT w FROM :"own_schema".wanted_periods(parent, settings) w ORDER BY w LOOP
    CONTINUE WHEN EXISTS (SELECT FROM :"own_schema".partitions_of(parent)
                            WHERE from_time <= start AND start < to_time);
    part := settings.table_name || '_p'
            || to_char(start, CASE settings.period WHEN 'month' THEN 'YYYYMM' ELSE 'YYYYMMDD' END);
    IF to_regclass(format('%I.%I', schema_name, part)) IS NOT NULL THEN
      RAISE WARNING 'partition %.% was not made: there is a table of that name', schema_name, part;
      CONTINUE;
    END IF;
    moved := :"own_schema".make_partition(parent, part, settings.time_column, start,
                                          start + ('1 ' || settings.period)::interval);
    RETURN NEXT;
  END LOOP;
END
$sluice$;
COMMENT ON FUNCTION :"own_schema".make_partitions(regclass) IS
  'Makes the partitions that a table of sluice.partitioned lacks, and moves there what lay in DEFAULT.';

-- Detached tables stay as they are, append-only and outside of the parent; they may be dropped.
CREATE OR REPLACE FUNCTION :"own_schema".detach_partitions(parent regclass, older_than interval)
  RETURNS TABLE (action text, part text, moved bigint)
  LANGUAGE plpgsql SET search_path = pg_catalog SET timezone = 'UTC' AS $sluice$
DECLARE
  hook text := (SELECT before_detach FROM :"own_schema".partitioned
                  JOIN pg_namespace ON nspname = table_schema
                  JOIN pg_class c ON c.relnamespace = pg_namespace.oid AND relname = table_name
                 WHERE c.oid = parent);
  old regclass;
BEGIN
  IF older_than <= interval '0' THEN
    RAISE EXCEPTION 'older_than must be more than nothing' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  action := 'detached';
  moved := 0;
  FOR old IN SELECT p.part FROM :"own_schema".partitions_of(parent) p
               WHERE p.to_time <= now() - older_than ORDER BY p.to_time LOOP
    IF hook IS NOT NULL THEN
      EXECUTE format('SELECT %s($1)', hook) USING old;
    END IF;
    EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', parent, old);
    part := (SELECT relname FROM pg_class WHERE oid = old);
    RETURN NEXT;
  END LOOP;
END
$sluice$;
COMMENT ON FUNCTION :"own_schema".detach_partitions(regclass, interval) IS
  'Detaches the partitions of a table whose last moment is longer ago. They stay as tables of their own.';

-- All tables at once: what a timer calls. One transaction, so that a row is never in no partition.
CREATE OR REPLACE FUNCTION :"own_schema".maintain_partitions(detach_after interval DEFAULT NULL)
  RETURNS TABLE (parent text, action text, part text, moved bigint)
  LANGUAGE plpgsql SET search_path = pg_catalog SET timezone = 'UTC' AS $sluice$
DECLARE
  settings :"own_schema".partitioned;
  older_than interval;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('sluice schema apply'));
  FOR settings IN SELECT * FROM :"own_schema".partitioned ORDER BY table_schema, table_name LOOP
    parent := format('%I.%I', settings.table_schema, settings.table_name);
    IF to_regclass(parent) IS NULL THEN
      RAISE WARNING '% is not there any more: delete its row in %.partitioned', parent, :'own_schema';
      CONTINUE;
    END IF;
    older_than := coalesce(detach_after, settings.keep);
    RETURN QUERY SELECT parent, m.* FROM :"own_schema".make_partitions(to_regclass(parent)) m;
    RETURN QUERY SELECT parent, d.*
                   FROM :"own_schema".detach_partitions(to_regclass(parent), older_than) d;
    IF settings.afterwards IS NOT NULL THEN
      RETURN QUERY EXECUTE format('SELECT $1, a.* FROM %s($2) a', settings.afterwards)
        USING parent, to_regclass(parent);
    END IF;
  END LOOP;
END
$sluice$;
COMMENT ON FUNCTION :"own_schema".maintain_partitions(interval) IS
  'Makes the next partitions of every table of sluice.partitioned and detaches old ones: those that are '
  'longer ago than detach_after, or else than the table''s own keep. Says what it did, a row each.';

-- What a model calls once its table is there. Does nothing for a table without partitions.
CREATE OR REPLACE FUNCTION :"own_schema".adopt_partitioned(
    parent regclass, period text, time_column text, keep interval, before_detach text,
    afterwards text)
  RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $sluice$
DECLARE
  schema_name text;
  name text;
  part regclass;
BEGIN
  IF period = 'none' THEN
    RETURN;
  END IF;
  SELECT nspname, relname INTO schema_name, name
    FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE pg_class.oid = parent;
  IF EXISTS (SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
               WHERE inhparent = parent AND relname ~ ('^' || name || '_p[0-9]+$')
                 AND length(relname) - length(name) <> CASE period WHEN 'month' THEN 8 ELSE 10 END) THEN
    RAISE EXCEPTION '% is partitioned already, by another period than the %', parent, period
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  INSERT INTO :"own_schema".partitioned AS p
    VALUES (schema_name, name, period, time_column, CASE period WHEN 'month' THEN 2 ELSE 7 END,
            CASE period WHEN 'month' THEN 24 ELSE 90 END, keep, before_detach, afterwards)
    ON CONFLICT ON CONSTRAINT partitioned_pkey DO NOTHING;
  EXECUTE format('CREATE TABLE IF NOT EXISTS %I.%I PARTITION OF %s DEFAULT', schema_name,
                 name || '_default', parent);
  FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = parent LOOP
    PERFORM :"own_schema".guard_partition(part);
  END LOOP;
  PERFORM :"own_schema".make_partitions(parent);
END
$sluice$;
