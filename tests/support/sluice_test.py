"""What integration tests share: a cluster for the module, a database of its own for each test, daemons
whose books are balanced at the end, and looking at the rows."""

import decimal
import itertools
import json
import sys
import unittest

from support import producer
from support.postgres_cluster import PostgresCluster
from support.sluice_daemon import SluiceDaemon, run_sluice
from support.waiting import SLOWNESS, wait_until

COLUMNS = ("id", "occurred_at", "type", "source", "session_id", "parent_id", "data", "extra",
           "received_at", "producer_uid", "dedupe_key")
_database_numbers = itertools.count(1)


def say(text):
    """Prints beside unittest's own output, at once."""
    print(text, file=sys.stderr, flush=True)


def exact_json(text):
    """A JSON value with numbers as Decimal: nothing is rounded."""
    if text is None:
        return None
    return json.loads(text, parse_float=decimal.Decimal, parse_int=decimal.Decimal)


class SluiceTest(unittest.TestCase):
    cluster_settings = {}
    cluster_tcp = False

    @classmethod
    def setUpClass(cls):
        cls.cluster = PostgresCluster(cls.cluster_settings, tcp=cls.cluster_tcp)
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.start()

    def setUp(self):
        self.dbname = self.new_database()
        self.apply_schema()

    def new_database(self):
        name = f"test{next(_database_numbers)}"
        self.cluster.query(f"CREATE DATABASE {name}")
        return name

    def apply_schema(self, *options, dbname=None):
        applied = run_sluice("schema", "apply", *options,
                             env={"SLUICE_POSTGRES_DSN": self.dsn(dbname)})
        self.assertEqual(applied.returncode, 0, applied.stderr)

    def dsn(self, dbname=None):
        return self.cluster.dsn(dbname or self.dbname)

    def query(self, sql, parameters=None, dbname=None):
        return self.cluster.query(sql, parameters, dbname or self.dbname)

    # Daemons.

    def start_daemon(self, settings=None, dsn=None, env=None):
        """A running daemon that is checked and ended with the test."""
        daemon = SluiceDaemon(dsn or self.dsn(), settings, env)
        self.addCleanup(daemon.close)
        daemon.start()
        self.addCleanup(self.check_books, daemon)
        return daemon

    def check_books(self, daemon):
        self.assertNotIn("Sanitizer", daemon.log_text())
        if daemon.running:
            wait_until(daemon.books_balance, 30, f"balanced books, not {daemon.books()}")

    def check_memory(self, taken, most):
        if SLOWNESS == 1:  # a sanitizer has its own idea of memory
            self.assertLess(taken, most)

    def wait_quiet(self, daemon, received=None, timeout=60):
        """Until `received` lines came in and each is committed, a duplicate or refused."""
        def quiet():
            enough = received is None or daemon.events("received") >= received
            return enough and daemon.is_quiet()
        try:
            wait_until(quiet, timeout, "the daemon to be quiet", every=0.02)
        except AssertionError as error:
            raise AssertionError(f"{error}; books {daemon.books()}; log:\n{daemon.log_text()}"
                                 ) from None
        if received is not None:
            self.assertEqual(daemon.events("received"), received)

    def ship(self, daemon, *lines):
        """Sends the lines over one connection and waits until all were dealt with."""
        before = daemon.events("received")
        producer.send(daemon.socket_path, *lines)
        self.wait_quiet(daemon, before + len(lines))

    def ship_one(self, daemon, event):
        """Ships one event into the empty table and returns its row; the table is empty again then."""
        return self.ship_all(daemon, [event])[0]

    def ship_all(self, daemon, events):
        """Ships events and returns the rows that came of them, in order."""
        seen = self.query("SELECT count(*) FROM events")[0][0]
        self.ship(daemon, *events)
        return self.rows()[seen:]

    # Rows.

    def rows(self, dbname=None):
        """Every row of events as a dictionary, in the order of the ids that the daemon gave."""
        selected = ", ".join(f"{name}::text" if name in ("data", "extra") else name
                             for name in COLUMNS)
        return [dict(zip(COLUMNS, row), data=exact_json(row[6]), extra=exact_json(row[7]),
                     data_text=row[6], extra_text=row[7])
                for row in self.query(f"SELECT {selected} FROM events ORDER BY received_at, id",
                                      dbname=dbname)]

    def assert_each_once(self, sent, dbname=None):
        """`sent`: {producer: how many numbered events it sent}. Needs no unique index to be true."""
        stored = {source: (rows, distinct, last) for source, rows, distinct, last in self.query(
            "SELECT source, count(*), count(DISTINCT data->>'n'), max((data->>'n')::bigint)"
            " FROM events WHERE type = 'load' GROUP BY source", dbname=dbname)}
        expected = {name: (count, count, count - 1) for name, count in sent.items() if count}
        self.assertEqual(stored, expected)

    def drop_primary_key(self):
        """So that an event that was sent twice becomes two rows and is seen."""
        self.query("ALTER TABLE events DROP CONSTRAINT events_pkey")
