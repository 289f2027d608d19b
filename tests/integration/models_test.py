#!/usr/bin/python3
"""Each model from end to end: its sample through the socket, by its own routes, as the shipping role."""

import collections
import hashlib
import itertools
import json
import os
import random
import unittest

from support import producer
from support.sample_shipper import MODELS, SampleShipper, samples_of
from support.sluice_daemon import run_sluice
from support.sluice_test import SluiceTest
from support.waiting import wait_until

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

    def records(self, daemon):
        """{state: how many set-aside records}, but for those that were delivered."""
        listed = run_sluice("dead", "list", "--json", "--config", daemon.config_path)
        self.assertEqual(listed.returncode, 0, listed.stderr)
        states = collections.Counter(json.loads(line)["state"] for line in listed.stdout.splitlines())
        del states["delivered"]
        return dict(states)

    def check_lanes_with_parents(self, model, dead=0):
        """As check_lanes(), where each child is there before its parent, and waits for it."""
        daemon = self.start_model(model, 4)
        lines = lines_of(model) * 2
        random.Random(1).shuffle(lines)
        parents = [line for line in lines if line.startswith((b'{"type":"conversation.', b'{"type":"spirit.'))]
        children = [line for line in lines if line not in parents]
        for line in children:
            producer.send(daemon.socket_path, line)
        self.wait_quiet(daemon, len(children))
        self.assertEqual(self.records(daemon), {"waiting": len(children)})
        for line in parents:
            producer.send(daemon.socket_path, line)
        self.wait_quiet(daemon, len(lines))
        expected = self.expected(model)
        wait_until(lambda: "waiting" not in self.records(daemon), 30, "the children to be delivered")
        self.assertEqual(self.contents(self.dbname), expected)
        self.assertEqual(self.records(daemon), {"dead": dead} if dead else {})

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
        daemon = self.check_model("spirits", twice=False)
        before = self.contents(self.dbname)
        self.ship(daemon, *lines_of("spirits"))
        self.assertEqual(self.contents(self.dbname), before)
        # The reflection has neither a key nor a source: it is another event, whose id is taken.
        self.assertEqual(self.records(daemon), {"dead": 1})

    def spirit_event(self, n, **more):
        event = {"type": "note", "spirit_id": f"33333333-0000-4000-8000-{n:012}", "content": "ä" * 120,
                 "source_uri": "x://1", **more}
        parts = (event["spirit_id"], "note", "ä" * 100, event.get("time", ""), "x://1")
        return json.dumps(event).encode(), hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]

    def test_a_computed_key_is_the_same_when_the_event_is_delivered_late(self):
        daemon = self.start_model("spirits", 1)
        time = "2026-01-05T09:00:00.50Z"
        made = [self.spirit_event(1), self.spirit_event(1, time=time), self.spirit_event(2),
                self.spirit_event(2, time=time, importance_score=3)]
        spirits = [json.dumps({"type": "spirit.created", "name": "n",
                               "id": f"33333333-0000-4000-8000-{n:012}"}).encode() for n in (1, 2)]
        self.ship(daemon, spirits[0], *(line for line, _ in made))
        self.assertEqual(self.records(daemon), {"waiting": 1, "dead": 1})
        self.ship(daemon, spirits[1])
        wait_until(lambda: "waiting" not in self.records(daemon), 30, "the child to be delivered")
        self.query("ALTER TABLE events DROP CONSTRAINT events_importance_score_check")
        retried = run_sluice("dead", "retry", "--all", "--config", daemon.config_path)
        self.assertEqual(retried.returncode, 0, retried.stdout + retried.stderr)

        def keys():
            return sorted(key for key, in self.query("SELECT dedupe_key FROM events"))
        self.assertEqual(keys(), sorted(key for _, key in made))
        self.ship(daemon, *(line for line, _ in made))
        self.assertEqual(keys(), sorted(key for _, key in made))
        self.assertEqual(self.records(daemon), {})

    def test_four_lanes(self):
        for model in ("agent_log", "unified", "operations"):
            with self.subTest(model):
                self.dbname = self.new_database()
                self.check_lanes(model)
        for model, dead in (("conversations", 0), ("spirits", 1)):
            with self.subTest(model):
                self.dbname = self.new_database()
                self.check_lanes_with_parents(model, dead)


if __name__ == "__main__":
    unittest.main()
