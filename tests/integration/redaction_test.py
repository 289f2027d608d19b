#!/usr/bin/python3
"""[[redact]]: the values it names reach neither spool, database, log nor answers."""

import hashlib
import hmac
import json
import os
import random
import unittest

from support.asking import Asking
from support.sluice_daemon import SluiceDaemon
from support.sluice_test import SluiceTest

SECRET = "hunter2"
SALT = b"sixteen bytes or more"


def event_with_secrets(rng, n):
    """An event with secrets where the rules below find them, and other things."""
    def some(depth):
        kind = rng.randrange(6)
        if depth > 3 or kind < 3:
            return rng.choice([n, None, "text", -1.5, True, 'with "password" in it', "}\\", []])
        if kind == 3:
            return [some(depth + 1) for _ in range(rng.randrange(4))]
        members = {f"k{i}": some(depth + 1) for i in range(rng.randrange(4))}
        if rng.randrange(2):
            members[rng.choice(["password", "Password"])] = rng.choice(
                [SECRET, [SECRET, {"x": SECRET}], {"password": {"y": SECRET}}])
        return members
    return {"n": n, "data": {"headers": {"authorization": SECRET, "accept": "kept"},
                             "list": [{"token": SECRET}, {"token": SECRET, "kept": n}],
                             "any": some(0)},
            "email": f"{SECRET}@{n % 3}"}


class Redaction(SluiceTest):
    def setUp(self):
        super().setUp()
        self.salt_file = os.path.join(self.cluster.directory, "salt")
        with open(self.salt_file, "wb") as file:
            file.write(SALT + b"\n")
        self.rules = [
            {"name": "secrets", "fields": ["password", "/data/headers/authorization",
                                           "/data/list/*/token"]},
            {"fields": ["email"], "action": "hash", "salt_file": self.salt_file},
        ]

    def files_of(self, daemon):
        """All bytes of the daemon's directory, but its configuration."""
        content = b""
        for directory, _, names in os.walk(daemon.directory):
            for name in names:
                path = os.path.join(directory, name)
                if path != daemon.config_path and os.path.isfile(path):
                    with open(path, "rb") as file:
                        content += file.read()
        return content

    def test_no_secret_survives_anywhere(self):
        seed = random.randrange(1 << 32)
        rng = random.Random(seed)
        daemon = self.start_daemon({"redact": self.rules})
        events = [event_with_secrets(rng, n) for n in range(500)]
        lines = [json.dumps(event).replace('"password"', '"pass\\u0077ord"')
                 if n % 2 else event for n, event in enumerate(events)]
        self.ship(daemon, *lines)
        rows = self.rows()
        self.assertEqual(len(rows), 500)
        everything = self.files_of(daemon)
        self.assertIn(b"kept", everything)
        stored = str(self.query("SELECT e::text FROM events e"))
        for place in (everything.decode(errors="replace"), stored, daemon.page("/metrics")[1]):
            self.assertNotIn(SECRET, place, f"seed {seed}")
        row = rows[7]
        self.assertEqual(row["data"]["headers"],
                         {"authorization": "[redacted]", "accept": "kept"})
        self.assertEqual(row["data"]["list"][1], {"token": "[redacted]", "kept": 7})
        digest = hmac.new(SALT, b"hunter2@1", hashlib.sha256).hexdigest()[:32]
        self.assertEqual(row["extra"]["email"], "hmac-sha256:" + digest)
        metrics = daemon.metrics()
        self.assertEqual(metrics['sluice_redacted_total{rule="2"}'], 500)
        self.assertGreaterEqual(metrics['sluice_redacted_total{rule="secrets"}'], 1500)

    def test_an_answer_and_the_log_of_a_refused_line_hold_nothing_of_it(self):
        daemon = self.start_daemon({"redact": self.rules, "ingest": {"misfit": "reject"}})
        with Asking(daemon.socket_path) as producer:
            producer.write(b'{"password":"hunter2"', b'{"password":"hunter2","id":7}',
                           b'{"password":"hunter2","dedupe_key":""}', b'{"n":1}')
            answers = producer.until_ack(4)
            self.assertEqual([answer["code"] for answer in answers if "nack" in answer],
                             ["syntax", "misfit", "dedupe_key"])
            self.assertNotIn(SECRET, str(answers + producer.finish()))
        self.wait_quiet(daemon, 4)
        self.assertNotIn(SECRET, self.files_of(daemon).decode(errors="replace"))

    def test_hashed_dedupe_keys_still_tell_duplicates(self):
        rule = {"fields": ["dedupe_key"], "action": "hash", "salt_file": self.salt_file}
        daemon = self.start_daemon({"redact": [rule]})
        self.ship(daemon, {"dedupe_key": "hunter2", "n": 1}, {"dedupe_key": "hunter2", "n": 2},
                  {"dedupe_key": "other", "n": 3})
        self.assertEqual([row["extra"]["n"] for row in self.rows()], [1, 3])
        self.assertEqual(daemon.events("duplicate"), 1)

    def test_a_salt_file_that_is_missing_stops_the_start_with_its_name(self):
        rule = {"fields": ["email"], "action": "hash", "salt_file": "/nowhere/salt"}
        daemon = SluiceDaemon(self.dsn(), {"redact": [rule]})
        self.addCleanup(daemon.close)
        daemon.spawn()
        self.assertEqual(daemon.wait(), 78)
        self.assertIn("redact.salt_file /nowhere/salt", daemon.log_text())


if __name__ == "__main__":
    unittest.main()
