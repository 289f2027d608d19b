#!/usr/bin/python3
"""Each model from end to end: its sample through the socket, by its own routes, as the shipping role."""

import itertools
import json
import os
import random
import unittest

from support import producer
from support.sample_shipper import MODELS, SampleShipper, samples_of
from support.sluice_test import SluiceTest

# The daemon's own columns differ from run to run.
OWN = {"received_at", "created_at", "updated_at", "last_updated", "pipeline_instance", "pipeline_segment",
       "pipeline_index", "pipeline_batch_id", "producer_uid", "extra", "id", "dedupe_key"}
_roles = itertools.count(1)


def rounded(text):
    """What SampleShipper makes of a JSON value: Python's numbers do not keep all digits, and for it a null
    is no value."""
    if text == "null":
        return None
    return json.loads(text) if text and text[0] in "{[" else text


def lines_of(model):
    with open(os.path.join(MODELS, f"{model}.ndjson"), "rb") as file:
        return file.read().splitlines()


class Models(SluiceTest):
    def setUp(self):
        self.dbname = self.new_database()

    def prepare(self, model, dbname):
        """The model's tables, and a role that may do no more than ship into them."""
        role = f"shipper{next(_roles)}"
        self.query(f"CREATE ROLE {role} LOGIN", dbname=dbname)
        self.apply_schema("--model", model, "--role", role, dbname=dbname)
        return role

    def contents(self, dbname):
        """{table: its rows in the columns that each run gives the same values}."""
        tables = {}
        for table, columns in self.query(
                "SELECT c.relname, array_agg(a.attname::text ORDER BY attnum) FROM pg_class c"
                " JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped"
                " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
                " AND NOT relispartition GROUP BY 1", dbname=dbname):
            shown = ", ".join(f'"{name}"::text' for name in columns if name not in OWN)
            rows = self.query(f'SELECT {shown} FROM "{table}"', dbname=dbname)
            tables[table] = sorted((tuple(map(rounded, row)) for row in rows), key=repr)
        return tables

    def start_model(self, model, lanes):
        role = self.prepare(model, self.dbname)
        # Without a window, what comes again is the database's to recognise.
        return self.start_daemon({"postgres": {"model": model, "lanes": lanes}, "dedupe": {"keys_max": 0}},
                                 dsn=self.cluster.dsn(self.dbname, user=role))

    def expected(self, model):
        """What SQL with the same rights makes of the sample."""
        other = self.new_database()
        role = self.prepare(model, other)
        with self.cluster.connect(other, user=role) as connection:
            SampleShipper(connection, model).ship(samples_of(model))
        return self.contents(other)

    def check_model(self, model, twice=True):
        """Over one connection, so that parents come first; then the same once more."""
        daemon = self.start_model(model, 1)
        lines = lines_of(model)
        self.ship(daemon, *lines)
        self.assertEqual(daemon.events("set_aside"), 0, daemon.log_text())
        expected = self.expected(model)
        self.assertEqual(self.contents(self.dbname), expected)
        if twice:
            self.ship(daemon, *lines)
            self.assertEqual(daemon.events("set_aside"), 0, daemon.log_text())
            self.assertEqual(self.contents(self.dbname), expected)
        return daemon

    def check_lanes(self, model):
        """Each line over a connection of its own, in any order, all of them twice."""
        daemon = self.start_model(model, 4)
        lines = lines_of(model) * 2
        random.Random(1).shuffle(lines)
        for line in lines:
            producer.send(daemon.socket_path, line)
        self.wait_quiet(daemon, len(lines))
        self.assertEqual(daemon.events("set_aside"), 0, daemon.log_text())
        self.assertEqual(self.contents(self.dbname), self.expected(model))

    def test_agent_log(self):
        self.check_model("agent_log")
        # No column takes a node's type, so it is in extra.
        self.assertEqual(self.query("SELECT count(*) FROM nodes WHERE extra->>'type' NOT LIKE 'node.%'"),
                         [(0,)])

    def test_unified(self):
        self.check_model("unified")

    def test_conversations(self):
        self.check_model("conversations")
        self.assertEqual(self.query("SELECT count(*) FROM messages WHERE content_text = ''"), [(0,)])

    def test_operations(self):
        self.check_model("operations")
        self.assertEqual(self.query("SELECT count(*) FROM token_usage_daily WHERE event_count < 1"), [(0,)])

    def test_spirits(self):
        self.check_model("spirits", twice=False)

    def test_four_lanes(self):
        for model in ("agent_log", "unified", "operations"):
            with self.subTest(model):
                self.dbname = self.new_database()
                self.check_lanes(model)


if __name__ == "__main__":
    unittest.main()
