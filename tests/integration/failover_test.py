#!/usr/bin/python3
"""Commits that a replica does not have: a synchronous standby that is gone, a replica that missed the
last commits and is promoted, a primary that becomes read-only (faults 10, 11 and 12)."""

import time
import unittest

from support.acking_producer import KEYED, NAMED
from support.fault_test import FaultTest
from support.replica import Replica
from support.sluice_test import say
from support.waiting import wait_until
from support.wire_proxy import WireProxy

SMALL_BATCHES = {"postgres": {"batch_rows_max": 500}}


class Promoted(FaultTest):
    def setUp(self):
        if not self.cluster.running:
            self.cluster.start()  # the test before has ended it
        super().setUp()
        self.replica = Replica(self.cluster)
        self.addCleanup(self.replica.close)
        self.replica.start()
        self.proxy = WireProxy(self.cluster)
        self.addCleanup(self.proxy.close)

    def fail_over(self):
        """The primary is gone, and the replica goes on with what it had when it was stopped."""
        self.cluster.stop("immediate")
        self.replica.start()
        self.replica.promote()
        self.proxy.switch_to(self.replica)

    def replica_rows(self, sql, parameters=None):
        return self.replica.query(sql, parameters, self.dbname)

    def settle_on_replica(self, daemon):
        for load in self.producers:
            load.finish(120)
        self.wait_quiet(daemon, timeout=120)
        return self.judge(self.replica_rows)

    def test_the_rows_come_back_exactly(self):
        daemon = self.start_spooling(SMALL_BATCHES, dsn=self.proxy.dsn(self.dbname))
        self.start_producers(daemon)
        self.wait_commits(daemon, 5000)
        self.replica.wait_caught_up()
        self.replica.stop()
        self.wait_commits(daemon, 5000)
        self.fail_over()
        self.wait_acks(1000)
        self.settle_on_replica(daemon)
        lost = daemon.metrics()["sluice_commits_lost_total"]
        say(f"{lost:.0f} segments whose commits were lost, "
            f"{daemon.events('rewound'):,} events delivered again")
        self.assertGreaterEqual(daemon.events("rewound"), 5000)

    def test_an_idle_daemon_finds_it_too(self):
        """All was delivered and its segments are sealed: only the check of what is retained sees it."""
        daemon = self.start_spooling(SMALL_BATCHES, dsn=self.proxy.dsn(self.dbname))
        first = self.start_producers(daemon, (KEYED, NAMED), total=3000)
        wait_until(lambda: all(load.acked == 3000 for load in first), 60, "acks")
        self.wait_quiet(daemon)
        self.replica.wait_caught_up()
        self.replica.stop()
        later = self.start_producers(daemon, (KEYED, NAMED), total=3000)
        wait_until(lambda: all(load.acked == 3000 for load in later), 60, "acks")
        self.wait_quiet(daemon)
        self.fail_over()
        wait_until(lambda: daemon.events("rewound") >= 6000, 60, "the commits to be missed")
        self.settle_on_replica(daemon)

    def test_after_a_restart_of_the_daemon(self):
        """Also a process that never knew of those commits makes them good."""
        daemon = self.start_spooling(SMALL_BATCHES, dsn=self.proxy.dsn(self.dbname))
        self.start_producers(daemon)
        self.wait_commits(daemon, 2000)
        self.replica.wait_caught_up()
        self.replica.stop()
        self.wait_commits(daemon, 5000)
        daemon.signal(9)
        daemon.wait()
        self.fail_over()
        daemon.start()
        self.wait_acks(1000)
        self.settle_on_replica(daemon)


class SynchronousStandby(FaultTest):
    def synchronous_with(self, name):
        self.cluster.query(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        self.cluster.query("SELECT pg_reload_conf()")
        wait_until(lambda: self.cluster.query("SHOW synchronous_standby_names")[0][0] == name, 20,
                   "the reload")

    def waiting_backends(self):
        """(pid, transaction) of commits that wait for their standby."""
        return self.cluster.query(
            "SELECT pid, backend_xid::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'")

    def end_waits(self, how):
        """Ends waits for the standby: each is then committed here and nowhere else. Returns the
        transactions."""
        waits = wait_until(self.waiting_backends, 60, "a commit that waits for its standby")
        for pid, _ in waits:
            self.cluster.query(f"SELECT {how}(%s)", (pid,))
        return [transaction for _, transaction in waits]

    def test_a_commit_that_no_standby_has_frees_no_segment(self):
        daemon = self.start_spooling(SMALL_BATCHES, segment_bytes="64KiB", retain_time="0s")
        spool = self.spools[0]
        self.addCleanup(self.synchronous_with, "")
        self.start_producers(daemon, rate=2000)
        self.wait_commits(daemon, 1000)
        self.synchronous_with("nosuch")
        self.wait_acks(5000)
        transactions = []
        for how in ("pg_cancel_backend", "pg_terminate_backend", "pg_cancel_backend"):
            transactions += self.end_waits(how)
        only_here = self.written_by(transactions)
        self.assertGreater(len(only_here), 0)
        files = "".join(self.segment_files(spool))
        self.assertEqual([segment for segment in only_here if segment not in files], [],
                         "deleted, though no standby has its watermark")
        self.assertGreater(daemon.metrics()["sluice_commits_unknown_total"], 0)
        self.synchronous_with("")
        self.settle(daemon)
        # All is confirmed then, and goes: only open segments stay.
        wait_until(lambda: len(self.segment_files(spool)) <= 2, 60,
                   "the confirmed segments to be deleted")

    def written_by(self, transactions):
        """The segments whose watermark was last moved by one of the transactions."""
        return [segment for (segment,) in self.query(
            "SELECT segment_id::text FROM sluice.watermark WHERE xmin::text = ANY(%s)",
            (transactions,))]


class ReadOnlyPrimary(FaultTest):
    def test_the_next_host_is_taken_and_nothing_is_set_aside(self):
        with Replica(self.cluster) as replica:
            dsn = (f"host={self.cluster.socket_directory},{replica.socket_directory}"
                   f" port={self.cluster.port},{replica.port} dbname={self.dbname} user=postgres")
            daemon = self.start_spooling(SMALL_BATCHES, dsn=dsn)
            self.start_producers(daemon)
            self.wait_commits(daemon, 2000)
            self.cluster.set(default_transaction_read_only="on")
            self.cluster.reload()
            wait_until(lambda: self.query("SHOW default_transaction_read_only")[0][0] == "on", 20,
                       "the reload")
            wait_until(lambda: not self.query(
                "SELECT 1 FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()"
                " AND datname = current_database()"), 30, "the last transactions to end")
            replica.wait_caught_up()
            replica.promote()
            self.wait_acks(1000)
            began = time.monotonic()
            for load in self.producers:
                load.finish()
            self.wait_quiet(daemon)
            say(f"delivered to the next host within {time.monotonic() - began:.1f} s")
            found = self.judge(lambda sql, parameters: replica.query(sql, parameters, self.dbname))
            self.assertEqual(found["set_aside"], 0)


if __name__ == "__main__":
    unittest.main()
