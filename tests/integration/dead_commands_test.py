#!/usr/bin/python3
"""`sluice dead list|show|retry|purge` beside a running daemon and without one: records by state, what is void, nothing
of a payload but where it is asked for; and what `sluice show` tells of them."""

import fcntl
import json
import os
import subprocess
import unittest

from support import producer
from support.sluice_daemon import clean_environment, run_sluice, sluice_binary
from support.sluice_test import SluiceTest
from support.waiting import SLOWNESS, wait_until

SECRET = "\x1b[31mopen sesame\x07"


class DeadCommands(SluiceTest):
    def setUp(self):
        super().setUp()
        self.refuse("= 3")

    def refuse(self, condition):
        """Rows whose number meets the condition are refused."""
        self.query("ALTER TABLE events DROP CONSTRAINT IF EXISTS refused")
        if condition:
            self.query("ALTER TABLE events ADD CONSTRAINT refused"
                       f" CHECK (NOT ((data->>'n')::int {condition})) NOT VALID")

    def event(self, n, **more):
        return json.dumps({"type": "load", "source": "p", "data": {"n": n}, **more}).encode()

    def dead(self, daemon, *arguments, code=0, **more):
        done = run_sluice("dead", *arguments, "--config", daemon.config_path, **more)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def listed(self, daemon, *arguments):
        done = self.dead(daemon, "list", "--json", *arguments)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def refuse_lines(self, daemon, *lines):
        kept = 'sluice_rejects_total{kept="yes"}'
        before = daemon.metrics()[kept]
        producer.send(daemon.socket_path, *lines)
        wait_until(lambda: daemon.metrics()[kept] == before + len(lines), 20, "the lines to be kept")

    def numbers(self):
        return [n for (n,) in self.query("SELECT (data->>'n')::int FROM events ORDER BY 1")]


class ListAndShow(DeadCommands):
    def test_a_record_is_listed_without_its_payload_and_shown_with_it(self):
        daemon = self.start_daemon()
        identity = "01890000-0000-7000-8000-000000000001"
        self.ship(daemon, *(self.event(n, secret=SECRET, id=identity[:-1] + str(n))
                            for n in range(5)))
        table = self.dead(daemon, "list").stdout
        self.assertIn("1 records: 1 dead", table)
        self.assertNotIn("sesame", table)
        [record] = self.listed(daemon)
        self.assertEqual((record["state"], record["table"], record["sqlstate"], record["type"]),
                         ("dead", "events", "23514", "load"))
        self.assertEqual(record["id"], identity[:-1] + "3")
        self.assertEqual(record["uid"], os.getuid())
        self.assertNotIn("sesame", json.dumps(record))

        shown = self.dead(daemon, "show", record["record"]).stdout
        self.assertIn("open sesame", shown)
        self.assertNotIn("\x1b", shown)
        [whole] = map(json.loads, self.dead(daemon, "show", "--json").stdout.splitlines())
        self.assertEqual(json.loads(whole["line"])["secret"], SECRET)
        segment, index = record["record"].split(":")
        self.assertIn("open sesame", self.dead(daemon, "show", f"{segment[:8]}:{index}").stdout)

    def test_filters_leave_what_they_say(self):
        daemon = self.start_daemon()
        self.ship(daemon, *(self.event(n) for n in range(5)))
        for filters, count in ((["--table", "events"], 1), (["--table", "other"], 0),
                               (["--sqlstate", "23514"], 1), (["--sqlstate", "23"], 1),
                               (["--sqlstate", "22"], 0), (["--state", "dead"], 1),
                               (["--state", "held"], 0), (["--since", "1h"], 1),
                               (["--until", "1h"], 0), (["--type", "load"], 1),
                               (["--since", "2020-01-01T00:00:00Z", "--until", "2021-01-01T00:00:00Z"],
                                0)):
            with self.subTest(filters):
                self.assertEqual(len(self.listed(daemon, *filters)), count)
        self.assertIn("is no time", self.dead(daemon, "list", "--since", "soon", code=64).stderr)
        self.assertIn("such as 23514", self.dead(daemon, "list", "--sqlstate", "2351", code=64).stderr)
        self.assertIn("no such record", self.dead(daemon, "show", "0:0", code=64).stderr)

    def test_a_record_above_its_watermark_is_void(self):
        daemon = self.start_daemon()
        self.ship(daemon, *(self.event(n) for n in range(5)))
        self.assertEqual(daemon.stop(), 0)
        self.query("UPDATE sluice.watermark SET upto = 3")
        [record] = self.listed(daemon)
        self.assertEqual(record["state"], "void")
        self.assertEqual(self.listed(daemon, "--state", "dead"), [])
        self.query("UPDATE sluice.watermark SET upto = 4")
        [record] = self.listed(daemon)
        self.assertEqual(record["state"], "dead")

    def test_without_postgres_they_are_listed_all_the_same(self):
        daemon = self.start_daemon()
        self.ship(daemon, *(self.event(n) for n in range(5)))
        away = {"SLUICE_POSTGRES_DSN": "host=/nowhere"}
        done = self.dead(daemon, "list", env=away)
        self.assertIn("1 dead", done.stdout)
        self.assertIn("cannot be asked", done.stderr)
        self.assertEqual(self.dead(daemon, "list", "--offline", env=away).stderr, "")

    def test_a_spool_without_records(self):
        daemon = self.start_daemon()
        self.ship(daemon, self.event(1))
        self.assertIn("0 records", self.dead(daemon, "list").stdout)


