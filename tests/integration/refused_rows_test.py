#!/usr/bin/python3
"""Refused rows among those of producers that wait for acks, a duplicate of one that was set aside, and a
watermark that somebody deleted (faults 24, 25 and 27)."""

import unittest

from support.acking_producer import KEYED, NAMED
from support.fault_test import FaultTest
from support.oracle import set_aside_records
from support.waiting import wait_until

SMALL_BATCHES = {"postgres": {"batch_rows_max": 200}}


class SetAside(FaultTest):
    def setUp(self):
        super().setUp()
        self.query("ALTER TABLE events ADD CHECK (NOT data ? 'poison')")

    def test_every_seventh_row(self):
        daemon = self.start_spooling(SMALL_BATCHES)
        loads = self.start_producers(daemon, (KEYED, NAMED), poison_every=7, total=350)
        wait_until(lambda: all(load.acked == 350 for load in loads), 60, "acks")
        found = self.settle(daemon, timeout=120)
        self.assertEqual((found["set_aside"], found["rows"]), (100, 600))

    def aside_numbers(self):
        watermarks = dict(self.query("SELECT segment_id::text, upto FROM sluice.watermark"))
        lines = [record["line"] for record in set_aside_records(self.spools, watermarks)]
        return sorted(int(line.split('"n":')[1].split(",")[0].rstrip("}")) for line in lines)

    def test_a_duplicate_of_a_row_that_was_set_aside(self):
        daemon = self.start_spooling(SMALL_BATCHES)
        dead = {"type": "load", "source": "p", "dedupe_key": "k", "data": {"n": 0, "poison": 1}}
        self.ship(daemon, dead)
        self.ship(daemon, dead)
        daemon.signal(9)
        daemon.wait()
        daemon.start()
        self.ship(daemon, dead)
        self.assertEqual(self.aside_numbers(), [0])
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(0,)])


class WatermarkDeleted(FaultTest):
    def test_what_is_there_already_is_found_by_merging(self):
        """It meets the table's key; it is not taken for bad rows."""
        self.query("ALTER TABLE events ADD PRIMARY KEY (id)")
        daemon = self.start_spooling(SMALL_BATCHES)
        self.start_producers(daemon, (KEYED, NAMED), rate=1000)
        self.wait_commits(daemon, 2000)
        for load in self.producers:
            load.pause()
        self.wait_quiet(daemon)
        self.query("DELETE FROM sluice.watermark")
        for load in self.producers:
            load.resume()
        self.wait_acks(1000)
        self.assertEqual(self.settle(daemon, timeout=120)["set_aside"], 0)


if __name__ == "__main__":
    unittest.main()
