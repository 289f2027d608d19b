#!/usr/bin/python3
"""The conversation with Postgres cut, stalled and diced around COMMIT and COPY: each event is
stored once. The table has no primary key, so that double rows would be seen."""

import unittest

from support.producer import Load
from support.sluice_test import SluiceTest
from support.waiting import wait_until
from support.wire_proxy import (CutAfterCommit, CutBeforeCommit, CutInCopy, RollbackForCommit, Stall,
                                WireProxy)

EVENTS = 20_000
SETTINGS = {"postgres": {"lanes": 2, "batch_rows_max": 1000}}


class CommitCut(SluiceTest):
    def setUp(self):
        super().setUp()
        self.drop_primary_key()
        self.proxy = WireProxy(self.cluster)
        self.addCleanup(self.proxy.close)
        self.daemon = self.start_daemon(SETTINGS, dsn=self.proxy.dsn(self.dbname))

    def ship_through(self, fault):
        """All events with the fault in the way; returns the load, which may still be under way."""
        self.proxy.fault = fault
        load = Load(self.daemon.socket_path, "p", total=EVENTS, padding="x" * 300)
        load.start()
        return load

    def finish(self, load, timeout=60):
        load.join(timeout)
        self.assertEqual(load.sent, EVENTS)
        self.wait_quiet(self.daemon, EVENTS, timeout)
        self.assert_each_once({"p": EVENTS})

    def test_cut_before_commit_reached_the_server(self):
        for nth in (1, 2, 5):
            with self.subTest(nth=nth):
                self.setUp()
                fault = CutBeforeCommit(nth, times=3)
                self.finish(self.ship_through(fault))
                self.assertEqual(fault.struck, 3)
                self.assertGreaterEqual(self.daemon.metrics()["sluice_commits_unknown_total"], 3)

    def test_cut_after_commit_took_effect(self):
        for nth in (1, 2, 5):
            with self.subTest(nth=nth):
                self.setUp()
                fault = CutAfterCommit(nth, times=3)
                self.finish(self.ship_through(fault))
                self.assertEqual(fault.struck, 3)
                self.assertGreaterEqual(self.daemon.metrics()["sluice_commits_unknown_total"], 3)

    def test_a_commit_that_was_answered_by_rollback(self):
        """A success by its status; only the tag tells that nothing was committed."""
        fault = RollbackForCommit(nth=2, times=3)
        self.finish(self.ship_through(fault))
        self.assertEqual(fault.struck, 3)
        # Believed, it would be a commit that the database has lost.
        self.assertEqual(self.daemon.metrics().get("sluice_commits_lost_total", 0), 0)

    def test_cut_in_the_middle_of_copy(self):
        for after_bytes in (0, 1, 50_000, 200_000):
            with self.subTest(after_bytes=after_bytes):
                self.setUp()
                fault = CutInCopy(after_bytes, nth=2, times=2)
                self.finish(self.ship_through(fault))
                self.assertGreaterEqual(fault.struck, 1 if after_bytes > 100_000 else 2)

    def test_everything_in_tiny_pieces(self):
        self.proxy.piece_bytes_max = 700
        self.finish(self.ship_through(None))

    def test_a_stalled_server_holds_the_producer_and_loses_nothing(self):
        stall = Stall()
        load = self.ship_through(stall)
        wait_until(lambda: self.daemon.events("received") > 0, 20, "events to come in")
        self.assertEqual(self.daemon.events("committed"), 0)
        stall.end()
        self.finish(load)


if __name__ == "__main__":
    unittest.main()
