#!/usr/bin/python3
"""The benches run, with every option and so few events that their figures say nothing: one that no longer
fits the daemon or the tables is seen here."""

import json
import os
import subprocess
import tempfile
import unittest

from support.sluice_daemon import clean_environment, sluice_binary
from support.waiting import SLOWNESS, wait_until

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench")


class Benches(unittest.TestCase):
    def run_bench(self, name, *options):
        """What it wrote as JSON, and what it printed."""
        with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir="/tmp") as directory:
            path = os.path.join(directory, "report.json")
            environment = {**clean_environment(), "SLUICE_BINARY": sluice_binary()}
            ended = subprocess.run(["/usr/bin/python3", os.path.join(BENCH, name), "--json", path, *options],
                                   capture_output=True, text=True, env=environment,
                                   timeout=150 * SLOWNESS)
            self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
            with open(path) as file:
                return json.load(file), ended.stdout

    def test_run_side_by_side(self):
        report, printed = self.run_bench("run", "--events", "3000", "--rounds", "1", "--only", "abcdpm")
        self.assertEqual(sorted(report["side_by_side"]), sorted("abcdpm"))
        self.assertIn("(d)/(b) = ", printed)

    def test_run_faults(self):
        report, _ = self.run_bench("run", "--events", "3000", "--rounds", "1", "--only", "",
                                   "--connections", "3", "--outage", "--outage-seconds", "1",
                                   "--backlog", "6000", "--warm", "--idle", "--idle-seconds", "1")
        self.assertGreater(report["connections"]["ratio"], 0)
        self.assertEqual(report["outage"]["outage_s"], 1)
        self.assertEqual(report["backlog"]["events"], 6000)
        self.assertGreater(report["idle"]["rss_mib"], 0)

    def test_run_table_costs(self):
        report, printed = self.run_bench("run", "--events", "12000", "--rounds", "1", "--only", "",
                                         "--poison", "--merge", "--routes", "--computed")
        self.assertGreaterEqual(report["poison"]["poisoned_rows"], 1)
        for figure in ("ratio_lanes_1", "ratio_lanes_2"):
            self.assertGreater(report["poison"][figure], 0)
        for kind in ("all new", "some known"):
            self.assertGreater(report["merge"][f"ratio, {kind}"], 0)
        self.assertGreater(report["routes"]["ratio"], 0)
        self.assertIn("cpu_s_per_million", report["computed"]["key in window and column"])
        self.assertIn("five routes at once / one route = ", printed)

    def test_acks(self):
        report, _ = self.run_bench("acks", "--rate", "500", "--producers", "2", "--seconds", "1",
                                   "--runs", "1")
        self.assertTrue(report)

    def test_latency(self):
        def run():
            try:
                return self.run_bench("latency", "--rate", "500", "--producers", "2", "--seconds", "2",
                                      "--runs", "1")[0]
            except AssertionError as error:
                # What it says on a machine that is too busy to look in time.
                if "the watcher missed batches" not in str(error):
                    raise
                return None
        self.assertTrue(wait_until(run, 120, "a run in which each batch was seen"))


if __name__ == "__main__":
    unittest.main()
