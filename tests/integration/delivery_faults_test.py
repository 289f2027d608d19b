#!/usr/bin/python3
"""The conversation with Postgres cut, slowed, locked and refused while the spool is on disk: acks go on,
memory stays flat, and every event is stored once (faults 3, 5, 6, 7, 13, 15, 24, 27)."""

import os
import random
import time
import unittest

from support import producer
from support.acking_producer import KEYED, NAMED
from support.fault_test import SEED, FaultTest
from support.postgres_cluster import own_by_unprivileged_user
from support.sluice_test import say
from support.small_disk import SmallDisk, may_mount
from support.waiting import wait_until
from support.wire_proxy import (CutAfterCommit, CutBeforeCommit, CutInCopy, RollbackForCommit,
                                WireProxy)

MIB = 2**20
SMALL_BATCHES = {"postgres": {"batch_rows_max": 500}}
# Of the backlog that an outage leaves.
BACKLOG_MIB = int(os.environ.get("SLUICE_TEST_BACKLOG_MIB", "100"))


class Cuts(FaultTest):
    def setUp(self):
        super().setUp()
        self.proxy = WireProxy(self.cluster, SEED)
        self.addCleanup(self.proxy.close)
        self.daemon = self.start_spooling(SMALL_BATCHES, dsn=self.proxy.dsn(self.dbname))
        self.start_producers(self.daemon)
        self.wait_commits(self.daemon, 1000)

    def strike_with(self, fault):
        self.proxy.fault = fault
        wait_until(lambda: fault.struck >= 1, 60, f"{type(fault).__name__} to strike")

    def test_commits_cut_off_before_and_after_they_took_effect(self):
        for nth in range(1, 6):
            self.strike_with(CutBeforeCommit(nth))
            self.strike_with(CutAfterCommit(nth))
        self.proxy.fault = None
        wait_until(lambda: self.daemon.metrics()["sluice_commits_unknown_total"] >= 10, 30,
                   "each cut to be seen")
        self.settle(self.daemon)

    def test_a_commit_that_was_answered_by_rollback(self):
        for nth in (1, 3):
            self.strike_with(RollbackForCommit(nth))
        self.settle(self.daemon)
        self.assertEqual(self.daemon.metrics().get("sluice_commits_lost_total", 0), 0)

    def test_copy_cut_off_in_its_middle(self):
        for after_bytes in (0, 1, 1000, 20_000, 50_000):
            self.strike_with(CutInCopy(after_bytes))
        self.proxy.fault = None
        self.settle(self.daemon)

    def test_cut_and_killed_at_once(self):
        """The answer to a COMMIT is lost together with the daemon that waited for it."""
        source = random.Random(SEED)
        for _ in range(8):
            fault = source.choice([CutBeforeCommit, CutAfterCommit])()
            self.strike_with(fault)
            self.daemon.signal(9)
            self.daemon.wait()
            self.proxy.fault = None
            self.daemon.start()
            self.wait_acks(100)
        self.settle(self.daemon)

    def test_backends_terminated(self):
        for _ in range(30):
            committed = self.daemon.events("committed")
            self.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                       " WHERE application_name <> 'replica' AND pid <> pg_backend_pid()"
                       " AND datname = current_database()")
            wait_until(lambda: self.daemon.events("committed") > committed, 60, "commits")
        self.settle(self.daemon)


