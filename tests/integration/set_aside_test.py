#!/usr/bin/python3
"""Rows that Postgres refuses for themselves cost themselves only, wherever they stand and whenever the
daemon is killed meanwhile; a table that refuses all holds (faults 25 and 26)."""

import os
import shutil
import signal
import tempfile
import time
import unittest

from support import producer
from support.fault_shim import counts, shim_environment
from support.oracle import set_aside_records
from support.sluice_daemon import SluiceDaemon
from support.sluice_test import SluiceTest, say
from support.waiting import SLOWNESS, wait_until

EVENTS = 140
BRAKE = 1000


class SetAside(SluiceTest):
    def setUp(self):
        super().setUp()
        self.drop_primary_key()

    def refuse(self, condition):
        """Rows whose number meets the condition are refused."""
        self.query("ALTER TABLE events DROP CONSTRAINT IF EXISTS refused")
        if condition:
            self.query("ALTER TABLE events ADD CONSTRAINT refused"
                       f" CHECK (NOT ((data->>'n')::int {condition})) NOT VALID")

    def new_daemon(self, spool_dir=None, env=None):
        settings = {"postgres": {"lanes": 1}}
        if spool_dir:
            settings["spool"] = {"dir": spool_dir}
        daemon = SluiceDaemon(self.dsn(), settings, env)
        daemon.spool_dir = spool_dir or daemon.spool_dir
        self.addCleanup(daemon.close)
        return daemon

    def records(self, daemon):
        watermarks = dict(self.query("SELECT segment_id::text, upto FROM sluice.watermark"))
        return set_aside_records([daemon.spool_dir], watermarks)

    def numbers(self, source):
        return [n for (n,) in self.query("SELECT (data->>'n')::int FROM events WHERE source = %s"
                                         " ORDER BY 1", (source,))]

    def send(self, daemon, source, events):
        producer.send(daemon.socket_path, producer.numbered(source, 0, events).rstrip(b"\n"))

    def check(self, daemon, source, events, refused):
        """Each event is where it belongs, once."""
        lines = producer.numbered(source, 0, events).splitlines()
        records = self.records(daemon)
        self.assertEqual(sorted(record["line"] for record in records),
                         sorted(lines[n].decode() for n in refused))
        for record in records:
            self.assertEqual((record["state"], record["sqlstate"]), ("dead", "23514"))
            self.assertIn("refused", record["message"])
        self.assertEqual(self.numbers(source), [n for n in range(events) if n not in set(refused)])

    def test_only_the_refused_rows_wherever_they_stand(self):
        for source, events, condition, refused in (
                ("first", EVENTS, "= 0", [0]),
                ("last", EVENTS, f"= {EVENTS - 1}", [EVENTS - 1]),
                ("seventh", EVENTS, "% 7 = 3", [n for n in range(EVENTS) if n % 7 == 3]),
                ("all", 40, ">= 0", list(range(40)))):
            with self.subTest(source):
                self.refuse(condition)
                daemon = self.new_daemon().start()
                began = time.monotonic()
                self.send(daemon, source, events)
                self.wait_quiet(daemon, events)
                say(f"{source}: {len(refused)} of {events} rows set aside after "
                    f"{time.monotonic() - began:.2f} s")
                self.check(daemon, source, events, refused)
                self.assertEqual(daemon.books()[1]["set_aside"], len(refused))
                self.assertEqual(daemon.stop(), 0)

    def test_rows_that_the_server_does_not_point_at(self):
        """A trigger that fires at the end, as the checks of foreign keys do: the error names no row."""
        self.query("CREATE FUNCTION no_sevenths() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                   " IF (new.data->>'n')::int % 7 = 3 THEN"
                   " RAISE EXCEPTION 'it is refused' USING ERRCODE = '23514'; END IF; RETURN new; END $$")
        daemon = self.new_daemon().start()
        for turn, (source, deferred) in enumerate((("at once", ""),
                                                   ("deferred", "DEFERRABLE INITIALLY DEFERRED")), 1):
            with self.subTest(source):
                self.query("DROP TRIGGER IF EXISTS refused ON events")
                self.query("CREATE CONSTRAINT TRIGGER refused AFTER INSERT ON events"
                           f" {deferred} FOR EACH ROW EXECUTE FUNCTION no_sevenths()")
                self.send(daemon, source, EVENTS)
                self.wait_quiet(daemon, turn * EVENTS)
                refused = [n for n in range(EVENTS) if n % 7 == 3]
                self.assertEqual(self.numbers(source), [n for n in range(EVENTS) if n not in refused])
        self.assertEqual(len(self.records(daemon)), 2 * len(refused))
        self.assertEqual(daemon.metrics()["sluice_commits_unknown_total"], 0)

    def test_a_refused_row_costs_no_connection(self):
        self.refuse("% 50 = 5")
        daemon = self.new_daemon().start()
        self.send(daemon, "warm", 1)
        self.wait_quiet(daemon, 1)
        pids = "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity WHERE application_name = 'sluice'"
        before = self.query(pids)
        self.send(daemon, "p", EVENTS)
        self.wait_quiet(daemon, EVENTS + 1)
        self.assertEqual(self.query(pids), before)
        self.assertEqual(self.numbers("p"), [n for n in range(EVENTS) if n % 50 != 5])

    @unittest.skipUnless(os.environ.get("SLUICE_TEST_BRAKE"), "a thousand rows one by one")
    def test_a_table_that_refuses_all_holds_and_goes_on_when_it_is_mended(self):
        self.refuse(">= 0")
        daemon = self.new_daemon().start()
        events = BRAKE + 500
        self.send(daemon, "p", events)
        wait_until(lambda: daemon.lanes("held") == 1, 120 * SLOWNESS, "the lane to be held")
        self.assertEqual(self.numbers("p"), [])
        self.refuse(None)
        self.wait_quiet(daemon, events, timeout=90 * SLOWNESS)
        self.check(daemon, "p", events, range(BRAKE))

    def test_killed_at_each_call_in_the_files_of_what_is_set_aside(self):
        self.refuse("% 100 = 5")
        refused = [n for n in range(EVENTS) if n % 100 == 5]
        calls = self.run_with_kill(None, refused)
        self.assertGreater(calls, 2 * len(refused))
        for call in range(1, calls + 1):
            with self.subTest(kill_at=call):
                self.run_with_kill(call, refused)
        say(f"killed at each of {calls} calls")

    def run_with_kill(self, call, refused):
        """One run, killed at the n-th call below aside/, and one after it without the shim. Returns how
        many calls there were."""
        source = f"killed{call}"
        directory = tempfile.mkdtemp(prefix="sluice-sa-", dir="/tmp")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        spool = os.path.join(directory, "spool")
        aside = os.path.join(spool, "aside")
        os.makedirs(aside, mode=0o700)
        os.chmod(spool, 0o700)
        counted = os.path.join(directory, "calls")
        faults = {"count_file": counted} if call is None else {"kill_at": call}
        daemon = self.new_daemon(spool, shim_environment(aside, **faults)).start()
        self.send(daemon, source, EVENTS)
        if call is None:
            self.wait_quiet(daemon, EVENTS)
            self.assertEqual(daemon.stop(), 0)
        else:
            self.assertEqual(daemon.wait(), -signal.SIGKILL)
        after = self.new_daemon(spool).start()
        # It may have been killed before all was durable; a key is stored once.
        self.send(after, source, EVENTS)
        self.wait_quiet(after, EVENTS)
        self.check(after, source, EVENTS, refused)
        self.assertEqual(after.stop(), 0)
        return counts(counted)[0]


if __name__ == "__main__":
    unittest.main()
