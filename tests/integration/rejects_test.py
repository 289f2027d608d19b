#!/usr/bin/python3
"""Refused lines of producers that did not ask for acks are kept with their code, within bounds."""

import glob
import os
import unittest

from support.asking import Asking
from support.producer import send
from support.refused_lines import kept_in
from support.sluice_test import SluiceTest
from support.waiting import wait_until


class Rejects(SluiceTest):
    def wait_kept(self, daemon, count):
        return wait_until(lambda: len(kept_in(daemon)) >= count and kept_in(daemon), 20,
                          f"{count} refused lines to be kept")

    def test_lines_of_a_producer_without_acks_are_kept(self):
        daemon = self.start_daemon()
        lines = [b'{"a":', b"[1]", b'{"a":"\x1b"}', b'{"a":1}', b'\xff\xfe', b'{"dedupe_key":""}']
        send(daemon.socket_path, *lines)
        records = self.wait_kept(daemon, 5)
        self.assertEqual([record["sqlstate"] for record in records],
                         ["syntax", "not_object", "syntax", "syntax", "dedupe_key"])
        self.assertEqual([record["line"].encode(errors="surrogateescape") for record in records],
                         [line for line in lines if line != b'{"a":1}'])
        self.assertEqual(records[1]["message"], "line 2 of connection 1, 3 bytes")
        self.assertEqual({record["state"] for record in records}, {"rejected"})
        self.assertEqual({record["uid"] for record in records}, {os.getuid()})
        self.assertEqual(daemon.metrics()['sluice_rejects_total{kept="yes"}'], 5)
        path = glob.glob(os.path.join(daemon.spool_dir, "aside", "rejects-*"))[0]
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)

    def test_lines_of_a_producer_with_acks_are_not(self):
        daemon = self.start_daemon()
        with Asking(daemon.socket_path) as producer:
            producer.write(b"[1]", b"{}")
            self.assertEqual(producer.until_ack(2)[0]["code"], "not_object")
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(kept_in(daemon), [])

    def test_what_was_refused_right_before_the_end_is_kept(self):
        daemon = self.start_daemon()
        send(daemon.socket_path, *[b"[%d]" % n for n in range(100)])
        self.wait_quiet(daemon, 100)
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual([record["line"] for record in kept_in(daemon)],
                         [f"[{n}]" for n in range(100)])

    def test_a_flood_stays_within_its_bound_and_the_good_are_served(self):
        daemon = self.start_daemon({"ingest": {"rejects_bytes_max": "64KiB"}})
        send(daemon.socket_path, b"not json", *[b"x" * 200] * 20_000, b'{"n":1}')
        self.wait_quiet(daemon, 20_002)
        self.assertEqual(len(self.rows()), 1)
        wait_until(lambda: "rejects_bytes_max is reached" in daemon.log_text(), 20, "the alarm")
        metrics = daemon.metrics()
        self.assertEqual(metrics['sluice_rejects_total{kept="yes"}'] +
                         metrics['sluice_rejects_total{kept="no"}'], 20_001)
        self.assertLessEqual(metrics["sluice_rejects_bytes"], 64 * 1024)
        self.assertEqual(daemon.log_text().count("rejects_bytes_max is reached"), 1)

    def test_with_redaction_only_what_was_redacted_is_kept(self):
        daemon = self.start_daemon({"redact": [{"fields": ["password"]}]})
        send(daemon.socket_path, b'{"password":"hunter2"', b'{"password":"hunter2","dedupe_key":1}')
        records = self.wait_kept(daemon, 2)
        self.assertEqual([(record["sqlstate"], record["line"]) for record in records],
                         [("syntax", ""), ("dedupe_key", '{"password":"[redacted]","dedupe_key":1}')])


if __name__ == "__main__":
    unittest.main()
