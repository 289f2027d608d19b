#!/usr/bin/python3
"""Metrics and health of a live daemon: promtool accepts them, and the books balance."""

import shutil
import subprocess
import unittest

from support.producer import connect, send
from support.sluice_test import SluiceTest
from support.waiting import wait_until


class Scrape(SluiceTest):
    def test_promtool_accepts_a_live_scrape(self):
        self.assertIsNotNone(shutil.which("promtool"), "install the package prometheus")
        daemon = self.start_daemon()
        self.ship(daemon, *[{"n": n} for n in range(100)], b"refused", {"id": 5})
        status, body = daemon.page("/metrics")
        self.assertEqual(status, 200)
        checked = subprocess.run(["promtool", "check", "metrics"], input=body, text=True,
                                 capture_output=True)
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))

    def test_the_books_balance_term_by_term(self):
        daemon = self.start_daemon()
        self.ship(daemon, *[{"dedupe_key": f"k{n % 80}"} for n in range(100)], b"{", b"[]", b"[]")
        self.assertEqual(daemon.books(), (
            {"received": 103, "recovered": 0, "rewound": 0},
            {"committed": 80, "found_committed": 0, "set_aside": 0, "duplicate": 20, "rejected": 3, "dropped": 0, "quarantined": 0,
             "in_memory": 0, "in_spool": 0}))
        self.assertEqual(daemon.rejected("not_object"), 2)
        self.assertEqual(self.query("SELECT count(*) FROM events")[0][0], 80)
        metrics = daemon.metrics()
        self.assertEqual(metrics["sluice_receipt_to_committed_seconds_count"], 80)
        self.assertEqual(metrics["sluice_batch_rows_sum"], 80)
        self.assertEqual(metrics["sluice_queue_bytes"], 0)
        self.assertEqual(self.query("SELECT sum(rows) FROM sluice.watermark")[0][0], 80)

    def test_what_waits_for_postgres_is_in_the_books(self):
        for durability, term in (("power", "in_spool"), ("memory", "in_memory")):
            with self.subTest(durability):
                self.check_that_50_wait(durability, term)

    def check_that_50_wait(self, durability, term):
        daemon = self.start_daemon({"spool": {"durability": durability}})
        self.cluster.stop("fast")
        try:
            send(daemon.socket_path, *[{"n": n} for n in range(50)])
            wait_until(lambda: daemon.books()[1][term] == 50, 20, f"50 events {term}")
            self.assertTrue(daemon.books_balance())
            wait_until(lambda: daemon.metrics()["sluice_oldest_event_age_seconds"] > 0.2, 20, "age")
            if durability == "memory":
                self.assertGreater(daemon.metrics()["sluice_queue_bytes"], 0)
            else:
                self.assertGreater(daemon.metrics()["sluice_spool_bytes"], 0)
            wait_until(lambda: daemon.lanes("idle") == 0, 20, "no lane to be idle")
        finally:
            self.cluster.start()
        self.wait_quiet(daemon, 50)
        self.assertEqual(daemon.metrics()["sluice_oldest_event_age_seconds"], 0)

    def test_pages(self):
        daemon = self.start_daemon()
        self.assertEqual(daemon.page("/healthz")[0], 200)
        self.assertEqual(daemon.page("/readyz")[0], 200)
        self.assertEqual(daemon.page("/")[0], 200)
        self.assertEqual(daemon.page("/no-such-page")[0], 404)

    def test_connections_are_counted(self):
        daemon = self.start_daemon()
        producers = [connect(daemon.socket_path) for _ in range(7)]
        wait_until(lambda: daemon.metrics()["sluice_connections"] == 7, 20, "7 connections")
        for producer in producers:
            producer.close()
        wait_until(lambda: daemon.metrics()["sluice_connections"] == 0, 20, "no connection")
        self.assertEqual(daemon.metrics()["sluice_connections_opened_total"], 7)


if __name__ == "__main__":
    unittest.main()
