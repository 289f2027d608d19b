"""What the tests of the models' SQL share: the model applied to a database of its own, statements that must
be refused, and statements in several connections at once."""

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