class Outage(FaultTest):
    def test_acks_go_on_in_flat_memory_and_the_backlog_drains_in_order(self):
        daemon = self.start_spooling(segment_bytes="8MiB")
        # Without keys: the dedupe window has a bound of its own.
        self.start_producers(daemon, (NAMED, NAMED, NAMED), rate=None, padding="x" * 1500,
                             window=4000, lines_per_write=200)
        self.wait_commits(daemon, 1000)
        self.cluster.stop("immediate")
        # What is filled once, such as queue and caches, is filled by half of the backlog.
        self.wait_backlog(BACKLOG_MIB / 2)
        start_bytes = daemon.memory_bytes()
        self.wait_backlog(BACKLOG_MIB)
        self.check_alive()
        grown = daemon.memory_bytes() - start_bytes
        self.assertEqual(daemon.page("/readyz")[0], 200)
        for load in self.producers:
            load.finish()
        made = sum(load.made for load in self.producers)
        say(f"{made:,} events in {self.bytes_of(self.spools[0]) / MIB:.0f} MiB of spool, "
            f"resident {daemon.memory_bytes() / MIB:.1f} MiB, grown by {grown / MIB:.2f} MiB")
        self.check_memory(grown, 8 * MIB)
        self.cluster.start()
        began = time.monotonic()
        self.settle(daemon, timeout=600)
        say(f"drained in {time.monotonic() - began:.1f} s with Postgres' recovery, "
            f"peak {daemon.memory_bytes(peak=True) / MIB:.1f} MiB")
        self.check_memory(daemon.memory_bytes(peak=True), 64 * MIB)

    def wait_backlog(self, mebibytes):
        wait_until(lambda: self.bytes_of(self.spools[0]) > mebibytes * MIB, 900,
                   f"{mebibytes:g} MiB of backlog", every=0.1)

    @staticmethod
    def bytes_of(spool):
        return sum(os.path.getsize(os.path.join(spool, name)) for name in os.listdir(spool)
                   if name.endswith(".log"))

    def test_a_backlog_is_drained_by_another_process_after_a_kill(self):
        daemon = self.start_spooling()
        self.start_producers(daemon)
        self.wait_acks(1000)
        self.cluster.stop("immediate")
        self.wait_acks(10_000)
        daemon.signal(9)
        daemon.wait()
        daemon.start()
        self.wait_acks(1000)
        self.cluster.start()
        self.settle(daemon)


