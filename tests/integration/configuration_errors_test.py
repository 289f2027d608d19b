#!/usr/bin/python3
"""What a person must mend: the events wait, one clear line in the log says why, and delivery goes on
by itself when it is mended. All cases wait at the same time, since a daemon looks again every 30 s."""

import glob
import json
import os
import re
import unittest

import psycopg

from support import producer
from support.sluice_test import SluiceTest
from support.waiting import wait_until

EVENTS = 500
LOOKS_AGAIN_S = 75


class Case:
    """One way to be wrong: a database and a daemon of its own.

    `needle` is what the one line in the log must say; `mend` is called when the events wait."""

    def __init__(self, name, needle, mend):
        self.name = name
        self.needle = needle
        self.mend = mend
        self.dbname = None
        self.daemon = None


class ConfigurationErrors(SluiceTest):
    cluster_tcp = True

    def setUp(self):
        pass  # each case makes its own database

    def start(self, case, dbname, dsn=None, env=None, durability="power"):
        case.dbname = dbname
        case.daemon = self.start_daemon(
            {"postgres": {"lanes": 1}, "spool": {"durability": durability}},
            dsn or self.dsn(dbname), env)
        lines = producer.numbered("p", 0, EVENTS).rstrip(b"\n")
        producer.send(case.daemon.socket_path, lines)
        return case

    def database(self, with_schema=True):
        name = self.new_database()
        if with_schema:
            self.apply_schema(dbname=name)
        return name

    # The cases.

    def no_table(self):
        name = self.database(with_schema=False)
        return self.start(Case("no table", "schema apply", lambda: self.apply_schema(dbname=name)),
                          name)

    def no_watermark_table(self):
        name = self.database()
        self.query("DROP TABLE sluice.watermark CASCADE", dbname=name)
        return self.start(Case("no watermark table", "watermark",
                               lambda: self.apply_schema(dbname=name)), name)

    def no_rights(self):
        name = self.database()
        self.query("CREATE ROLE forbidden LOGIN", dbname=name)
        mend = lambda: self.apply_schema("--role", "forbidden", dbname=name)  # noqa: E731
        return self.start(Case("no rights", "permission|denied|may not|right", mend), name,
                          self.cluster.dsn(name, user="forbidden"))

    def wrong_password(self):
        name = self.database()
        self.query("CREATE ROLE keyed LOGIN PASSWORD 'right'", dbname=name)
        self.apply_schema("--role", "keyed", dbname=name)
        passfile = os.path.join(self.cluster.directory, "passfile")

        def write_password(password):
            with open(os.open(passfile, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
                file.write(f"*:*:*:keyed:{password}\n")

        write_password("wrong")
        dsn = f"host=127.0.0.1 port={self.cluster.port} dbname={name} user=keyed passfile={passfile}"
        with self.assertRaises(psycopg.OperationalError):
            psycopg.connect(dsn)
        return self.start(Case("wrong password", "password authentication failed",
                               lambda: write_password("right")), name, dsn)

    def wrong_database(self):
        def mend():
            self.query("CREATE DATABASE late_database", dbname="postgres")
            self.apply_schema(dbname="late_database")

        return self.start(Case("wrong database", "late_database.*does not exist", mend),
                          "late_database")

    def column_missing(self):
        name = self.database()
        self.query("ALTER TABLE events DROP COLUMN extra", dbname=name)
        return self.start(Case("column missing", "extra", lambda: self.query(
            "ALTER TABLE events ADD COLUMN extra jsonb", dbname=name)), name)

    def column_of_a_wrong_type(self):
        name = self.database()
        self.query("ALTER TABLE events ALTER COLUMN producer_uid TYPE uuid USING NULL", dbname=name)
        return self.start(Case("column of a wrong type", "producer_uid", lambda: self.query(
            "ALTER TABLE events ALTER COLUMN producer_uid TYPE bigint USING NULL", dbname=name)), name)

    def refused_row(self):
        name = self.database()
        self.query("ALTER TABLE events ADD CONSTRAINT small CHECK ((data->>'n')::int < 400)",
                   dbname=name)
        return self.start(Case("refused row", "23514", lambda: self.query(
            "ALTER TABLE events DROP CONSTRAINT small", dbname=name)), name,
                          durability="memory")  # no place to set it aside

    def trigger_that_swallows_rows(self):
        name = self.database()
        self.query("CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS"
                   " $$ BEGIN RETURN CASE WHEN random() < 0.5 THEN NEW END; END $$;"
                   " CREATE TRIGGER swallow BEFORE INSERT ON events FOR EACH ROW"
                   " EXECUTE FUNCTION swallow()", dbname=name)
        return self.start(Case("trigger that swallows rows", "trigger", lambda: self.query(
            "DROP TRIGGER swallow ON events", dbname=name)), name)

    def read_only_server(self):
        name = self.database()
        self.query(f"ALTER DATABASE {name} SET default_transaction_read_only = on", dbname=name)

        def mend():
            self.query(f"SET default_transaction_read_only = off;"
                       f" ALTER DATABASE {name} RESET default_transaction_read_only",
                       dbname="postgres")

        return self.start(Case("read-only server", "read-only|read only|read-write", mend), name)

    def test_each_holds_and_recovers_by_itself(self):
        self.cluster.write_hba(["host all keyed 127.0.0.1/32 scram-sha-256", "local all all trust"])
        self.cluster.reload()
        cases = [self.no_table(), self.no_watermark_table(), self.no_rights(), self.wrong_password(),
                 self.wrong_database(), self.column_missing(), self.column_of_a_wrong_type(),
                 self.refused_row(), self.trigger_that_swallows_rows(), self.read_only_server()]
        for case in cases:
            with self.subTest(case.name, when="while it is wrong"):
                self.check_held(case)
        for case in cases:
            case.mend()
        for case in cases:
            with self.subTest(case.name, when="after it is mended"):
                self.wait_quiet(case.daemon, EVENTS, timeout=LOOKS_AGAIN_S)
                self.assert_each_once({"p": EVENTS}, dbname=case.dbname)
                self.assertEqual(case.daemon.stop(), 0)

    def check_held(self, case):
        def told():
            return self.lines_about(case)
        wait_until(told, 30, f"a line about {case.needle}; log:\n{case.daemon.log_text()}")
        wait_until(lambda: case.daemon.events("received") == EVENTS, 20, "the events to be read")
        self.assertEqual(case.daemon.events("committed"), 0)
        self.assertEqual(len(self.lines_about(case)), 1, case.daemon.log_text())
        self.assertEqual(case.daemon.page("/readyz")[0], 200)
        if case.name != "read-only server":
            self.assertEqual(case.daemon.lanes("held"), 1, case.daemon.metrics())
            self.assertIn("1 of 1 lanes are held", case.daemon.page("/")[1])

    def test_rows_refused_for_themselves_are_set_aside_and_the_others_pass(self):
        name = self.database()
        self.query("ALTER TABLE events ADD CONSTRAINT seventh CHECK ((data->>'n')::int % 7 <> 3)",
                   dbname=name)
        daemon = self.start_daemon({}, self.dsn(name))
        lines = producer.numbered("p", 0, EVENTS).splitlines()
        producer.send(daemon.socket_path, *lines)
        self.wait_quiet(daemon, EVENTS)
        refused = [n for n in range(EVENTS) if n % 7 == 3]
        passed = [n for n in range(EVENTS) if n % 7 != 3]
        self.assertEqual(daemon.books()[1]["set_aside"], len(refused))
        self.assertEqual([n for n, in self.query(
            "SELECT (data->>'n')::int FROM events ORDER BY 1", dbname=name)], passed)
        self.assertEqual(sorted(set_aside(daemon)), sorted(lines[n].decode() for n in refused))
        self.assertEqual(daemon.stop(), 0)
        # A restart finds them dealt with.
        daemon.start()
        self.wait_quiet(daemon, 0)
        self.assertEqual(len(set_aside(daemon)), len(refused))
        self.assertEqual(self.query("SELECT count(*) FROM events", dbname=name), [(len(passed),)])

    def lines_about(self, case):
        """The lines of the log that say what is wrong."""

        return [line for line in case.daemon.log_text().splitlines()
                if re.search(case.needle, line, re.IGNORECASE)]


def set_aside(daemon):
    """The lines of the set-aside records, as their producers sent them."""
    lines = []
    for path in glob.glob(os.path.join(daemon.spool_dir, "aside", "dead-*.ndjson")):
        with open(path) as records:
            for record in map(json.loads, records):
                assert record["sqlstate"] == "23514", record
                lines.append(record["line"])
    return lines


if __name__ == "__main__":
    unittest.main()
