-- What the daemon's role needs of sluice's own tables, and no more. Each model grants the rest.

GRANT USAGE ON SCHEMA :"schema" TO :"role";
GRANT USAGE ON SCHEMA :"own_schema" TO :"role";
GRANT SELECT, INSERT, UPDATE ON :"own_schema".watermark TO :"role";
GRANT SELECT, INSERT ON :"own_schema".redelivered TO :"role";

-- Merging needs temporary tables. PUBLIC has the right unless somebody took it away.
DO $sluice$
BEGIN
  IF NOT has_database_privilege(:'role', current_database(), 'TEMPORARY') THEN
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), :'role');
  END IF;
END
$sluice$;
