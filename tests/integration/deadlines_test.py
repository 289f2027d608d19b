#!/usr/bin/python3
"""Answers that never come: a backend that is stopped, a network that is gone without a word, a zombie
that holds the watermark (faults 4, 8 and 9). All wait at the same time, each with a database and a
daemon of its own, since what is waited for are deadlines of half a minute and more."""

import concurrent.futures
import os
import signal
import threading
import time
import unittest

from support.fault_test import FaultTest
from support.far_network import FarNetwork, may_partition
from support.postgres_cluster import PostgresCluster
from support.sluice_test import say
from support.waiting import SLOWNESS, wait_until
from support.wire_proxy import FORWARD, FreezeCommitAnswer, WireProxy

SMALL_BATCHES = {"postgres": {"batch_rows_max": 500, "lanes": 1}}
GIVES_UP_S = 30  # a silent partition
OPEN_TRANSACTION_S = 12


class StopBackend:
    """Stops the backend of the first connection that comes to a message of the kind in the phase,
    before or after the message went on."""

    def __init__(self, phase, kind):
        self._phase = phase
        self._kind = kind
        self._lock = threading.Lock()
        self.pid = None

    def __call__(self, connection, direction, kind, message):
        with self._lock:
            if (self.pid is None and direction == "client" and kind == self._kind
                    and connection.phase == self._phase):
                self.pid = connection.backend_pid
                os.kill(self.pid, signal.SIGSTOP)
        return FORWARD

    def go_on(self):
        try:
            os.kill(self.pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


class Deadlines(FaultTest):
    """One case is a method that begins the fault and yields until its deadline has passed."""

    def own_database(self):
        name = self.new_database()
        self.apply_schema(dbname=name)
        self.query("ALTER TABLE events DROP CONSTRAINT events_pkey", dbname=name)
        return name

    def stopped_backend(self, phase, kind):
        dbname = self.own_database()
        proxy = WireProxy(self.cluster)
        self.addCleanup(proxy.close)
        daemon = self.start_spooling(SMALL_BATCHES, dsn=proxy.dsn(dbname))
        load = self.start_producers(daemon, ("keyed",), rate=2000)[0]
        self.wait_commits(daemon, 500)
        fault = proxy.fault = StopBackend(phase, kind)
        wait_until(lambda: fault.pid, 30, f"a backend to be stopped in {phase}")
        self.addCleanup(fault.go_on)
        began = time.monotonic()
        committed = daemon.events("committed")
        yield
        # The backend is still stopped: another one takes its place.
        wait_until(lambda: daemon.events("committed") > committed + 100, 100, "commits", every=0.1)
        say(f"backend stopped in {phase}: commits again after {time.monotonic() - began:.1f} s")
        fault.go_on()
        self.finish_case(daemon, load, dbname)

    def frozen_answer(self):
        """The commit took effect, and its answer stays on the way."""
        dbname = self.own_database()
        proxy = WireProxy(self.cluster)
        self.addCleanup(proxy.close)
        daemon = self.start_spooling(SMALL_BATCHES, dsn=proxy.dsn(dbname))
        load = self.start_producers(daemon, ("keyed",), rate=2000)[0]
        self.wait_commits(daemon, 500)
        fault = proxy.fault = FreezeCommitAnswer()
        self.addCleanup(fault.thaw)
        wait_until(fault.frozen.is_set, 30, "an answer to be frozen")
        yield
        wait_until(lambda: daemon.metrics()["sluice_commits_unknown_total"] >= 1, 90,
                   "the deadline of COMMIT", every=0.1)
        self.finish_case(daemon, load, dbname)

    def held_watermark(self):
        """A zombie's transaction, of which nobody knows what becomes of it, holds the row."""
        dbname = self.own_database()
        daemon = self.start_spooling(SMALL_BATCHES, dsn=self.dsn(dbname))
        load = self.start_producers(daemon, ("keyed",), rate=2000)[0]
        self.wait_commits(daemon, 500)
        zombie = self.cluster.connect(dbname)
        self.addCleanup(zombie.close)
        zombie.execute("BEGIN")
        zombie.execute("UPDATE sluice.watermark SET updated_at = now()")
        wait_until(lambda: daemon.metrics().get(
            'sluice_failures_total{action="retry",sqlstate_class="55"}', 0) >= 1, 60,
            "the lock's timeout", every=0.1)
        rows = self.query("SELECT count(*) FROM events", dbname=dbname)[0][0]
        began = time.monotonic()
        yield
        while time.monotonic() - began < OPEN_TRANSACTION_S:
            # Nothing is sent again while the row is held: what it says is not known.
            self.assertEqual(self.query("SELECT count(*) FROM events", dbname=dbname)[0][0], rows)
            time.sleep(1)
        zombie.execute("ROLLBACK")
        self.finish_case(daemon, load, dbname)

    def finish_case(self, daemon, load, dbname, cluster=None):
        load.finish(90)
        self.wait_quiet(daemon, timeout=90)
        found = self.judge(lambda sql, parameters: (cluster or self.cluster).query(
            sql, parameters, dbname), [load])
        self.assertEqual(found["acked"], found["made"])

    def test_answers_that_never_come(self):
        self.run_together({
            "stopped in COPY": self.stopped_backend("copy", b"d"),
            # Before it reads the message that commits: it will do so when it goes on.
            "stopped at COMMIT": self.stopped_backend("commit", b"Q"),
            "frozen answer": self.frozen_answer(),
            "held watermark": self.held_watermark(),
            **self.partitions(),
        })

    def run_together(self, cases):
        for case in cases.values():
            next(case)  # on this thread: what it starts ends with the thread that started it
        with concurrent.futures.ThreadPoolExecutor(len(cases)) as waiting:
            ends = {name: waiting.submit(next, case, None) for name, case in cases.items()}
        for name, end in ends.items():
            with self.subTest(name):
                self.assertIsNone(end.result())

    # The silent partition.

    def partitions(self):
        if not may_partition():
            say("no silent partition: it needs the right to make network namespaces")
            return {}
        return {"partition in COPY": self.partition("copy"),
                "partition in W3": self.partition("commit")}

    def partition(self, phase):
        network = FarNetwork()
        self.addCleanup(network.close)
        with network.inside():
            cluster = PostgresCluster({"listen_addresses": "*"}, hba=[
                "local all all trust", "host all all 0.0.0.0/0 trust"])
            self.addCleanup(cluster.close)
            cluster.start()
        near = f"{cluster.dsn('postgres')}"
        self.apply_schema_to(near)
        cluster.query("ALTER TABLE events DROP CONSTRAINT events_pkey")
        self.make_slow(cluster, phase)
        daemon = self.start_spooling(SMALL_BATCHES, dsn=(
            f"host={network.far_address} port={cluster.port} dbname=postgres user=postgres"))
        load = self.start_producers(daemon, ("keyed",), rate=500)[0]
        self.wait_commits(daemon, 100)
        wait_until(lambda: self.is_in(cluster, phase), 30, f"a backend in {phase}", every=0.001)
        network.cut()
        began = time.monotonic()
        failures = self.failures(daemon)
        yield
        wait_until(lambda: self.failures(daemon) > failures,
                   max(1, began + (GIVES_UP_S + 3) * SLOWNESS - time.monotonic()),
                   f"the lane to give up, partitioned in {phase}", every=0.1)
        say(f"partition in {phase}: given up after {time.monotonic() - began:.1f} s")
        acked = load.acked
        wait_until(lambda: load.acked > acked, 30, "acks to go on")
        # The server's side: the transaction of the connection that is gone is ended, so that its
        # locks are gone too when the network is back.
        wait_until(lambda: not self.is_in(cluster, phase), 60, "the zombie to be gone", every=0.1)
        network.mend()
        self.finish_case(daemon, load, "postgres", cluster)

    def apply_schema_to(self, dsn):
        own, self.dsn = self.dsn, lambda dbname=None: dsn
        try:
            self.apply_schema()
        finally:
            self.dsn = own

    @staticmethod
    def make_slow(cluster, phase):
        """So that a lane is in the phase nearly all the time."""
        cluster.query("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
                      " $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$")
        table, moment = (("events", "BEFORE INSERT") if phase == "copy"
                         else ("sluice.watermark", "BEFORE UPDATE"))
        if phase == "commit":
            cluster.query("CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
                          " $$ BEGIN PERFORM pg_sleep(1); RETURN NEW; END $$")
        cluster.query(f"CREATE TRIGGER slow {moment} ON {table} FOR EACH ROW EXECUTE FUNCTION slow()")

    @staticmethod
    def is_in(cluster, phase):
        return cluster.query("SELECT 1 FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND"
                             " state <> 'idle' AND query ~ %s",
                             ("COPY" if phase == "copy" else "^UPDATE|COMMIT",))

    @staticmethod
    def failures(daemon):
        return sum(value for series, value in daemon.metrics().items()
                   if series.startswith("sluice_failures_total"))


if __name__ == "__main__":
    unittest.main()
