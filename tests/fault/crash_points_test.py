#!/usr/bin/python3
"""The daemon against a disk that fails or kills at each call in turn: a short run of two producers with acks,
small segments, keys, retention and an orderly end is repeated, and in the n-th run the n-th call of those
that change the spool's directory is the process's last, or fails. Then the daemon starts again on what is
there, and every event that was acked must be stored once, every other at most once.

Which calls are tried: all with SLUICE_TEST_CRASH_POINTS=all, otherwise so many, spread evenly from a first
one that the seed chooses."""

import collections
import os
import random
import shutil
import signal
import unittest

from support.acking_producer import ACKED, KEYED, NAMED, AckingProducer
from support.fault_shim import PowerCutReplay, counts, shim_environment
from support.fault_test import SEED, FaultTest
from support.oracle import Oracle
from support.sluice_daemon import SluiceDaemon
from support.sluice_test import say
from support.waiting import TimedOut, wait_until

POINTS = os.environ.get("SLUICE_TEST_CRASH_POINTS", "12")
EVENTS = 30  # of each producer
PADDING = "x" * 6000
SPOOL = {"durability": "power", "segment_bytes": "64KiB", "retain_time": "0s"}
# What a start or a call may end the daemon with when the disk fails: no service, not a bug.
MAY_END_WITH = (0, 69, 74, 75, 78)


def chosen(count):
    """The numbers from 1 to `count` that this run tries."""
    if POINTS == "all" or int(POINTS) >= count:
        return list(range(1, count + 1))
    step = count / int(POINTS)
    first = random.Random(SEED).random() * step
    return sorted({int(first + i * step) + 1 for i in range(int(POINTS))})