class Retry(DeadCommands):
    def test_what_is_mended_is_delivered_as_the_same_row_once(self):
        daemon = self.start_daemon()
        before = self.rows_of(daemon, self.event(0, extra_member=1, time="2026-01-02T03:04:05Z"))
        self.ship(daemon, *(self.event(n, extra_member=n) for n in range(3, 6)))
        self.refuse(None)
        self.assertEqual(self.numbers(), [0, 4, 5])
        [record] = self.listed(daemon)
        self.assertIn("1 of 1 records delivered", self.dead(daemon, "retry", "--all").stdout)
        self.assertIn("0 of 0 records delivered, 1 were before",
                      self.dead(daemon, "retry", "--table", "events").stdout)
        self.assertIn("no such record", self.dead(daemon, "retry", "0:0", code=64).stderr)
        self.assertEqual(self.numbers(), [0, 3, 4, 5])
        [row] = [row for row in self.rows() if row["data"] == {"n": 3}]
        self.assertEqual(str(row["id"]), record["id"])
        self.assertEqual(row["extra"], {"extra_member": 3})
        self.assertEqual(row["producer_uid"], before["producer_uid"])
        self.assertEqual(row["received_at"].isoformat(timespec="microseconds")[:26],
                         record["received"][:26])
        for _ in range(2):
            self.assertIn("0 of 0", self.dead(daemon, "retry", "--all").stdout)
        self.assertEqual(self.numbers(), [0, 3, 4, 5])
        self.assertEqual(self.listed(daemon)[0]["state"], "delivered")

    def rows_of(self, daemon, event):
        return self.ship_all(daemon, [event])[0]

    def test_what_is_refused_again_stays_and_says_why(self):
        daemon = self.start_daemon()
        self.ship(daemon, *(self.event(n) for n in range(5)))
        done = self.dead(daemon, "retry", "--sqlstate", "23514", code=65)
        self.assertIn("refused", done.stdout)
        self.assertIn("0 of 1", done.stdout)
        self.assertEqual([record["state"] for record in self.listed(daemon)], ["dead"])

    def test_many_with_some_that_are_refused_again(self):
        self.refuse(">= 0")
        daemon = self.start_daemon()
        self.ship(daemon, *(self.event(n) for n in range(300)))
        self.refuse("% 50 = 7")
        done = self.dead(daemon, "retry", "--all", code=65)
        self.assertIn("294 of 300", done.stdout)
        self.assertEqual(len(self.numbers()), 294)
        self.refuse(None)
        self.assertIn("6 of 6", self.dead(daemon, "retry", "--all").stdout)
        self.assertEqual(self.numbers(), list(range(300)))

    def test_two_at_once_deliver_each_once(self):
        self.refuse(">= 0")
        self.drop_primary_key()
        daemon = self.start_daemon()
        self.ship(daemon, *(self.event(n) for n in range(200)))
        self.refuse(None)
        running = [subprocess.Popen([sluice_binary(), "dead", "retry", "--all", "--config",
                                     daemon.config_path], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL, env=clean_environment())
                   for _ in range(4)]
        for process in running:
            process.wait(60 * SLOWNESS)
        self.assertEqual(self.numbers(), list(range(200)))

    def test_a_void_record_is_left_to_its_segment(self):
        self.drop_primary_key()
        daemon = self.start_daemon()
        self.ship(daemon, *(self.event(n) for n in range(5)))
        self.assertEqual(daemon.stop(), 0)
        self.refuse(None)
        self.query("UPDATE sluice.watermark SET upto = 3")
        done = self.dead(daemon, "retry", "--all", code=65)
        self.assertIn("void", done.stdout)
        self.assertEqual(self.numbers(), [0, 1, 2, 4])

    def test_which_ones_must_be_said(self):
        daemon = self.start_daemon()
        self.assertIn("say which", self.dead(daemon, "retry", code=64).stderr)
        self.assertIn("say which", self.dead(daemon, "purge", code=64).stderr)


