#!/usr/bin/python3
"""Backends terminated and Postgres restarted under load: every event is stored, each once.

The table has no primary key here, so that a batch that was sent twice would be seen as double rows."""

import collections
import os
import random
import signal
import threading
import time
import unittest

from support.producer import Load
from support.sluice_test import SluiceTest, say
from support.waiting import wait_until
from support.wire_proxy import PHASES, WireProxy

TERMINATIONS = int(os.environ.get("SLUICE_TEST_TERMINATIONS", "200"))
RESTARTS = int(os.environ.get("SLUICE_TEST_RESTARTS", "20"))
SEED = int(os.environ.get("SLUICE_TEST_SEED", random.randrange(2**32)))
RATE = int(os.environ.get("SLUICE_TEST_RATE", "5000"))  # events per second of each producer


class Terminator:
    """Terminates backends at random moments of the delivery protocol and counts in which phase."""

    TARGETS = ("connect", "describe", "resolve", "idle", "copy", "copy", "copy", "finish", "commit",
               "commit", "commit")
    AFTER_A_LOSS = ("connect", "describe", "resolve")  # a quiet lane does not go through these
    MUST_HIT = ("resolve", "copy", "commit")
    # How long into the phase: before the message that begins it goes on, or while the server works.
    DELAYS_S = (0, 0, 0.0002, 0.001, 0.003, 0.010)

    def __init__(self, proxy, source):
        self._proxy = proxy
        self._source = source
        self._lock = threading.Lock()
        self._wanted = None
        self.by_phase = collections.Counter()
        proxy.on_phase = self._entered

    @property
    def count(self):
        return sum(self.by_phase.values())

    def missing(self):
        return [phase for phase in self.MUST_HIT if self.by_phase[phase] == 0]

    def terminate_one(self):
        count = self.count
        # At the end what was never hit; before, whatever comes.
        missing = self.missing() if count >= TERMINATIONS else ()
        target = self._source.choice(missing or self.TARGETS)
        with self._lock:
            self._wanted = target
        if target in self.AFTER_A_LOSS:
            for connection in self._proxy.connections()[:1]:
                connection.cut()
        wait_until(lambda: self.count > count, 60, f"a termination in phase {target}", every=0.001)

    def _entered(self, connection, phase):
        with self._lock:
            if self._wanted != phase or connection.backend_pid is None:
                return
            self._wanted = None
        delay = self._source.choice(self.DELAYS_S)
        if delay == 0:
            self._strike(connection)
        else:
            threading.Timer(delay, self._strike, [connection]).start()

    def _strike(self, connection):
        """As pg_terminate_backend() does it, without the way through a connection of ours."""
        phase = connection.phase
        try:
            os.kill(connection.backend_pid, signal.SIGTERM)
        except ProcessLookupError:
            with self._lock:
                self._wanted = "copy"  # it was gone already: another one, then
            return
        with self._lock:
            self.by_phase[phase] += 1


class UnderLoad(SluiceTest):
    def setUp(self):
        super().setUp()
        self.drop_primary_key()

    def start_loads(self, daemon, count=3):
        self.loads = {f"p{n}": Load(daemon.socket_path, f"p{n}", rate=RATE, padding="x" * 200,
                                    lines_per_write=50) for n in range(count)}
        for load in self.loads.values():
            load.start()

    def finish_loads(self, daemon):
        sent = {name: load.finish() for name, load in self.loads.items()}
        self.wait_quiet(daemon, sum(sent.values()), timeout=120)
        say(f"{sum(sent.values()):,} events")
        self.assert_each_once(sent)
        self.assertEqual(self.query("SELECT count(*) FROM events")[0][0], sum(sent.values()))

    def test_random_backend_terminations(self):
        say(f"seed {SEED}")
        with WireProxy(self.cluster, SEED) as proxy:
            daemon = self.start_daemon({"postgres": {"batch_rows_max": 2000}},
                                       dsn=proxy.dsn(self.dbname))
            terminator = Terminator(proxy, random.Random(SEED))
            self.start_loads(daemon)
            while terminator.count < TERMINATIONS or (
                    terminator.missing() and terminator.count < 2 * TERMINATIONS):
                # A lane whose last tries all failed waits longer and longer: let it get through.
                wait_until(lambda: daemon.lanes("idle") + daemon.lanes("sending") == 2, 60,
                           "both lanes to deliver")
                terminator.terminate_one()
            self.finish_loads(daemon)
            by_phase = {phase: terminator.by_phase[phase] for phase in PHASES}
            say(f"{terminator.count} terminations by phase: {by_phase}; "
                f"unknown commits: {daemon.metrics().get('sluice_commits_unknown_total', 0):.0f}")
            self.assertGreaterEqual(terminator.count, TERMINATIONS)
            self.assertEqual(terminator.missing(), [])
            self.assertEqual(daemon.stop(), 0)

    def test_restarts_of_postgres(self):
        say(f"seed {SEED}")
        source = random.Random(SEED)
        daemon = self.start_daemon()
        self.start_loads(daemon)
        ways = collections.Counter()
        for _ in range(RESTARTS):
            committed = daemon.events("committed")
            wait_until(lambda: daemon.events("committed") > committed, 60, "commits")
            time.sleep(source.uniform(0, 0.2))
            way = source.choice(["fast", "immediate", "kill"])
            ways[way] += 1
            if way == "kill":
                self.cluster.kill()
                self.cluster.start()
            else:
                self.cluster.restart(way)
        say(f"restarts: {dict(ways)}")
        self.finish_loads(daemon)
        self.assertEqual(daemon.stop(), 0)


if __name__ == "__main__":
    unittest.main()