class CrashPoints(FaultTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        say(f"seed {SEED}")

    def setUp(self):
        super().setUp()
        self.points = 0
        self.daemon = None

    # One run.

    def begin(self, spool, env=None, dsn=None):
        self.daemon = SluiceDaemon(dsn or self.dsn(), {"spool": {"dir": spool, **SPOOL}}, env)
        return self.daemon.spawn()

    def end(self):
        self.daemon.close()

    def two_producers(self, **options):
        self.points += 1
        made = [AckingProducer(lambda: self.daemon.socket_path, f"{kind}{self.points}", kind,
                               total=EVENTS, padding=PADDING, lines_per_write=3, window=9, **options)
                for kind in (KEYED, NAMED)]
        for producer in made:
            producer.start()
        return made

    def live(self, producers):
        """The life of the daemon up to its orderly end, unless it ends before."""
        def over(condition):
            return lambda: not self.daemon.running or condition()
        wait_until(over(lambda: all(p.acked == EVENTS or p.error for p in producers)), 60,
                   "all acks, or the daemon's end")
        wait_until(over(self.is_quiet), 60, "a quiet daemon, or its end", every=0.02)
        # Seals, empty blocks and deletions come with the seconds; with some faults they do not.
        try:
            wait_until(over(lambda: self.segments() <= 2), 1.5, "deleted segments", every=0.02)
        except TimedOut:
            pass
        if self.daemon.running:
            self.daemon.signal(signal.SIGTERM)
        return self.daemon.wait()

    def is_quiet(self):
        try:
            return self.daemon.is_quiet()
        except (AssertionError, KeyError):
            return False  # it is about to end

    def segments(self):
        try:
            return int(self.daemon.metrics().get("sluice_spool_segments", 0))
        except AssertionError:
            return 0

    def recover_and_judge(self, spool, producers):
        """A daemon without faults on what is there: everything comes to rest, and is judged."""
        self.end()
        self.begin(spool)
        try:
            wait_until(lambda: self.daemon.page("/readyz")[0] == 200, 20, "the daemon after the fault")
            wait_until(lambda: all(p.acked == EVENTS or p.error for p in producers), 60, "all acks")
            for producer in producers:
                producer.finish()
            wait_until(self.is_quiet, 60, "everything to be delivered", every=0.02)
            Oracle(self.query, [spool]).check(producers)
            self.assertTrue(self.daemon.books_balance(), self.daemon.books())
            self.assertEqual(self.daemon.stop(), 0)
        except BaseException as error:
            raise AssertionError(f"{error}; its log:\n{self.daemon.log_text()}") from error
        finally:
            for producer in producers:
                producer.abandon()
            self.end()

    def one_point(self, expected, **faults):
        spool = self.new_spool()
        self.begin(spool, shim_environment(spool, **faults))
        producers = self.two_producers()
        try:
            code = self.live(producers)
            log = self.daemon.log_text()
            self.assertIn(code, expected, log)
            self.assertNotIn("Sanitizer", log)
            self.recover_and_judge(spool, producers)
        finally:
            self.end()
            for producer in producers:
                producer.abandon()
            shutil.rmtree(os.path.dirname(spool), ignore_errors=True)

    def count_calls(self):
        """(calls, syncs) of a run in which nothing fails: rotation, side files and deletions are in it."""
        spool = self.new_spool()
        count_file, log = (os.path.join(os.path.dirname(spool), name) for name in ("counts", "log"))
        self.begin(spool, shim_environment(spool, count_file=count_file, log=log))
        producers = self.two_producers()
        self.assertEqual(self.live(producers), 0, self.daemon.log_text())
        found = counts(count_file)
        with open(log, "rb") as file:
            made = collections.Counter((call, os.path.splitext(arguments[-1])[1])
                                       for call, *arguments in PowerCutReplay(file.read()).steps())
        for call, least in {("rename", ".log"): 2, ("create", ".keys"): 1, ("remove", ".log"): 1}.items():
            self.assertGreaterEqual(made[call], least, made)
        self.recover_and_judge(spool, producers)
        return found

    def walk(self, what, count, expected, **faults):
        """`faults`: names of the shim's variables -> what to put there for the n-th point."""
        tried = chosen(count)
        for at in tried:
            with self.subTest(what=what, at=at):
                self.one_point(expected, **{name: value(at) for name, value in faults.items()})
        say(f"{what}: {len(tried)} of {count} calls")

    # The tests.

    def test_killed_before_any_call(self):
        calls, _ = self.count_calls()
        # A run is never quite the same: past its end it is an ordinary one.
        self.walk("killed", calls, (-signal.SIGKILL, 0), kill_at=str)

    def test_no_space_for_any_call(self):
        calls, _ = self.count_calls()
        self.walk("no space", calls, MAY_END_WITH, enospc_at=lambda at: f"{at},3")

    def test_any_call_fails(self):
        calls, _ = self.count_calls()
        self.walk("input/output error", calls, MAY_END_WITH, eio_at=str)

    def test_any_sync_fails(self):
        _, syncs = self.count_calls()
        self.walk("sync fails", syncs, MAY_END_WITH, eio_fsync_at=str)

    def test_short_and_interrupted_writes_are_transparent(self):
        self.one_point((0,), short=1)

    def test_power_cuts(self):
        """The run's log tells what was synced when; the database hears of nothing before the cut."""
        spool = self.new_spool()
        log_path = os.path.join(os.path.dirname(spool), "log")
        # No server is there, so that what is stored at the end was in the spool.
        self.begin(spool, shim_environment(spool, log=log_path),
                   dsn="host=/nonexistent dbname=none connect_timeout=2")
        producers = self.two_producers()
        acked_at = {}  # (producer, event) -> bytes of the log by then

        def acked():
            found = [(producer.name, n) for producer in producers
                     for n, state in enumerate(bytes(producer.states)) if state == ACKED]
            size = os.path.getsize(log_path) if found else 0  # after the acks were seen
            for event in found:
                acked_at.setdefault(event, size)
            return len(acked_at) == 2 * EVENTS
        try:
            wait_until(acked, 60, "all acks", every=0)
        finally:
            self.daemon.signal(signal.SIGKILL)
            self.daemon.wait()
            self.end()
            for producer in producers:
                producer.abandon()
        with open(log_path, "rb") as file:
            log = file.read()
        replay, calls = PowerCutReplay(log), 0
        while not replay.at_end():
            replay.step()
            calls += 1
        tried = chosen(calls)
        self.query("ALTER TABLE events DISABLE TRIGGER ALL")  # it refuses TRUNCATE
        replay, source = PowerCutReplay(log), random.Random(SEED)
        for at in range(1, calls + 1):
            replay.step()
            if at in tried:
                promised = [event for event, size in acked_at.items() if size <= replay.position]
                with self.subTest(call=at, promised=len(promised)):
                    self.one_power_cut(replay, source, promised)
        say(f"power cuts: {len(tried)} of {calls} calls")

    def one_power_cut(self, replay, source, promised):
        self.query("TRUNCATE events, sluice.watermark")
        spool = self.new_spool()
        os.makedirs(spool, mode=0o700)
        replay.leave(spool, source)
        self.begin(spool)
        try:
            wait_until(lambda: self.daemon.page("/readyz")[0] == 200, 20, "the daemon after the cut")
            wait_until(self.is_quiet, 60, "everything to be delivered", every=0.02)
            rows = self.query("SELECT source, (data->>'n')::int, count(*) FROM events GROUP BY 1, 2")
            self.assertEqual([row for row in rows if row[2] != 1], [], "stored more than once")
            stored = {(name, n) for name, n, _ in rows}
            self.assertEqual(sorted(set(promised) - stored), [], "acked and lost")
            self.assertEqual(self.daemon.stop(), 0)
        except BaseException as error:
            raise AssertionError(f"{error}; its log:\n{self.daemon.log_text()}") from error
        finally:
            self.end()
            shutil.rmtree(os.path.dirname(spool), ignore_errors=True)


if __name__ == "__main__":
    unittest.main()
