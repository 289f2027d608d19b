#!/usr/bin/python3
"""Each model from end to end: its sample through the socket, by its own routes, as the shipping role."""

import itertools
import json
import os
import unittest

from support.sample_shipper import MODELS, SampleShipper, samples_of
from support.sluice_test import SluiceTest

# The daemon's own columns differ from run to run.
OWN = {"received_at", "created_at", "updated_at", "last_updated", "pipeline_instance", "pipeline_segment",
       "pipeline_index", "pipeline_batch_id", "producer_uid", "extra", "id", "dedupe_key"}
_roles = itertools.count(1)


def rounded(text):
    """What SampleShipper makes of a JSON value: Python's numbers do not keep all digits."""
    return json.loads(text) if text and text[0] in "{[" else text


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

    def check_model(self, model, lanes):
        role = self.prepare(model, self.dbname)
        daemon = self.start_daemon({"postgres": {"model": model, "lanes": lanes}},
                                   dsn=self.cluster.dsn(self.dbname, user=role))
        samples = samples_of(model)
        with open(os.path.join(MODELS, f"{model}.ndjson"), "rb") as file:
            lines = file.read().splitlines()
        # Parents first: what waits for its parent is another test's.
        self.ship(daemon, *lines)
        self.assertEqual(daemon.events("set_aside"), 0, daemon.log_text())
        self.assertEqual(daemon.events("committed"), len(samples))
        first = self.contents(self.dbname)

        other = self.new_database()
        other_role = self.prepare(model, other)
        with self.cluster.connect(other, user=other_role) as connection:
            SampleShipper(connection, model).ship(samples)
        self.assertEqual(first, self.contents(other))
        return daemon, lines, first

    def test_agent_log(self):
        self.check_model("agent_log", 1)
        # No column takes a node's type, so it is in extra.
        self.assertEqual(self.query("SELECT count(*) FROM nodes WHERE extra->>'type' NOT LIKE 'node.%'"),
                         [(0,)])

    def test_unified(self):
        self.check_model("unified", 1)

    def test_conversations(self):
        self.check_model("conversations", 1)
        for raw, line in self.query("SELECT raw_message IS NOT NULL, content_text FROM messages"):
            self.assertTrue(raw)
            self.assertNotEqual(line, "")


if __name__ == "__main__":
    unittest.main()