class Purge(DeadCommands):
    def purge_half(self, daemon):
        records = self.listed(daemon)
        self.assertEqual(len(records), 60)
        chosen = [record["record"] for record in records[::2]]
        self.assertIn("30 records purged", self.dead(daemon, "purge", *chosen).stdout)
        left = [record["record"] for record in self.listed(daemon)]
        self.assertEqual(left, [record["record"] for record in records[1::2]])

    def set_up_records(self):
        self.refuse("< 60")
        daemon = self.start_daemon()
        self.ship(daemon, *(self.event(n) for n in range(70)))
        return daemon

    def test_beside_a_daemon_that_goes_on_writing(self):
        daemon = self.set_up_records()
        self.purge_half(daemon)
        self.ship(daemon, *(self.event(n) for n in range(5)))
        self.assertEqual(len(self.listed(daemon)), 35)
        self.refuse(None)
        self.assertIn("35 of 35", self.dead(daemon, "retry", "--all").stdout)

    def test_without_a_daemon(self):
        daemon = self.set_up_records()
        self.assertEqual(daemon.stop(), 0)
        self.purge_half(daemon)


class RefusedLines(DeadCommands):
    """Lines of a producer without acks that were refused: no events, in files of their own."""

    def test_they_are_listed_shown_and_chosen_like_records(self):
        daemon = self.start_daemon()
        self.ship(daemon, *(self.event(n) for n in range(5)))
        self.refuse_lines(daemon, b'{"open sesame":', b"[1]", b"[2]")
        self.assertIn("4 records: 1 dead, 3 rejected", self.dead(daemon, "list").stdout)
        for filters, count in ((["--state", "rejected"], 3), (["--code", "not_object"], 2),
                               (["--code", "syntax"], 1), (["--code", "23514"], 0),
                               (["--state", "dead"], 1), (["--table", "events"], 1),
                               (["--state", "rejected", "--since", "1h"], 3),
                               (["--state", "rejected", "--until", "1h"], 0)):
            with self.subTest(filters):
                self.assertEqual(len(self.listed(daemon, *filters)), count)
        [record] = self.listed(daemon, "--code", "syntax")
        self.assertEqual((record["state"], record["code"], record["message"]),
                         ("rejected", "syntax", "line 1 of connection 2, 15 bytes"))
        self.assertNotIn("sesame", json.dumps(record))
        self.assertIn("open sesame", self.dead(daemon, "show", record["record"]).stdout)
        [whole] = map(json.loads, self.dead(daemon, "show", "--json", "--code", "syntax").stdout.splitlines())
        self.assertEqual(whole["line"], '{"open sesame":')
        away = {"SLUICE_POSTGRES_DSN": "host=/nowhere"}
        self.assertIn("0 of 0", self.dead(daemon, "retry", "--code", "syntax", env=away).stdout)

    def test_purged_beside_a_daemon_that_goes_on_writing_them(self):
        daemon = self.start_daemon()
        self.ship(daemon, *(self.event(n) for n in range(5)))
        self.refuse_lines(daemon, *(b"[%d]" % n for n in range(60)), b'"x"')
        chosen = [record["record"] for record in self.listed(daemon, "--code", "not_object")[:60:2]]
        bytes_before = daemon.metrics()["sluice_rejects_bytes"]
        away = {"SLUICE_POSTGRES_DSN": "host=/nowhere"}
        self.assertIn("30 records purged\n", self.dead(daemon, "purge", *chosen, "--state", "rejected",
                                                      env=away).stdout)
        wait_until(lambda: daemon.metrics()["sluice_rejects_bytes"] < bytes_before * 0.7, 20,
                   "the bytes to be told")
        self.refuse_lines(daemon, *(b"[%d]" % n for n in range(60, 70)))
        lines = [json.loads(line)["line"] for line in
                 self.dead(daemon, "show", "--json", "--state", "rejected").stdout.splitlines()]
        self.assertEqual(lines, [f"[{n}]" for n in range(1, 60, 2)] + ['"x"'] +
                         [f"[{n}]" for n in range(60, 70)])
        self.assertIn("42 records purged", self.dead(daemon, "purge", "--all").stdout)
        self.assertEqual(self.listed(daemon), [])
        self.refuse_lines(daemon, b"[1]")
        self.assertEqual(len(self.listed(daemon)), 1)

    def test_purged_without_a_daemon(self):
        daemon = self.start_daemon()
        self.ship(daemon, *(self.event(n) for n in range(5)))
        self.refuse_lines(daemon, b"[1]", b"{", b"[2]")
        self.assertEqual(daemon.stop(), 0)
        self.assertIn("2 records purged\n", self.dead(daemon, "purge", "--code", "not_object").stdout)
        self.assertEqual([record["state"] for record in self.listed(daemon)], ["rejected", "dead"])

    def test_two_do_not_purge_them_at_once(self):
        daemon = self.start_daemon()
        self.refuse_lines(daemon, b"[1]")
        with open(os.path.join(daemon.spool_dir, "aside", "rejects.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.assertIn("refused lines", self.dead(daemon, "purge", "--code", "not_object",
                                                     code=75).stderr)
        self.assertEqual(len(self.listed(daemon)), 1)
        self.dead(daemon, "purge", "--code", "not_object")
        self.assertEqual(self.listed(daemon), [])

    def test_without_postgres_nothing_is_purged_of_what_it_has_a_say_in(self):
        daemon = self.start_daemon()
        self.ship(daemon, *(self.event(n) for n in range(5)))
        self.refuse_lines(daemon, b"[1]")
        self.dead(daemon, "purge", "--all", env={"SLUICE_POSTGRES_DSN": "host=/nowhere"}, code=69)
        self.assertEqual(len(self.listed(daemon)), 2)


