#!/usr/bin/python3
"""Rows that wait for their parent or for their route's table are delivered by themselves, once, whatever
fails between, and the others go on meanwhile."""

import json
import signal
import subprocess
import unittest

from support import producer
from support.oracle import set_aside_records
from support.sluice_daemon import SluiceDaemon, clean_environment, run_sluice, sluice_binary
from support.sluice_test import SluiceTest
from support.waiting import wait_until

ROUTES = """
[[route]]
match = "child"
table = "children"
columns = [ { name = "n", from = "/data/n", type = "int8" },
            { name = "parent", from = "/data/parent", type = "int8" } ]
[[route]]
match = "parent"
table = "parents"
columns = [ { name = "n", from = "/data/n", type = "int8" } ]
[[route]]
match = "*"
table = "events"
columns = [ { name = "id", from = "$id" }, { name = "occurred_at", from = "time" },
            { name = "type", from = "type" }, { name = "source", from = "source" },
            { name = "data", from = "data" }, { name = "received_at", from = "$received_at" } ]
"""


class RedeliveryTest(SluiceTest):
    def setUp(self):
        super().setUp()
        self.query("CREATE TABLE parents (n bigint PRIMARY KEY)")
        self.make_children()

    def make_children(self):
        self.query("CREATE TABLE children (n bigint, parent bigint REFERENCES parents)")

    def daemon(self, routes=ROUTES, **postgres):
        daemon = SluiceDaemon(self.dsn(), {"postgres": postgres})
        with open(daemon.config_path, "a") as file:
            file.write(routes)
        self.addCleanup(daemon.close)
        daemon.start()
        self.addCleanup(self.check_books, daemon)
        return daemon

    def parents(self, *numbers):
        return [json.dumps({"type": "parent", "data": {"n": n}}).encode() for n in numbers]

    def children(self, *numbers, parent=lambda n: n):
        return [json.dumps({"type": "child", "data": {"n": n, "parent": parent(n)}}).encode()
                for n in numbers]

    def stored(self):
        return [n for (n,) in self.query("SELECT n FROM children ORDER BY n")]

    def states(self, daemon):
        watermarks = dict(self.query("SELECT segment_id::text, upto FROM sluice.watermark"))
        return [record["state"] for record in set_aside_records([daemon.spool_dir], watermarks)]

    def records(self, daemon, state):
        return int(daemon.metrics().get(f'sluice_set_aside_records{{state="{state}"}}', 0))


