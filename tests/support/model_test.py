"""What the tests of the models' SQL share: the model applied to a database of its own, statements that must
be refused, and statements in several connections at once."""

import os
import subprocess
import threading

import psycopg

from support.sluice_test import SluiceTest


class ModelTest(SluiceTest):
    model = "agent_log"
    apply_options = ()

    def setUp(self):
        self.dbname = self.new_database()
        self.apply_schema("--model", self.model, *self.apply_options)

    def assert_refused(self, sqlstate, sql, parameters=None, dbname=None, user="postgres"):
        """Returns the error, for its message and constraint."""
        with self.cluster.connect(dbname or self.dbname, user=user) as connection:
            with self.assertRaises(psycopg.Error, msg=sql) as caught:
                connection.execute(sql, parameters)
        self.assertEqual(caught.exception.sqlstate, sqlstate, caught.exception)
        return caught.exception

    def connection(self, **more):
        """One in autocommit mode that is closed with the test."""
        connection = self.cluster.connect(self.dbname, **more)
        self.addCleanup(connection.close)
        return connection

    def in_parallel(self, *works):
        """Calls each with a connection of its own, all at once; raises what the first to fail raised."""
        failures = []
        barrier = threading.Barrier(len(works))

        def run(work):
            try:
                with self.cluster.connect(self.dbname) as connection:
                    barrier.wait(30)
                    work(connection)
            except BaseException as error:  # is raised below, in the test's own thread
                failures.append(error)

        threads = [threading.Thread(target=run, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def waits_for(self, connection):
        """True while the connection's statement waits for a lock; for wait_until."""
        return self.query("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s",
                          (connection.info.backend_pid,))[0][0]

    def schema_text(self):
        """The database's tables, functions, rights and comments as SQL, to compare with another time's."""
        dump = subprocess.run([os.path.join(self.cluster.binaries, "pg_dump"), "--schema-only", self.dsn()],
                              check=True, capture_output=True, text=True).stdout
        # psql's own commands hold a key that is another one each time.
        return "\n".join(line for line in dump.splitlines() if not line.startswith("\\"))

    def undescribed(self, schema="public"):
        """Tables, columns and functions without a comment."""
        return self.query(
            "SELECT c.relname, a.attname FROM pg_class c"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum >= 0 AND NOT a.attisdropped"
            " WHERE c.relnamespace = %(schema)s::regnamespace AND c.relkind IN ('r', 'p', 'v')"
            " AND NOT c.relispartition AND col_description(c.oid, a.attnum) IS NULL"
            " UNION ALL SELECT relname, NULL FROM pg_class c"
            " WHERE relnamespace = %(schema)s::regnamespace AND relkind IN ('r', 'p', 'v')"
            " AND NOT relispartition AND obj_description(oid, 'pg_class') IS NULL"
            " UNION ALL SELECT proname, NULL FROM pg_proc"
            " WHERE pronamespace = %(schema)s::regnamespace AND obj_description(oid, 'pg_proc') IS NULL",
            {"schema": schema})