class ShowID(DeadCommands):
    """`sluice show ID` beside what the tables know."""

    def show(self, daemon, some_id, *arguments, code=0, **more):
        done = run_sluice("show", some_id, *arguments, "--config", daemon.config_path, **more)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def aside(self, daemon, some_id):
        return json.loads(self.show(daemon, some_id, "--json")).get("set_aside")

    def identity(self, n):
        return f"0189abcd-0000-7000-8000-{n:012}"

    def test_what_was_set_aside_of_an_id_is_told_with_its_reason_until_it_is_delivered(self):
        daemon = self.start_daemon()
        self.ship(daemon, *(self.event(n, secret=SECRET, id=self.identity(n)) for n in range(5)))
        [record] = self.aside(daemon, self.identity(3).upper())
        self.assertEqual((record["state"], record["sqlstate"], record["table"], record["id"]),
                         ("dead", "23514", "events", self.identity(3)))
        self.assertIn("refused", record["message"])
        self.assertEqual(json.loads(record["line"])["data"], {"n": 3})
        told = self.show(daemon, self.identity(3))
        self.assertIn("\nset_aside\n", told)
        self.assertIn("23514", told)
        self.assertIn("open sesame", told)
        self.assertNotIn("\x1b", told)
        self.assertIsNone(self.aside(daemon, self.identity(4)))
        self.show(daemon, self.identity(9), code=1)

        self.refuse(None)
        self.dead(daemon, "retry", "--all")
        about = json.loads(self.show(daemon, self.identity(3), "--json"))
        self.assertEqual((about["event"]["data"], "set_aside" in about), ({"n": 3}, False))

    def test_refused_lines_and_what_refers_to_an_id_are_told_beside_the_row(self):
        daemon = self.start_daemon()
        self.ship(daemon, self.event(1, id=self.identity(1)),
                  self.event(3, id=self.identity(3), parent_id=self.identity(1)))
        self.refuse_lines(daemon, b'{"id":"%s",' % self.identity(1).encode(), b'{"id":"else",')
        about = json.loads(self.show(daemon, self.identity(1), "--json"))
        self.assertEqual(about["event"]["data"], {"n": 1})
        self.assertEqual([(each["state"], each.get("code"), each.get("sqlstate"))
                          for each in about["set_aside"]],
                         [("rejected", "syntax", None), ("dead", None, "23514")])
        self.assertEqual([each["state"] for each in self.aside(daemon, "else")], ["rejected"])

    def test_a_role_that_may_not_read_the_watermarks_is_told_what_the_files_say(self):
        daemon = self.start_daemon()
        self.ship(daemon, self.event(3, id=self.identity(3)))
        self.query("CREATE ROLE reader LOGIN")
        self.query("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        told = self.show(daemon, self.identity(3),
                         env={"SLUICE_POSTGRES_DSN": self.dsn() + " user=reader"})
        self.assertIn("23514", told)


if __name__ == "__main__":
    unittest.main()
