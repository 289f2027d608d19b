#!/usr/bin/python3
"""Routes: any event into any table, every value as it was sent, in both formats of COPY."""

import datetime
import decimal
import json
import os
import random
import string
import struct
import unittest
import uuid

from support import producer
from support.sluice_test import SluiceTest, exact_json, say
from support.waiting import wait_until

ROUNDS = int(os.environ.get("SLUICE_TEST_ROUNDS", "300"))
SEED = int(os.environ.get("SLUICE_TEST_SEED", random.randrange(1 << 32)))
DAY = datetime.timedelta(days=1)


def route(match, table, *columns, constants=None, **more):
    """A [[route]] as TOML; a column is (name, from) or (name, from, "more = …"). `constants`: {name: TOML}."""
    lines = ["[[route]]", f"match = {json.dumps(match)}", f"table = '{table}'"]
    lines += [f"{key} = {value}" for key, value in more.items()]
    lines.append("columns = [")
    for name, source, *rest in columns:
        extra = "".join(f", {text}" for text in rest)
        lines.append(f"  {{ name = '{name}', from = '{source}'{extra} }},")
    lines += [f"  {{ name = '{name}', value = {value} }}," for name, value in (constants or {}).items()]
    lines.append("]")
    return "\n".join(lines) + "\n"


def float32(value):
    return struct.unpack("f", struct.pack("f", float(value)))[0]


REST = route("*", "rest", ("id", "$id"), ("type", "type"), ("extra", "$extra"))


