#!/usr/bin/python3
"""The tests' own tools: the cluster starts, dies and comes back; the proxy cuts where it says."""

import threading
import unittest

import psycopg

from support.postgres_cluster import PostgresCluster
from support.waiting import TimedOut, wait_until
from support.wire_proxy import (CutAfterCommit, CutBeforeCommit, CutInCopy, FreezeCommitAnswer,
                                WireProxy)


def deliver(dsn, rows=100):
    """One batch as a lane delivers it: COPY and a counter in one transaction."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("BEGIN")
        with connection.cursor().copy("COPY rows FROM STDIN") as copy:
            for _ in range(rows):
                copy.write("x" * 1000 + "\n")
        connection.execute("UPDATE counter SET n = n + 1; COMMIT")


class Cluster(unittest.TestCase):
    def test_it_survives_every_way_to_end(self):
        with PostgresCluster() as cluster:
            cluster.query("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
            for end in (cluster.restart, lambda: cluster.restart("immediate"), self.kill(cluster)):
                end()
                self.assertEqual(cluster.query("SELECT n FROM kept"), [(1,)])

    @staticmethod
    def kill(cluster):
        def kill_and_start():
            cluster.kill()
            cluster.start()
        return kill_and_start

    def test_wait_until_gives_up_and_says_what_it_waited_for(self):
        with self.assertRaisesRegex(TimedOut, "the moon"):
            wait_until(lambda: False, 0.01, "the moon")


class Proxy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = PostgresCluster()
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.start()

    def setUp(self):
        self.cluster.query("DROP TABLE IF EXISTS rows, counter; CREATE TABLE rows (x text);"
                           " CREATE TABLE counter (n int); INSERT INTO counter VALUES (0)")
        self.proxy = WireProxy(self.cluster)
        self.addCleanup(self.proxy.close)

    def state(self):
        return self.cluster.query("SELECT n, (SELECT count(*) FROM rows) FROM counter")[0]

    def test_it_follows_the_phases(self):
        phases = []
        self.proxy.on_phase = lambda connection, phase: phases.append(phase)
        deliver(self.proxy.dsn())
        self.assertEqual(phases, ["connect", "idle", "describe", "copy", "finish", "commit", "idle"])
        self.assertEqual(self.state(), (1, 100))

    def test_cut_before_commit(self):
        self.proxy.fault = CutBeforeCommit()
        with self.assertRaises(psycopg.OperationalError):
            deliver(self.proxy.dsn())
        self.assertEqual(self.state(), (0, 0))
        deliver(self.proxy.dsn())
        self.assertEqual(self.state(), (1, 100))

    def test_cut_after_commit(self):
        self.proxy.fault = CutAfterCommit(nth=2)
        deliver(self.proxy.dsn())
        with self.assertRaises(psycopg.OperationalError):
            deliver(self.proxy.dsn())
        self.assertEqual(self.state(), (2, 200))

    def test_cut_in_copy(self):
        self.proxy.fault = CutInCopy(50_000)
        with self.assertRaises(psycopg.OperationalError):
            deliver(self.proxy.dsn(), 10_000)
        self.assertEqual(self.state(), (0, 0))

    def test_frozen_answer(self):
        fault = self.proxy.fault = FreezeCommitAnswer()
        failures = []

        def deliver_and_fail():
            try:
                deliver(self.proxy.dsn())
            except psycopg.OperationalError as error:
                failures.append(error)

        delivery = threading.Thread(target=deliver_and_fail)
        delivery.start()
        self.assertTrue(fault.frozen.wait(20))
        self.assertEqual(self.state(), (1, 100))
        self.assertTrue(delivery.is_alive())
        fault.thaw()
        delivery.join(20)
        self.assertEqual(len(failures), 1)

    def test_tiny_pieces(self):
        self.proxy.piece_bytes_max = 7
        deliver(self.proxy.dsn())
        self.assertEqual(self.state(), (1, 100))


if __name__ == "__main__":
    unittest.main()
