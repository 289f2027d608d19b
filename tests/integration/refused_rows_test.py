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
    def test_it_is_held_and_goes_on_when_the_rows_are_back(self):
        """What is there already meets the table's key; it is not taken for bad rows."""
        self.query("ALTER TABLE events ADD PRIMARY KEY (id)")
        daemon = self.start_spooling(SMALL_BATCHES)
        self.start_producers(daemon, (KEYED, NAMED), rate=1000)
        self.wait_commits(daemon, 2000)
        for load in self.producers:
            load.pause()
        self.wait_quiet(daemon)
        lost = self.query("DELETE FROM sluice.watermark RETURNING segment_id, upto")
        for load in self.producers:
            load.resume()
        wait_until(lambda: daemon.lanes("held") >= 1, 60, "the lanes to be held")
        self.wait_acks(1000)
        for segment, upto in lost:
            self.query("INSERT INTO sluice.watermark (segment_id, upto) VALUES (%s, %s)"
                       " ON CONFLICT (segment_id) DO UPDATE SET upto = excluded.upto", (segment, upto))
        self.assertEqual(self.settle(daemon, timeout=120)["set_aside"], 0)


if __name__ == "__main__":
    unittest.main()