class Routes(SluiceTest):
    def setUp(self):
        super().setUp()
        self.query("CREATE TABLE rest (id uuid, type text, extra jsonb)")

    def start_with(self, *routes):
        return self.start_daemon({"toml": "".join(routes)})

    def test_each_event_goes_to_its_own_table_with_awkward_names(self):
        self.query('CREATE SCHEMA "we.ird"')
        self.query('CREATE TABLE "select ""x""" ("a b" text, "drop" int)')
        self.query('CREATE TABLE "we.ird"."t.t" ("Ä" text)')
        daemon = self.start_with(
            route("audit.login", '"select ""x"""', ("a b", "/data/who"), ("drop", "/data/n")),
            route("audit.*", '"we.ird"."t.t"', ("Ä", "type")), REST)
        self.ship(daemon, {"type": "audit.login", "data": {"who": "x", "n": 7}},
                  {"type": "audit.logout"}, {"type": "other", "a": 1})
        self.assertEqual(self.query('SELECT * FROM "select ""x"""'), [("x", 7)])
        self.assertEqual(self.query('SELECT * FROM "we.ird"."t.t"'), [("audit.logout",)])
        self.assertEqual(self.query("SELECT type, extra::text FROM rest"), [("other", '{"a": 1}')])

    def test_values_of_the_daemon_and_of_the_configuration(self):
        self.query("CREATE TABLE t (id text, segment uuid, index int, instance text, uid numeric,"
                   " received timestamp, day date, line jsonb, region text, tags text[],"
                   " made timestamptz DEFAULT now(), number int GENERATED ALWAYS AS IDENTITY,"
                   " doubled int GENERATED ALWAYS AS (index * 2) STORED)")
        daemon = self.start_with(route(
            "*", "t", ("id", "$id"), ("segment", "$segment"), ("index", "$index"),
            ("instance", "$instance"), ("uid", "$uid"), ("received", "$received_at"),
            ("day", "time"), ("line", "$line"),
            constants={"region": "'eu-1'", "tags": "['a', 'b\"']"}))
        event = {"type": "a", "time": "2024-02-29T23:59:59.5-02:00", "n": 1}
        self.ship(daemon, event, event)
        rows = self.query("SELECT segment, index, instance, uid, day, line::text, region, tags,"
                          " made IS NOT NULL, number, doubled, id::uuid IS NOT NULL,"
                          " received > now() - interval '1 day' FROM t ORDER BY index")
        self.assertEqual(rows[0][0], rows[1][0])
        self.assertEqual([row[1] for row in rows], [0, 1])
        for n, row in enumerate(rows):
            self.assertEqual(row[2], os.uname().nodename)
            self.assertEqual(row[3], os.getuid())
            self.assertEqual(row[4], datetime.date(2024, 3, 1))
            self.assertEqual(exact_json(row[5]), event)
            self.assertEqual(row[6:], ("eu-1", ["a", 'b"'], True, n + 1, 2 * n, True, True))

    def test_types_that_only_postgres_can_read(self):
        self.query("CREATE TYPE mood AS ENUM ('sad', 'so so')")
        self.query("CREATE DOMAIN small AS int CHECK (VALUE < 10)")
        self.query("CREATE TYPE pair AS (a int, b text)")
        self.query("CREATE TABLE t (mood mood, moods mood[], net inet, took interval, during tstzrange,"
                   " at time, pair pair, grid int[][], docs jsonb[], small small, bytes bytea, bits bit(3),"
                   " days date[])")
        names = ("mood", "moods", "net", "took", "during", "at", "pair", "grid", "docs", "small",
                 "bytes", "bits", "days")
        daemon = self.start_with(route("*", "t", *[(name, f"/data/{name}") for name in names]))
        self.ship(daemon, {"data": {
            "mood": "so so", "moods": ["sad", None, "so so"], "net": "10.0.0.0/8", "took": "1 day 02:03",
            "during": "[2026-01-01T00:00:00Z,)", "at": "12:34:56.5", "pair": "(1,\"x,\")",
            "grid": [[1, 2], [3, 4]], "docs": [{"a": ["\\"]}, "s", None], "small": 7,
            "bytes": "\\x00ff\\", "bits": "101", "days": ["2026-02-28"]}} | {"type": "x"})
        # The bytes are no bytea: its neighbour must not suffer.
        self.ship(daemon, {"data": {"mood": "sad", "bytes": "\\x00ff", "bits": "101"}})
        self.assertEqual(self.query("SELECT mood::text, bytes FROM t"), [("sad", b"\x00\xff")])
        self.ship(daemon, {"data": {
            "mood": "so so", "moods": ["sad", None, "so so"], "net": "10.0.0.0/8", "took": "1 day 02:03",
            "during": "[2026-01-01T00:00:00Z,)", "at": "12:34:56.5", "pair": "(1,\"x,\")",
            "grid": [[1, 2], [3, 4]], "docs": [{"a": ["\\"]}, "s", None], "small": 7,
            "days": ["2026-02-28"]}})
        self.assertEqual(self.query(
            "SELECT moods::text, net::text, took::text, lower(during) = '2026-01-01Z', at::text,"
            " (pair).b, grid, docs[1]->'a'->>0, jsonb_typeof(docs[3]), small, days::text"
            " FROM t WHERE moods IS NOT NULL"),
            [("{sad,NULL,\"so so\"}", "10.0.0.0/8", "1 day 02:03:00", True, "12:34:56.5", "x,",
              [[1, 2], [3, 4]], "\\", "null", 7, "{2026-02-28}")])

    def test_what_would_mean_a_time_to_postgres_is_set_aside(self):
        self.query("CREATE TABLE t (n int, moment timestamptz, span tstzrange, at time)")
        daemon = self.start_with(route("*", "t", ("n", "n"), ("moment", "moment"), ("span", "span"),
                                       ("at", "at")))
        bad = [{"moment": "now"}, {"moment": "infinity"}, {"span": "[now,infinity)"},
               {"span": '["n"ow,)'}, {"at": "allballs"}, {"at": "NOW"}]
        self.ship(daemon, *[{"n": n, **fields} for n, fields in enumerate(bad)],
                  {"n": 99, "moment": "2026-01-01T00:00:00Z", "at": "01:02"})
        self.assertEqual(self.query("SELECT n FROM t"), [(99,)])
        self.assertEqual(daemon.events("set_aside"), len(bad))

    def test_a_required_value_that_is_missing_costs_its_event_only(self):
        self.query("CREATE TABLE t (a text, b text)")
        daemon = self.start_with(route("*", "t", ("a", "/data/a", "required = true"), ("b", "/data/b")))
        self.ship(daemon, {"data": {"a": "1"}}, {"data": {"b": "2"}}, {"data": {"a": None}}, {},
                  {"data": {"a": "3", "b": "4"}})
        self.assertEqual(self.query("SELECT * FROM t ORDER BY a"), [("1", None), ("3", "4")])
        self.assertEqual(daemon.events("set_aside"), 3)

    def test_nothing_that_a_producer_sent_is_lost(self):
        """With extra, an event can be put together again from its row."""
        self.query("CREATE TABLE t (type text, cost numeric, host text, extra jsonb)")
        daemon = self.start_with(route("*", "t", ("type", "type"), ("cost", "/data/cost"), ("host", "host"),
                                       ("extra", "$extra")))
        event = {"type": "a", "id": str(uuid.uuid4()), "time": "2026-01-01T00:00:00Z", "source": "s",
                 "session_id": "x", "parent_id": str(uuid.uuid4()), "dedupe_key": "k", "host": "h",
                 "data": {"cost": 1.5, "more": [1]}, "level": 30, "ts": 5}
        self.ship(daemon, event)
        kind, cost, host, extra = self.query("SELECT type, cost, host, extra::text FROM t")[0]
        rebuilt = {"type": kind, "host": host, **json.loads(extra)}
        self.assertEqual(rebuilt, event)
        self.assertEqual(cost, decimal.Decimal("1.5"))

    def test_what_is_in_the_spool_follows_a_changed_configuration(self):
        self.query("CREATE TABLE first (n int)")
        self.query("CREATE TABLE second (n int)")
        daemon = self.start_daemon({"postgres": {"drain_timeout": "100ms"},
                                    "toml": route("*", "first", ("n", "n"))})
        with self.cluster.connect(self.dbname) as connection:
            connection.execute("BEGIN")
            connection.execute("LOCK TABLE first")
            producer.send(daemon.socket_path, *[{"n": n} for n in range(100)])
            wait_until(lambda: daemon.events("received") == 100, 20, "all to be received")
            daemon.stop()
            connection.execute("ROLLBACK")
        daemon.write_config(self.dsn(), {"toml": route("*", "second", ("n", "n"))})
        daemon.start()
        self.wait_quiet(daemon)
        self.assertEqual(self.query("SELECT count(*) FROM first"), [(0,)])
        self.assertEqual(self.query("SELECT count(DISTINCT n) FROM second"), [(100,)])


