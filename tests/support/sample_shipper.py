"""Ships NDJSON into a model's tables by the routes of its .toml, in SQL: what the daemon does with a batch,
with the same rights, and without a daemon."""

import json
import os
import tomllib
import uuid

import psycopg
from psycopg import sql

MODELS = os.path.join(os.path.dirname(__file__), "..", "..", "config", "models")


def routes_of(model):
    with open(os.path.join(MODELS, f"{model}.toml"), "rb") as file:
        return tomllib.load(file)["route"]


def samples_of(model):
    with open(os.path.join(MODELS, f"{model}.ndjson")) as file:
        return [json.loads(line) for line in file]


_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def uuid_of(producers_id):
    """A UUID as it is, of a ULID its 128 bits."""
    if producers_id is None or len(producers_id) != 26:
        return producers_id
    value = 0
    for letter in producers_id:
        value = value * 32 + _CROCKFORD.index(letter)
    return str(uuid.UUID(int=value))


class SampleShipper:
    """ship() is one batch: one transaction, the routes' tables in the order of the routes. Computes no dedupe
    keys."""

    def __init__(self, connection, model):
        self._connection = connection
        self._routes = routes_of(model)
        self.duplicates = 0
        self.dead = 0  # their key is taken by a row that differs

    def ship(self, events, received_at="2026-01-10T00:00:00Z"):
        """Returns how many rows are new."""
        batch = [[] for _ in self._routes]
        for event in events:
            at, route = self._route_of(event["type"])
            batch[at].append([self._value(route, column, event, received_at)
                              for column in route["columns"]])
        inserted = 0
        with self._connection.transaction():
            for route, rows in zip(self._routes, batch):
                if rows:
                    inserted += self._insert(route, rows)
        return inserted

    def _route_of(self, event_type):
        for at, route in enumerate(self._routes):
            match = route["match"]
            if event_type == match or match.endswith("*") and event_type.startswith(match[:-1]):
                return at, route
        return len(self._routes) - 1, self._routes[-1]

    @staticmethod
    def _value(route, column, event, received_at):
        source = column["from"]
        if source == "$extra":
            taken = {other["from"] for other in route["columns"]} | {"id", "timestamp"}
            rest = {name: value for name, value in event.items() if name not in taken}
            return json.dumps(rest) if rest else None
        time = event.get("time", event.get("timestamp", received_at))
        value = {"$id": uuid_of(event.get("id")), "$received_at": received_at,
                 "$dedupe_key": event.get("dedupe_key"), "time": time}.get(source, event.get(source))
        if value is None and column.get("required"):
            raise AssertionError(f"{event} has no {source}")
        return json.dumps(value) if isinstance(value, (dict, list)) else value

    def _insert(self, route, rows):
        names = [column["name"] for column in route["columns"]]
        if route["mode"] == "append":
            try:
                with self._connection.transaction():
                    self._copy(route["table"], names, rows)
                return len(rows)
            except psycopg.errors.UniqueViolation:
                pass  # by merging, then
        return self._merge(route, names, rows)

    def _copy(self, table, names, rows):
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names)))
        with self._connection.cursor().copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    def _merge(self, route, names, rows):
        types = dict(self._connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = %s::regclass", (route["table"],)).fetchall())
        self._connection.execute(sql.SQL("CREATE TEMP TABLE offered ({}) ON COMMIT DROP").format(
            sql.SQL(", ").join(sql.SQL("{} " + types[name]).format(sql.Identifier(name))
                               for name in names)))
        self._copy("offered", names, rows)
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        table = sql.Identifier(route["table"])
        inserted = self._connection.execute(
            sql.SQL("INSERT INTO {} ({}) SELECT {} FROM offered ON CONFLICT ({}) DO NOTHING").format(
                table, columns, columns,
                sql.SQL(", ").join(map(sql.Identifier, self._key(route))))).rowcount
        self.duplicates += len(rows) - inserted
        if route.get("on_conflict", "compare") == "compare":
            self.dead += self._count_unlike(table, route)
        self._connection.execute("DROP TABLE offered")
        return inserted

    def _key(self, route):
        if "key" in route:
            return route["key"]
        return [name for name, in self._connection.execute(
            "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)"
            " WHERE indrelid = %s::regclass AND indisprimary", (route["table"],)).fetchall()]

    def _count_unlike(self, table, route):
        """Rows that are in the table neither newly nor from before."""
        same = sql.SQL(" AND ").join(
            sql.SQL("stored.{0} IS NOT DISTINCT FROM offered.{0}").format(sql.Identifier(column["name"]))
            for column in route["columns"] if column["from"] != "$received_at")
        return self._connection.execute(
            sql.SQL("SELECT count(*) FROM offered WHERE NOT EXISTS (SELECT FROM {} AS stored WHERE {})")
            .format(table, same)).fetchone()[0]
