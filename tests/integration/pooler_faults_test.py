#!/usr/bin/python3
"""Pgbouncer's own failures with the spool on disk: its pool is full, its server crashes, it is killed,
restarted and paused (fault 14)."""

import unittest

from support.fault_test import FaultTest
from support.pgbouncer import Pgbouncer
from support.waiting import wait_until

SMALL_BATCHES = {"postgres": {"batch_rows_max": 500}}


class PoolerFaults(FaultTest):
    def ship_through(self, **settings):
        pooler = Pgbouncer(self.cluster, admin_users="postgres", **settings)
        self.addCleanup(pooler.close)
        pooler.start()
        daemon = self.start_spooling(SMALL_BATCHES, dsn=pooler.dsn(self.dbname))
        self.start_producers(daemon)
        self.wait_commits(daemon, 500)
        return pooler, daemon

    def test_a_full_pool(self):
        pooler, daemon = self.ship_through(default_pool_size=1, query_wait_timeout=3)
        with pooler.connect(self.dbname) as hog:
            hog.execute("BEGIN")  # takes the pool's only connection
            wait_until(lambda: daemon.metrics().get(
                'sluice_failures_total{action="retry",sqlstate_class="08"}', 0) >= 2, 60,
                "queries to wait in vain")
            self.wait_acks(1000)
            hog.execute("ROLLBACK")
        self.wait_commits(daemon, 500)
        self.assertEqual(self.settle(daemon)["set_aside"], 0)

    def test_killed_and_its_server_crashed(self):
        pooler, daemon = self.ship_through()
        for turn in range(4):
            if turn % 2:
                self.cluster.restart("immediate")
            else:
                pooler.kill()
                self.wait_acks(500)
                pooler.start()
            self.wait_commits(daemon, 500)
        self.settle(daemon)

    def test_paused(self):
        pooler, daemon = self.ship_through()
        with pooler.connect("pgbouncer") as admin:
            for _ in range(3):
                admin.execute(f"PAUSE {self.dbname}")
                self.wait_acks(2000)
                admin.execute(f"RESUME {self.dbname}")
                self.wait_commits(daemon, 500)
        self.settle(daemon)


if __name__ == "__main__":
    unittest.main()