class RoundTrip(SluiceTest):
    """Random values through both formats; SLUICE_TEST_SEED replays them."""

    TEXT_ALPHABET = ["\t", "\n", "\r", "\\", "\\N", "\\.", "\"", "'", "{", "}", ",", "NULL", "\x01", "\x1f",
                     "\x7f", "ä", "€", "\U0001f680", "\u2028", "a", "b ", " ", "0"]

    def setUp(self):
        super().setUp()
        self.random = random.Random(SEED)
        say(f"SLUICE_TEST_SEED={SEED}")

    def text(self):
        return "".join(self.random.choice(self.TEXT_ALPHABET) for _ in range(self.random.randrange(12)))

    def json(self, depth=0):
        kind = self.random.randrange(7 if depth < 4 else 5)
        if kind == 0:
            return self.text()
        if kind == 1:
            return self.random.randrange(-2**70, 2**70)
        if kind == 2:
            return self.random.choice([True, False, None])
        if kind in (3, 4):
            return self.random.choice([0, 1.5, -2.25, 1e100])
        if kind == 5:
            return [self.json(depth + 1) for _ in range(self.random.randrange(4))]
        return {self.text(): self.json(depth + 1) for _ in range(self.random.randrange(4))}

    def value(self):
        """One value for each column; some are missing."""
        choose = self.random
        moment = datetime.datetime(1, 1, 1) + choose.random() * 3652058 * DAY
        values = {
            "t": self.text(),
            "v": "".join(choose.choices(string.printable, k=choose.randrange(20))),
            "j": self.json(),
            "jj": self.json(),
            "i2": choose.randrange(-2**15, 2**15),
            "i4": choose.randrange(-2**31, 2**31),
            "i8": choose.randrange(-2**63, 2**63),
            "f8": choose.choice([0.0, 5e-324, 1.7976931348623157e308, choose.uniform(-1e9, 1e9)]),
            "f4": choose.choice([0.5, -1.25, 3.4028234663852886e38]),
            "n": choose.choice([0, 1.50, -10**30, 12345678.000001, 10**25 + 1]),
            "b": choose.choice([True, False]),
            "u": str(uuid.UUID(int=choose.getrandbits(128))),
            "tz": moment.isoformat(timespec="microseconds") + "Z",
            "ts": moment.isoformat(timespec="microseconds"),
            "d": moment.date().isoformat(),
        }
        return {name: value for name, value in values.items() if choose.random() < 0.9}

    COLUMNS = {"t": "text", "v": "varchar", "j": "jsonb", "jj": "json", "i2": "int2", "i4": "int4",
               "i8": "int8", "f8": "float8", "f4": "float4", "n": "numeric", "b": "bool", "u": "uuid",
               "tz": "timestamptz", "ts": "timestamp", "d": "date"}

    def check(self, name, sent, stored):
        if name in ("j", "jj"):
            return exact_json(stored) == exact_json(json.dumps(sent))
        if name == "tz":
            return stored == sent.replace("T", " ").replace("Z", "+00")
        if name in ("i2", "i4", "i8", "u", "d", "t", "v"):
            return stored == str(sent)
        if name == "ts":
            return stored == sent.replace("T", " ")
        if name == "b":
            return stored == ("true" if sent else "false")
        if name == "n":
            return decimal.Decimal(stored) == decimal.Decimal(json.dumps(sent))
        if name == "f4":
            return float32(stored) == float32(sent)
        return float(stored) == float(sent)

    def stored(self, table):
        # to_char keeps the digits that text output would leave out, and the year's four places.
        shown = {"tz": "to_char(tz, 'YYYY-MM-DD HH24:MI:SS.US') || '+00'",
                 "ts": "to_char(ts, 'YYYY-MM-DD HH24:MI:SS.US')"}
        columns = ", ".join(shown.get(name, f"{name}::text") for name in self.COLUMNS)
        with self.cluster.connect(self.dbname) as connection:
            connection.execute("SET timezone = 'UTC'")
            connection.execute("SET extra_float_digits = 3")
            rows = connection.execute(f"SELECT n_, {columns} FROM {table} ORDER BY n_").fetchall()
        return {row[0]: dict(zip(self.COLUMNS, row[1:])) for row in rows}

    def test_values_come_out_as_they_went_in(self):
        columns = ", ".join(f"{name} {kind}" for name, kind in self.COLUMNS.items())
        self.query(f"CREATE TABLE bin (n_ int, {columns})")
        self.query(f"CREATE TABLE txt (n_ int, {columns}, net inet)")
        mapped = [("n_", "n_")] + [(name, f"/data/v/{name}") for name in self.COLUMNS]
        daemon = self.start_daemon({"toml": route("bin", "bin", *mapped) +
                                    route("*", "txt", *mapped, ("net", "net"))})
        values = [self.value() for _ in range(ROUNDS)]
        values.append({"t": "\\N\t\\.\n" * 20_000, "j": {"x": "\\." * 50_000}})
        values.append({"t": "\\."})
        values.append({"t": "\\N", "v": ""})
        for kind in ("bin", "txt"):
            self.ship(daemon, *[{"type": kind, "n_": n, "data": {"v": value}}
                                for n, value in enumerate(values)])
        for table in ("bin", "txt"):
            rows = self.stored(table)
            for n, value in enumerate(values):
                for name in self.COLUMNS:
                    with self.subTest(table=table, n=n, column=name, seed=SEED):
                        stored = rows[n][name]
                        if name not in value or (value[name] is None and name not in ("j", "jj")):
                            self.assertIsNone(stored)
                        else:
                            self.assertTrue(stored is not None and self.check(name, value[name], stored),
                                            f"{value[name]!r:.200} became {stored!r:.200}")


if __name__ == "__main__":
    unittest.main()
