#!/usr/bin/python3
"""The dedupe window from the socket to the table."""

import unittest

from support.sluice_test import SluiceTest

ID = "01890a5d-ac96-774b-bcce-b302099a8057"


class Dedupe(SluiceTest):
    def test_the_first_event_of_a_key_counts(self):
        daemon = self.start_daemon()
        self.ship(daemon, {"dedupe_key": "k", "n": 1}, {"dedupe_key": "k", "n": 2},
                  {"dedupe_key": "K", "n": 3})
        self.ship(daemon, {"dedupe_key": "k", "n": 4})
        self.assertEqual([row["extra"]["n"] for row in self.rows()], [1, 3])
        self.assertEqual(daemon.events("duplicate"), 2)

    def test_equal_events_without_a_key_are_all_stored(self):
        daemon = self.start_daemon()
        self.ship(daemon, *[{"type": "beat"}] * 10)
        self.assertEqual(len(self.rows()), 10)

    def test_the_same_line_with_an_id_is_a_duplicate(self):
        daemon = self.start_daemon()
        self.ship(daemon, *[{"id": ID, "n": 1}] * 3)
        self.assertEqual([str(row["id"]) for row in self.rows()], [ID])
        self.assertEqual(daemon.events("duplicate"), 2)

    def test_the_same_id_on_another_line_is_another_event(self):
        daemon = self.start_daemon()
        self.ship(daemon, {"id": ID, "n": 1}, {"id": ID, "n": 2})
        first, second = sorted(self.rows(), key=lambda row: row["extra"]["n"])
        self.assertEqual(str(first["id"]), ID)
        self.assertEqual(second["id"].version, 7)
        self.assertNotEqual(str(second["id"]), ID)
        self.assertEqual(second["extra"], {"id": ID, "n": 2})
        self.assertEqual(daemon.metrics()["sluice_id_conflicts_total"], 1)

    def test_an_id_that_is_no_uuid_serves_dedupe(self):
        daemon = self.start_daemon()
        self.ship(daemon, *[{"id": "order-17", "n": 1}] * 2, {"id": "order-17", "n": 2})
        rows = self.rows()
        self.assertEqual([row["extra"]["n"] for row in rows], [1, 2])
        self.assertEqual(daemon.events("duplicate"), 1)

    def test_a_key_is_forgotten_when_newer_ones_take_its_place(self):
        daemon = self.start_daemon({"dedupe": {"keys_max": 1000}})
        self.ship(daemon, *[{"dedupe_key": f"k{n}"} for n in range(3000)])
        self.ship(daemon, {"dedupe_key": "k0"}, {"dedupe_key": "k2999"})
        self.assertEqual(len(self.rows()), 3001)
        self.assertLessEqual(daemon.metrics()["sluice_dedupe_keys"], 1000)


if __name__ == "__main__":
    unittest.main()