class Redelivery(RedeliveryTest):
    def test_children_that_come_before_their_parents(self):
        daemon = self.daemon()
        self.ship(daemon, *self.children(*range(20)))
        self.assertEqual(self.stored(), [])
        self.assertEqual(self.states(daemon), ["waiting"] * 20)
        self.ship(daemon, *self.parents(*range(20)))
        wait_until(lambda: self.stored() == list(range(20)), 30, "the children to be delivered")
        self.assertEqual(self.query("SELECT count(*) FROM sluice.redelivered"), [(20,)])
        wait_until(lambda: self.records(daemon, "delivered") == 20, 10, "the records to be told")
        self.assertEqual(self.records(daemon, "waiting"), 0)

    def test_children_without_parents_are_dead_after_their_time(self):
        daemon = self.daemon(parent_wait="2s")
        self.ship(daemon, *self.children(1, 2), *self.parents(7), *self.children(7))
        wait_until(lambda: self.states(daemon).count("dead") == 2, 30, "the children to be dead")
        self.assertEqual(self.stored(), [7])
        done = run_sluice("dead", "retry", "--all", "--config", daemon.config_path)
        self.assertEqual(done.returncode, 65, done.stderr)
        self.ship(daemon, *self.parents(1, 2))
        done = run_sluice("dead", "retry", "--all", "--config", daemon.config_path)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(self.stored(), [1, 2, 7])

    def test_a_table_that_is_missing_holds_its_own_rows_only(self):
        self.query("DROP TABLE children")
        daemon = self.daemon(lanes=1)
        self.ship(daemon, *self.parents(*range(10)), *self.children(*range(10)),
                  b'{"type":"other","data":{"n":1}}')
        self.assertEqual(self.query("SELECT count(*) FROM parents"), [(10,)])
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(1,)])
        self.assertEqual(self.states(daemon), ["held"] * 10)
        self.assertEqual(daemon.lanes("held"), 0)
        self.make_children()
        wait_until(lambda: self.stored() == list(range(10)), 60, "the rows to be delivered")

    def test_a_table_that_refuses_a_thousand_rows_holds_its_own_rows_only(self):
        self.query("ALTER TABLE children ADD CONSTRAINT broken CHECK (n < 0)")
        daemon = self.daemon()
        for first in range(0, 1_300, 100):
            numbers = range(first, first + 100)
            self.ship(daemon, *self.children(*numbers), *self.parents(*numbers))
        self.assertEqual(self.query("SELECT count(*) FROM parents"), [(1_300,)])
        states = self.states(daemon)
        self.assertEqual((states.count("dead"), states.count("held")), (1_000, 300))
        self.assertEqual(daemon.lanes("held"), 0)
        self.query("ALTER TABLE children DROP CONSTRAINT broken")
        wait_until(lambda: len(self.stored()) == 300, 60, "the held rows to be delivered")
        self.assertEqual(self.states(daemon).count("dead"), 1_000)

    def make_trigger(self, body):
        self.query(f"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
        self.query("CREATE TRIGGER meddle BEFORE INSERT ON children FOR EACH ROW EXECUTE FUNCTION meddle()")

    def test_a_trigger_that_drops_a_row_holds_its_own_route_only(self):
        self.make_trigger("IF new.n = 3 THEN RETURN NULL; END IF; RETURN new;")
        daemon = self.daemon()
        self.ship(daemon, *self.children(*range(10)), *self.parents(*range(10)))
        self.assertEqual(self.query("SELECT count(*) FROM parents"), [(10,)])
        self.assertEqual((self.stored(), self.states(daemon)), ([], ["held"] * 10))
        self.assertIn("meddle", daemon.log_text())
        self.query("DROP TRIGGER meddle ON children")
        wait_until(lambda: self.stored() == list(range(10)), 60, "the rows to be delivered")

    def test_what_a_trigger_trips_over_costs_its_row_only_and_is_not_quoted(self):
        """By its SQLSTATE alone each of these would be trouble with the table or the login."""
        self.make_trigger("IF new.n = 1 THEN EXECUTE 'TABLE \"PAYLOAD' || new.n || '\"'; END IF;"
                          " IF new.n = 2 THEN RAISE 'PAYLOAD %', new.n USING ERRCODE = '28000'; END IF;"
                          " IF new.n = 3 THEN RAISE 'PAYLOAD %', new.n USING ERRCODE = '55000'; END IF;"
                          " RETURN new;")
        daemon = self.daemon()
        self.ship(daemon, *self.parents(*range(10)))
        self.ship(daemon, *self.children(*range(10)))
        self.assertEqual(self.stored(), [0, *range(4, 10)])
        self.assertEqual(self.states(daemon), ["dead"] * 3)
        listed = run_sluice("dead", "list", "--config", daemon.config_path)
        for state in ("42P01", "28000", "55000"):
            self.assertIn(state, listed.stdout)
        self.assertNotIn("PAYLOAD", listed.stdout + daemon.log_text())

    def test_killed_while_it_redelivers_each_row_is_there_once(self):
        self.query("DROP TABLE children")
        daemon = self.daemon(lanes=1)
        producer.send(daemon.socket_path, *self.parents(*range(2000)), *self.children(*range(2000)),
                      b'{"type":"other","data":{"n":1}}')
        self.wait_quiet(daemon, 4001)
        self.make_children()
        for _ in range(3):
            wait_until(lambda: len(self.stored()) > 0, 60, "the first rows")
            daemon.signal(signal.SIGKILL)
            daemon.wait()
            daemon.start()
        wait_until(lambda: len(self.stored()) >= 2000, 60, "all rows")
        self.assertEqual(self.stored(), list(range(2000)))
        self.assertEqual(self.query("SELECT count(*) FROM sluice.redelivered"), [(2000,)])

    def test_what_the_database_lost_is_delivered_again(self):
        daemon = self.daemon()
        self.ship(daemon, *self.children(*range(5)))
        self.ship(daemon, *self.parents(*range(5)))
        wait_until(lambda: self.stored() == list(range(5)), 30, "the children to be delivered")
        self.query("DELETE FROM children WHERE n = 3")
        self.query("DELETE FROM sluice.redelivered WHERE (segment_id, index) IN"
                   " (SELECT segment_id, index FROM sluice.redelivered ORDER BY index LIMIT 1 OFFSET 3)")
        wait_until(lambda: len(self.stored()) == 5, 30, "the lost row to be there again")


class RedeliveryByMerging(RedeliveryTest):
    """The key alone would keep a second row out, so what is counted is what was ever added."""

    def make_children(self):
        # In one transaction: a daemon that waits for the table adds no row before the trigger is there.
        self.query("CREATE TABLE children (n bigint PRIMARY KEY, parent bigint);"
                   " CREATE TABLE added (n bigint);"
                   " CREATE FUNCTION note_added() RETURNS trigger LANGUAGE plpgsql AS"
                   " $$ BEGIN INSERT INTO added VALUES (new.n); RETURN NULL; END $$;"
                   " CREATE TRIGGER note_added AFTER INSERT ON children"
                   " FOR EACH ROW EXECUTE FUNCTION note_added()")

    def retry(self, daemon):
        return subprocess.Popen([sluice_binary(), "dead", "retry", "--all", "--config", daemon.config_path],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environment())

    def added(self):
        return [n for (n,) in self.query("SELECT n FROM added ORDER BY n")]

    def test_dead_records_that_are_retried_and_killed_are_delivered_once(self):
        self.query("ALTER TABLE children ADD CONSTRAINT even CHECK (n % 2 = 0)")
        merging = ROUTES.replace('table = "children"', 'table = "children"\nmode = "merge"')
        daemon = self.daemon(merging, lanes=1)
        self.ship(daemon, *self.children(*range(1_200)))
        self.assertEqual(self.stored(), list(range(0, 1_200, 2)))
        self.query("ALTER TABLE children DROP CONSTRAINT even")
        # Meanwhile there by another way: the same row is a duplicate, another one is in the way.
        self.query("INSERT INTO children VALUES (1, 1), (3, -1)")
        kills = 0
        while True:
            before = len(self.added())
            running = self.retry(daemon)
            wait_until(lambda: running.poll() is not None or len(self.added()) > before, 60, "a row")
            if running.poll() is not None:
                break
            running.kill()
            running.wait()
            kills += 1
            self.assertLess(kills, 100)
        self.assertGreater(kills, 1)
        self.assertEqual(running.returncode, 65)
        self.assertEqual(self.added(), list(range(1_200)))
        self.assertEqual(self.query("SELECT count(*) FROM children"), [(1_200,)])
        self.assertEqual(self.query("SELECT count(*) FROM sluice.redelivered"), [(599,)])
        self.assertEqual([(record["state"], json.loads(record["line"])["data"]["n"])
                          for record in self.left(daemon)], [("dead", 3)])
        # What was delivered once stays so, also where its row and with it the key is gone.
        self.query("DELETE FROM children WHERE n IN (3, 5)")
        self.assertEqual(self.retry(daemon).wait(60), 0)
        self.assertEqual(self.added(), sorted([*range(1_200), 3]))

    def left(self, daemon):
        """The records of what was not delivered."""
        listed = run_sluice("dead", "list", "--json", "--config", daemon.config_path)
        names = [record["record"] for record in map(json.loads, listed.stdout.splitlines())
                 if record["state"] != "delivered"]
        shown = run_sluice("dead", "show", "--json", *names, "--config", daemon.config_path)
        return [json.loads(line) for line in shown.stdout.splitlines()]

    def test_killed_while_the_daemon_redelivers_each_row_is_added_once(self):
        self.query("DROP TABLE children; DROP TABLE added; DROP FUNCTION note_added")
        merging = ROUTES.replace('table = "children"', 'table = "children"\nmode = "merge"')
        daemon = self.daemon(merging, lanes=1)
        producer.send(daemon.socket_path, *self.children(*range(1_500)), b'{"type":"other","data":{"n":1}}')
        self.wait_quiet(daemon, 1_501)
        self.assertEqual(self.states(daemon), ["held"] * 1_500)
        self.make_children()
        for _ in range(3):
            before = len(self.added())
            wait_until(lambda: len(self.added()) > before or before == 1_500, 60, "more rows")
            daemon.signal(signal.SIGKILL)
            daemon.wait()
            daemon.start()
        wait_until(lambda: len(self.added()) >= 1_500, 60, "all rows")
        self.assertEqual((self.added(), self.stored()), (list(range(1_500)),) * 2)
        self.assertEqual(self.query("SELECT count(*) FROM sluice.redelivered"), [(1_500,)])


if __name__ == "__main__":
    unittest.main()