class Slow(FaultTest):
    def test_a_full_spool_holds_the_producers_until_postgres_takes_it(self):
        daemon = self.start_spooling(bytes_max="24MiB", retain_time="0s")
        with self.cluster.connect(self.dbname) as admin:
            admin.execute("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
            self.start_producers(daemon, (KEYED, NAMED), rate=None, padding="x" * 1500,
                                 lines_per_write=200)

            def held():
                self.check_alive()
                before = self.acked()
                time.sleep(1)  # the time in which nothing may move is what is measured
                return before and self.acked() == before
            wait_until(held, 60, "the producers to be held")
            say(f"held after {self.acked():,} acks")
            self.assertTrue(all(p.is_alive() for p in self.producers))
            self.assertEqual(daemon.events("committed"), 0)
            admin.execute("ROLLBACK")
        self.wait_acks(1000)
        self.wait_commits(daemon, 1000)
        found = self.settle(daemon)
        self.assertEqual(found["acked"], found["made"])

    def test_backends_stopped_in_pulses(self):
        daemon = self.start_spooling(SMALL_BATCHES)
        self.start_producers(daemon)
        self.wait_commits(daemon, 100)
        source = random.Random(SEED)
        for _ in range(10):
            pids = [pid for (pid,) in self.query(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'")]
            self.signal_all(pids, 19)
            time.sleep(source.uniform(0, 0.5))
            self.signal_all(pids, 18)
            self.wait_acks(100)
        self.settle(daemon)

    @staticmethod
    def signal_all(pids, number):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # it has just ended


class Ddl(FaultTest):
    """What administrators do to the tables under load: the events wait and come by themselves."""

    def setUp(self):
        super().setUp()
        self.query("CREATE ROLE shipper LOGIN" if not self.cluster.query(
            "SELECT 1 FROM pg_roles WHERE rolname = 'shipper'") else "SELECT 1")
        self.apply_schema("--role", "shipper")
        self.daemon = self.start_spooling(SMALL_BATCHES,
                                          dsn=self.cluster.dsn(self.dbname, user="shipper"))
        self.start_producers(self.daemon, rate=2000)
        self.wait_commits(self.daemon, 500)

    def break_and_mend(self, wrong, mend):
        self.query(wrong)
        wait_until(lambda: self.daemon.lanes("held") >= 1, 60, "the lanes to be held")
        self.wait_acks(1000)  # acks are the spool's: they go on
        self.query(mend)
        self.wait_commits(self.daemon, 100, timeout=90)

    def test_broken_one_after_the_other_under_load(self):
        cases = {
            "42501 on the table": ("REVOKE INSERT ON events FROM shipper",
                                   "GRANT INSERT ON events TO shipper"),
            "42501 on the watermark": ("REVOKE UPDATE, SELECT ON sluice.watermark FROM shipper",
                                       "GRANT UPDATE, SELECT ON sluice.watermark TO shipper"),
            "42703": ("ALTER TABLE events RENAME COLUMN extra TO other",
                      "ALTER TABLE events RENAME COLUMN other TO extra"),
            "42P01": ("ALTER TABLE events RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO events"),
            "watermark away": ("ALTER TABLE sluice.watermark RENAME TO elsewhere",
                               "ALTER TABLE sluice.elsewhere RENAME TO watermark"),
        }
        for name, (wrong, mend) in cases.items():
            with self.subTest(name):
                self.break_and_mend(wrong, mend)
        found = self.settle(self.daemon, timeout=90)
        self.assertEqual(found["set_aside"], 0)


@unittest.skipUnless(may_mount(), "needs the right to mount")
class PostgresDiskFull(FaultTest):
    def test_the_events_wait_and_none_is_set_aside(self):
        with SmallDisk(96) as disk:
            place = os.path.join(disk.path, "space")
            os.mkdir(place, 0o700)
            own_by_unprivileged_user(place)
            self.query(f"CREATE TABLESPACE small LOCATION '{place}'")
            try:
                self.query("ALTER TABLE events SET TABLESPACE small")
                disk.fill(leave_bytes=4 * MIB)
                daemon = self.start_spooling()
                self.start_producers(daemon, rate=2000, padding="x" * 500)
                wait_until(lambda: self.refusals(daemon) > 2, 60, "the disk to be full")
                self.wait_acks(1000)
                disk.clear()
                self.wait_commits(daemon, 1000)
                found = self.settle(daemon)
                self.assertEqual(found["set_aside"], 0)
            finally:
                self.cluster.query(f"DROP DATABASE {self.dbname} WITH (FORCE)")
                self.query_postgres("DROP TABLESPACE small")

    def query_postgres(self, sql):
        self.cluster.query(sql)

    @staticmethod
    def refusals(daemon):
        return daemon.metrics().get(
            'sluice_failures_total{action="retry",sqlstate_class="53"}', 0)


class Duplicates(FaultTest):
    """The same key again: in the same group, while its group waits, after a restart."""

    def send(self, daemon, *keys):
        producer.send(daemon.socket_path, *[{"type": "load", "source": "d", "dedupe_key": key,
                                             "data": {"n": 0}} for key in keys])

    def stored(self):
        return dict(self.query("SELECT dedupe_key, count(*) FROM events GROUP BY 1"))

    def test_one_row_each_time(self):
        daemon = self.start_spooling()
        self.send(daemon, "a", "a", "a")
        self.wait_quiet(daemon, 3)
        self.assertEqual(self.stored(), {"a": 1})
        for end in ("kill", "stop"):
            if end == "kill":
                daemon.signal(9)
                daemon.wait()
            else:
                self.assertEqual(daemon.stop(), 0)
            daemon.start()
            self.send(daemon, "a", f"after {end}", "a")
            self.wait_quiet(daemon, 3)
        self.assertEqual(self.stored(), {"a": 1, "after kill": 1, "after stop": 1})

    def test_while_postgres_is_away_and_over_a_kill(self):
        daemon = self.start_spooling()
        self.cluster.stop("fast")
        try:
            self.send(daemon, "a", "b")
            wait_until(lambda: daemon.events("received") == 2, 20, "the events")
            load = self.start_producers(daemon, (KEYED,), total=100)[0]
            wait_until(lambda: load.acked == 100, 30, "acks: what came before is durable too")
            daemon.signal(9)
            daemon.wait()
            daemon.start()
            self.send(daemon, "b", "a", "c")
            wait_until(lambda: daemon.events("received") == 3, 20, "the events")
        finally:
            self.cluster.start()
        self.settle(daemon)
        self.assertEqual({key: count for key, count in self.stored().items() if len(key) == 1},
                         {"a": 1, "b": 1, "c": 1})


if __name__ == "__main__":
    unittest.main()
