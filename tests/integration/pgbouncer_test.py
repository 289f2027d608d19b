#!/usr/bin/python3
"""Through pgbouncer in transaction mode: no session state is used, and its own failures lose nothing."""

import unittest

from support.pgbouncer import Pgbouncer
from support.producer import Load
from support.sluice_test import SluiceTest
from support.waiting import wait_until


class ThroughPgbouncer(SluiceTest):
    def setUp(self):
        super().setUp()
        self.drop_primary_key()

    def load(self, daemon, total=None):
        load = Load(daemon.socket_path, "p", total=total, rate=20_000)
        load.start()
        return load

    def test_events_arrive(self):
        with Pgbouncer(self.cluster) as pooler:
            daemon = self.start_daemon(dsn=pooler.dsn(self.dbname))
            self.load(daemon, 20_000).join()
            self.wait_quiet(daemon, 20_000)
            self.assert_each_once({"p": 20_000})
            self.assertEqual(daemon.stop(), 0)

    def test_a_pool_of_one_connection_serves_all_lanes(self):
        with Pgbouncer(self.cluster, default_pool_size=1) as pooler:
            daemon = self.start_daemon({"postgres": {"lanes": 3}}, dsn=pooler.dsn(self.dbname))
            self.load(daemon, 20_000).join()
            self.wait_quiet(daemon, 20_000)
            self.assert_each_once({"p": 20_000})
            self.assertEqual(daemon.stop(), 0)

    def test_pgbouncer_and_postgres_restarted_under_load(self):
        with Pgbouncer(self.cluster) as pooler:
            daemon = self.start_daemon(dsn=pooler.dsn(self.dbname))
            load = self.load(daemon)
            for turn in range(6):
                committed = daemon.events("committed")
                wait_until(lambda: daemon.events("committed") > committed, 60, "commits")
                if turn % 2:
                    self.cluster.restart("immediate")
                else:
                    pooler.kill()
                    pooler.start()
            sent = load.finish()
            self.wait_quiet(daemon, sent)
            self.assert_each_once({"p": sent})
            self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    unittest.main()
