#!/usr/bin/python3
"""Constraints that are checked at the end of a transaction (DEFERRABLE INITIALLY DEFERRED): rows that are good together
are stored together, and where a refused row parts them, they wait for each other and are not lost."""

import collections
import json
import unittest

from support import producer
from support.sluice_daemon import run_sluice
from support.sluice_test import SluiceTest
from support.waiting import wait_until

ROUTES = """
[[route]]
match = "*"
table = "links"
columns = [ { name = "n", from = "/data/n" }, { name = "next", from = "/data/next" },
            { name = "code", from = "/data/code" } ]
"""


def event(n, following=None, code=None):
    return json.dumps({"type": "link", "data": {"n": n, "next": following, "code": code}}).encode()


class DeferredConstraints(SluiceTest):
    def setUp(self):
        super().setUp()
        self.query("CREATE TABLE links (n int PRIMARY KEY,"
                   " next int REFERENCES links DEFERRABLE INITIALLY DEFERRED,"
                   " code int UNIQUE DEFERRABLE INITIALLY DEFERRED CHECK (code <> 13))")

    def start(self, **postgres):
        # One lane and time enough, so that what is sent at once is one batch.
        return self.start_daemon({"postgres": {"lanes": 1, "batch_delay": "500ms", **postgres},
                                  "dedupe": {"keys_max": 0}, "toml": ROUTES})

    def send(self, daemon, *lines):
        before = daemon.events("received")
        producer.send(daemon.socket_path, b"\n".join(lines))
        self.wait_quiet(daemon, before + len(lines))

    def records(self, daemon):
        """{(state, sqlstate): how many}"""
        listed = run_sluice("dead", "list", "--json", "--config", daemon.config_path)
        self.assertEqual(listed.returncode, 0, listed.stderr)
        return collections.Counter((record["state"], record["sqlstate"])
                                   for record in map(json.loads, listed.stdout.splitlines()))

    def stored(self):
        return [n for (n,) in self.query("SELECT n FROM links ORDER BY n")]

    def test_rows_that_refer_to_later_ones_of_their_batch(self):
        daemon = self.start()
        self.send(daemon, *(event(n, n + 1) for n in range(500)), event(500))
        self.assertEqual(self.stored(), list(range(501)))
        self.assertEqual(self.records(daemon), {})

    def test_a_key_that_is_taken_costs_its_own_rows_only(self):
        """Such a key is no target of ON CONFLICT, so nothing can be merged."""
        self.query("DROP TABLE links; CREATE TABLE links (n int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED,"
                   " next int, code int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        daemon = self.start()
        self.send(daemon, *(event(n) for n in range(300)))
        self.send(daemon, *(event(n) for n in range(290, 600)), event(600, code=1), event(601, code=1))
        self.assertEqual(self.stored(), list(range(601)))
        self.assertEqual(self.records(daemon), {("dead", "23505"): 11})
        self.assertEqual(daemon.lanes("held"), 0)

    def test_rows_that_are_good_only_together_are_delivered_though_a_refused_one_parts_them(self):
        daemon = self.start()
        lines = []
        for n in range(0, 400, 2):
            refused = [event(10_000 + n, code=13)] if n % 20 == 0 else []
            lines += [event(n, n + 1), *refused, event(n + 1, n)]
        self.send(daemon, *lines)
        wait_until(lambda: ("waiting", "23503") not in self.records(daemon), 60, "nothing to wait any more")
        self.assertEqual(self.stored(), list(range(400)))
        records = self.records(daemon)
        self.assertGreaterEqual(records.pop(("delivered", "23503")), 2)
        self.assertEqual(records, {("dead", "23514"): 20})

    def test_those_that_came_to_nothing_among_others_are_delivered_when_they_are_named_together(self):
        daemon = self.start(parent_wait="1s")
        self.send(daemon, event(1, 2), event(3, 9_999), event(2, 1))
        wait_until(lambda: self.records(daemon) == {("dead", "23503"): 3}, 30, "their time to pass")
        listed = run_sluice("dead", "list", "--json", "--config", daemon.config_path).stdout.splitlines()
        names = [json.loads(line)["record"] for line in listed]
        both = [name for name in names if not name.endswith(":1")]
        retried = run_sluice("dead", "retry", *both, "--config", daemon.config_path)
        self.assertEqual(retried.returncode, 0, retried.stdout + retried.stderr)
        self.assertEqual(self.stored(), [1, 2])
        self.assertEqual(self.records(daemon)["dead", "23503"], 1)


if __name__ == "__main__":
    unittest.main()
