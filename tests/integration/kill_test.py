#!/usr/bin/python3
"""The daemon killed, ended, stopped and signalled under load with acks: nothing that was acked is lost,
nothing is stored twice (faults 1 and 31)."""

import os
import random
import signal
import time
import unittest

from support.acking_producer import KEYED, NAMED, PLAIN
from support.fault_test import SEED, FaultTest
from support.sluice_test import say
from support.waiting import SLOWNESS, wait_until

# Ends in a row; 0: as many as fit into the seconds.
KILLS = int(os.environ.get("SLUICE_TEST_KILLS", "0"))
SECONDS = float(os.environ.get("SLUICE_TEST_KILL_SECONDS", "25"))
TERMS = int(os.environ.get("SLUICE_TEST_TERMS", "0"))
TERM_SECONDS = float(os.environ.get("SLUICE_TEST_TERM_SECONDS", "10"))
START_S_MAX = 1.0


class Ends(FaultTest):
    def setUp(self):
        super().setUp()
        say(f"seed {SEED}")
        self.source = random.Random(SEED)
        # Retention is short, so that deleting segments is among what is killed.
        # Who waits for commits may send a line again after minutes, when there are many ends.
        self.daemon = self.start_spooling({"postgres": {"drain_timeout": "2s"},
                                           "dedupe": {"window": "2h"}}, retain_time="2s")
        kinds = (KEYED, KEYED, NAMED, NAMED, PLAIN)
        self.start_producers(self.daemon, kinds, rate=2000, hang_up_every=500)
        self.start_producers(self.daemon, (KEYED, NAMED), rate=500, hang_up_every=500,
                             stage="committed")
        self.wait_acks(100)

    def end_in_a_row(self, count, seconds, end):
        """Ends the daemon so often, at random moments, recovery and start included."""
        began = time.monotonic()
        done = 0
        while done < count or (count == 0 and time.monotonic() - began < seconds):
            if self.source.random() < 0.3:
                time.sleep(self.source.uniform(0, 0.1))  # while it starts
            else:
                self.wait_acks(self.source.choice((1, 10, 100)))
                time.sleep(self.source.uniform(0, 0.05))
            end()
            done += 1
            self.daemon.spawn()
        return done

    def finish(self):
        wait_until(lambda: self.daemon.page("/readyz")[0] == 200, 30, "the daemon to be ready")
        files = len(self.segment_files(self.spools[0]))
        self.settle(self.daemon, timeout=120)
        say(f"{files} segment files at the end, "
            f"{sum(p.connections for p in self.producers)} connections, "
            f"{sum(p.resent for p in self.producers):,} events offered again")

    def kill(self):
        self.daemon.signal(signal.SIGKILL)
        self.daemon.wait()

    def test_kill_9_at_any_moment(self):
        done = self.end_in_a_row(KILLS, SECONDS, self.kill)
        say(f"{done} times kill -9")
        self.finish()

    def test_sigterm_at_any_moment(self):
        codes = set()

        def terminate():
            self.daemon.signal(signal.SIGTERM)
            codes.add(self.daemon.wait())

        done = self.end_in_a_row(TERMS, TERM_SECONDS, terminate)
        say(f"{done} times SIGTERM")
        # A process that has not yet put up its handlers is ended by the signal itself.
        self.assertLessEqual(codes, {0, -signal.SIGTERM}, self.daemon.log_text())
        self.finish()

    def test_it_starts_within_a_second_after_a_kill(self):
        self.kill()
        began = time.monotonic()
        self.daemon.start()
        took = time.monotonic() - began
        say(f"ready after {took * 1000:.0f} ms")
        self.assertLess(took, START_S_MAX * SLOWNESS)
        self.finish()


class Signals(FaultTest):
    def setUp(self):
        super().setUp()
        self.daemon = self.start_spooling()
        self.start_producers(self.daemon)
        self.wait_acks(100)

    def test_stopped_and_continued(self):
        for _ in range(3):
            self.daemon.signal(signal.SIGSTOP)
            # The time in which it must not run is what is tested.
            time.sleep(1)
            self.daemon.signal(signal.SIGCONT)
            self.wait_acks(1000)
        self.assertEqual({p.connections for p in self.producers}, {1}, "nobody was hung up on")
        self.settle(self.daemon)

    def test_sighup_and_sigpipe_end_nothing(self):
        for _ in range(20):
            self.daemon.signal(signal.SIGHUP)
            self.daemon.signal(signal.SIGPIPE)
            self.wait_acks(100)
        self.assertTrue(self.daemon.running)
        self.assertEqual({p.connections for p in self.producers}, {1})
        self.settle(self.daemon)
        self.assertEqual(self.daemon.stop(), 0)


if __name__ == "__main__":
    unittest.main()
