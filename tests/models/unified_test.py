#!/usr/bin/python3
"""The model unified: events as history, things and relationships that follow from them in any order of
arrival, names and URLs, partitions by age."""

import json
import random
import tempfile
import threading
import unittest
import uuid

import psycopg

from support.model_test import ModelTest
from support.postgres_cluster import own_by_unprivileged_user
from support.sample_shipper import SampleShipper, samples_of
from support.waiting import wait_until

THINGS = ("SELECT ns, id, type, visibility, content, code, data::text, created_at, updated_at, deleted_at,"
          " last_event_time, last_event_id, search_vector::text FROM things ORDER BY ns, id")
RELATIONSHIPS = ("SELECT ns, id, type, from_ns, from_id, to_ns, to_id, data::text, created_at, updated_at,"
                 " deleted_at, last_event_time, last_event_id FROM relationships ORDER BY ns, id")


def at(seconds):
    """A moment of an hour that all tests share."""
    return f"2026-01-05 10:{seconds // 60:02}:{seconds % 60:02}+00"


def mutation(change, ns, thing_id, seconds, data=None, entity_type="thing", **more):
    return dict({"event_type": "mutation", "mutation_type": change, "entity_ns": ns, "entity_id": thing_id,
                 "timestamp": at(seconds), "data": data, "entity_type": entity_type}, **more)


def insert(connection, *events):
    """One statement, as a batch's COPY is one."""
    rows = [dict({"id": str(uuid.uuid4()), "event_type": "log", "timestamp": at(0),
                  "received_at": "2026-01-05 12:00:00+00"}, **event) for event in events]
    columns = sorted({name for row in rows for name in row})
    quoted = ", ".join(f'"{name}"' for name in columns)
    connection.execute(
        f"INSERT INTO events ({quoted})"
        f" SELECT {quoted} FROM jsonb_to_recordset(%s::jsonb) AS r({record_of(columns)})",
        (json.dumps(rows),))


def record_of(columns):
    types = {"id": "uuid", "timestamp": "timestamptz", "event_timestamp": "timestamptz",
             "received_at": "timestamptz", "data": "jsonb", "logs": "jsonb", "exceptions": "jsonb",
             "pipeline_segment": "uuid", "pipeline_index": "bigint", "retry_count": "int",
             "has_exception": "boolean"}
    return ", ".join(f'"{name}" {types.get(name, "text")}' for name in columns)


class UnifiedTest(ModelTest):
    model = "unified"

    def add(self, *events):
        with self.cluster.connect(self.dbname) as connection:
            insert(connection, *events)

    def thing(self, ns="n", thing_id="t"):
        """Of a thing: type, visibility, content, code, data, and whether it is deleted; or None."""
        rows = self.query("SELECT type, visibility, content, code, data, deleted_at IS NOT NULL"
                          " FROM things WHERE (ns, id) = (%s, %s)", (ns, thing_id))
        return rows[0] if rows else None

    def state(self, dbname=None):
        return self.query(THINGS, dbname=dbname), self.query(RELATIONSHIPS, dbname=dbname)

    def assert_rebuilding_changes_nothing(self):
        before = self.state()
        self.assertEqual(self.query("SELECT * FROM rebuild_things()"), [(0, 0)])
        self.assertEqual(self.state(), before)

    def assert_event_refused(self, sqlstate, event):
        with self.cluster.connect(self.dbname) as connection:
            with self.assertRaises(psycopg.Error, msg=event) as caught:
                insert(connection, event)
        self.assertEqual(caught.exception.sqlstate, sqlstate, caught.exception)


class Events(UnifiedTest):
    def one(self, columns, **event):
        self.add(event)
        return self.query(f"SELECT {columns} FROM events ORDER BY ctid DESC LIMIT 1")[0]

    def test_applying_again_keeps_what_is_there(self):
        self.add(mutation("create", "n", "t", 1, {"content": "words"}))
        self.query("UPDATE event_tiers SET until_age = '3 days' WHERE tier = 'hot'")
        before = self.state()
        for options in ((), ("--index", "full"), ()):
            self.apply_schema("--model", "unified", *options)
        self.assertEqual(self.state(), before)
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(1,)])
        self.assertEqual(self.query("SELECT until_age::text FROM event_tiers WHERE tier = 'hot'"),
                         [("3 days",)])

    def test_history_never_changes(self):
        self.add({})
        for table in ("events", "kept_mutations", "events_default"):
            for statement in (f"UPDATE {table} SET data = '1'", f"DELETE FROM {table}", f"TRUNCATE {table}"):
                with self.subTest(statement):
                    self.assert_refused("42501", statement)

    def test_counts_and_flags_are_of_what_is_there(self):
        columns = "log_count, exception_count, has_exception, retry_count"
        self.assertEqual(self.one(columns, logs=[1, 2, 3], exceptions=[{}], retry_count=2), (3, 1, True, 2))
        self.assertEqual(self.one(columns, logs={"a": 1}, exceptions=[]), (0, 0, False, 0))
        self.assertEqual(self.one(columns, has_exception=True), (0, 0, True, 0))
        self.assertEqual(self.one(columns), (0, 0, False, 0))

    def test_a_long_message_is_cut_by_characters_and_says_so(self):
        columns = "char_length(error_message), error_message_cut"
        self.assertEqual(self.one(columns, error_message="é" * 1000), (1000, False))
        self.assertEqual(self.one(columns, error_message="é" * 1001), (1000, True))
        self.assertEqual(self.one(columns), (None, False))

    def test_rows_of_one_transaction_share_a_batch(self):
        segments = [str(uuid.uuid4()) for _ in range(2)]
        with self.connection() as connection:
            for segment, indexes in ((segments[0], (5, 6)), (segments[0], (7,)), (segments[1], (0, 1))):
                with connection.transaction():
                    for index in indexes:
                        insert(connection, {"pipeline_segment": segment, "pipeline_index": index})
            insert(connection, {})
        self.assertEqual(
            self.query("SELECT pipeline_segment::text, pipeline_index, pipeline_batch_id FROM events"
                       " WHERE pipeline_segment IS NOT NULL ORDER BY ctid"),
            [(segments[0], 5, f"{segments[0]}:5"), (segments[0], 6, f"{segments[0]}:5"),
             (segments[0], 7, f"{segments[0]}:7"),
             (segments[1], 0, f"{segments[1]}:0"), (segments[1], 1, f"{segments[1]}:0")])
        self.assertEqual(self.query("SELECT count(*) FROM events WHERE pipeline_batch_id IS NULL"), [(1,)])

    def test_namespaces_and_ids(self):
        for ns in ("onet", "en.wikipedia.org", "github.com/repos", "a-b/c.d/0"):
            self.add(mutation("create", ns, "x", 1))
        for ns in ("", "a b", "/a", "a/", "a//b", "A", "a_b", "é", "a\n"):
            self.assert_event_refused("23514", mutation("create", ns, "x", 1))
            self.assert_event_refused("23514", {"entity_ns": ns})
        letters = random.Random(7)
        long_id = "".join(chr(letters.randrange(0x20, 0x7f)) for _ in range(2048))
        for thing_id in ("x", "Software developer", "customers/cus_123", "a#de", " ", long_id):
            self.add(mutation("create", "n", thing_id, 1))
            self.assertIsNotNone(self.thing("n", thing_id))
        for thing_id in ("", "x" * 2049):
            self.assert_event_refused("23514", mutation("create", "n", thing_id, 1))
        self.assert_rebuilding_changes_nothing()

    def test_what_is_no_event_of_the_platform_is_refused(self):
        whole = {"type": "owns", "from_ns": "n", "from_id": "a", "to_ns": "n", "to_id": "b"}
        for event in ({"event_type": "tool.call"}, mutation("replace", "n", "t", 1),
                      mutation(None, "n", "t", 1), mutation("create", None, "t", 1),
                      mutation("create", "n", None, 1), mutation("create", "n", "t", 1, [1]),
                      mutation("create", "n", "t", 1, "text"),
                      mutation("create", "n", "r", 1, None, "relationship"),
                      *(mutation("create", "n", "r", 1, {k: v for k, v in whole.items() if k != left},
                                 "relationship") for left in whole),
                      mutation("create", "n", "r", 1, dict(whole, from_ns="A b"), "relationship"),
                      mutation("create", "n", "r", 1, dict(whole, to_id=None), "relationship"),
                      mutation("update", "n", "r", 1, {"to_ns": "/x"}, "relationship")):
            with self.subTest(event):
                self.assert_event_refused("23514", event)
        self.assertEqual(self.state(), ([], []))
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(0,)])
        self.assert_refused("23505", "INSERT INTO events (id, \"timestamp\", event_type, received_at)"
                            " SELECT '00000000-0000-4000-8000-000000000000', '2026-01-01Z', 'log', now()"
                            " FROM generate_series(1, 2)")

    def test_the_shipping_role_adds_events_and_no_more(self):
        self.query("CREATE ROLE unified_shipper LOGIN")
        self.apply_schema("--model", "unified", "--role", "unified_shipper")
        with self.cluster.connect(self.dbname, user="unified_shipper") as shipper:
            insert(shipper, mutation("create", "n", "t", 1, {"a": 1}),
                   mutation("create", "n", "r", 1, {"type": "owns", "from_ns": "n", "from_id": "t",
                                                    "to_ns": "n", "to_id": "u"}, "relationship"))
            shipper.execute("INSERT INTO events (id, \"timestamp\", event_type, received_at) VALUES"
                            " (gen_random_uuid(), now(), 'log', now()) ON CONFLICT (id, \"timestamp\") DO NOTHING")
        for statement in ("SELECT data FROM events", "SELECT * FROM things", "UPDATE things SET data = '{}'",
                          "INSERT INTO things (ns, id) VALUES ('n', 'u')", "DELETE FROM relationships",
                          "SELECT * FROM rebuild_things()", "INSERT INTO kept_mutations DEFAULT VALUES",
                          "UPDATE events SET data = '1'"):
            with self.subTest(statement):
                self.assert_refused("42501", statement, user="unified_shipper")
        self.assertEqual(self.thing()[4], {"a": 1})
        self.assertEqual(len(self.state()[1]), 1)

    def test_every_table_column_view_and_function_says_what_it_is(self):
        self.assertEqual(self.query(
            "SELECT attrelid::regclass, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
            " AND attnum > 0 AND col_description(attrelid, attnum) IS NULL"), [])
        self.assertEqual(self.query(
            "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p', 'v') AND NOT relispartition AND obj_description(oid, 'pg_class') IS NULL"
        ), [])
        self.assertEqual(self.query(
            "SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            " AND obj_description(oid, 'pg_proc') IS NULL"), [])

    def test_trigger_functions_have_the_owners_rights_and_a_fixed_path(self):
        self.assertEqual(self.query(
            "SELECT oid::regprocedure FROM pg_proc WHERE prorettype = 'trigger'::regtype"
            " AND pronamespace IN ('public'::regnamespace, 'sluice'::regnamespace)"
            " AND NOT (prosecdef AND array_to_string(proconfig, ',') LIKE '%search_path=pg_catalog%')"), [])

    def test_without_partitions(self):
        self.dbname = self.new_database()
        self.apply_schema("--model", "unified", "--partition", "none")
        self.add(mutation("create", "n", "t", 1, {"a": 1}))
        self.assertEqual(self.thing()[4], {"a": 1})
        self.assert_rebuilding_changes_nothing()


class Samples(UnifiedTest):
    apply_options = ("--role", "unified_sample_shipper")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.query("CREATE ROLE unified_sample_shipper LOGIN")

    def test_they_become_things_and_are_there_once_if_sent_twice(self):
        shipper = SampleShipper(self.connection(user="unified_sample_shipper"), self.model)
        self.assertEqual(shipper.ship(samples_of(self.model)), 12)
        self.assertEqual(shipper.ship(samples_of(self.model)), 0)
        self.assertEqual((shipper.duplicates, shipper.dead), (12, 0))
        self.assertEqual(self.thing("github.com/repos", "dot-do/workers"),
                         ("repository", "public", None, None, {"stars": 13, "archived": False, "license": "MIT"},
                          False))
        self.assertEqual(self.thing("stripe.com/api", "customers/cus_123"),
                         ("customer", None, None, None, {}, True))
        self.assertEqual(self.query("SELECT type, to_url(from_ns, from_id), to_url(to_ns, to_id) FROM relationships"),
                         [("described_by", "/onet/Software_developer", "/en.wikipedia.org/Software_developer")])
        self.assertEqual(self.query("SELECT char_length(error_message), error_message_cut, has_exception, retry_count"
                                    " FROM events WHERE event_type = 'error'"), [(1000, True, True, 2)])
        self.assertEqual(self.query("SELECT extra, event_timestamp <> \"timestamp\" FROM events"
                                    " WHERE event_type = 'metric'"), [({"region": "eu-1"}, True)])
        self.assertEqual(self.query("SELECT bool_and(id < next) FROM (SELECT id, lead(id) OVER (ORDER BY \"timestamp\")"
                                    " AS next FROM events) e"), [(True,)])
        self.assert_rebuilding_changes_nothing()


class Things(UnifiedTest):
    def test_create_update_delete(self):
        self.add(mutation("create", "n", "t", 1, {"visibility": "public", "content": "words", "code": "c1",
                                                  "a": 1, "b": {"x": 1}, "gone": None}, "job"))
        self.assertEqual(self.thing(), ("job", "public", "words", "c1", {"a": 1, "b": {"x": 1}}, False))
        self.add(mutation("update", "n", "t", 2, {"content": "more words", "a": None, "b": {"y": 2}, "c": 3},
                          None))
        self.assertEqual(self.thing(), ("job", "public", "more words", "c1", {"b": {"y": 2}, "c": 3}, False))
        self.add(mutation("delete", "n", "t", 3, None, None))
        self.assertEqual(self.thing(), ("job", None, None, None, {}, True))
        self.assertEqual(self.query("SELECT created_at = %s, updated_at = %s, deleted_at = %s FROM things",
                                    (at(1), at(3), at(3))), [(True, True, True)])
        self.assert_rebuilding_changes_nothing()

    def test_numbers_keep_their_digits(self):
        with self.connection() as connection:
            connection.execute(
                "INSERT INTO events (id, \"timestamp\", event_type, mutation_type, entity_ns, entity_id, data,"
                " received_at) VALUES (gen_random_uuid(), now(), 'mutation', 'create', 'n', 't',"
                " '{\"a\":0.1234567890123456789012345,\"b\":1.50}', now())")
        self.assertEqual(self.query("SELECT data::text FROM things"),
                         [('{"a": 0.1234567890123456789012345, "b": 1.50}',)])

    def test_what_never_was(self):
        self.add(mutation("update", "n", "updated", 1, {"a": 1}), mutation("delete", "n", "deleted", 1))
        self.assertEqual(self.thing("n", "updated"), ("thing", None, None, None, {"a": 1}, False))
        self.assertEqual(self.thing("n", "deleted"), ("thing", None, None, None, {}, True))
        self.assert_rebuilding_changes_nothing()

    def test_a_tombstone_comes_to_life_by_a_creation_only(self):
        self.add(mutation("create", "n", "t", 1, {"a": 1}), mutation("delete", "n", "t", 2))
        self.add(mutation("update", "n", "t", 3, {"b": 1}))
        self.assertEqual(self.thing()[4:], ({}, True))
        self.add(mutation("delete", "n", "t", 4))
        self.assertEqual(self.query("SELECT deleted_at = %s FROM things", (at(2),)), [(True,)])
        self.add(mutation("create", "n", "t", 5, {"c": 1}))
        self.assertEqual(self.thing()[4:], ({"c": 1}, False))
        self.assert_rebuilding_changes_nothing()

    def test_what_comes_late_takes_its_place(self):
        self.add(mutation("update", "n", "t", 30, {"a": 3}))
        self.add(mutation("create", "n", "t", 10, {"a": 1, "b": 1}))
        self.assertEqual(self.thing()[4], {"a": 3, "b": 1})
        self.add(mutation("delete", "n", "t", 20))
        self.assertEqual(self.thing()[4:], ({}, True))
        self.add(mutation("create", "n", "t", 25, {"c": 1}))
        self.assertEqual(self.thing()[4:], ({"a": 3, "c": 1}, False))
        self.assert_rebuilding_changes_nothing()

    def test_the_event_time_counts_and_then_the_id(self):
        self.add(mutation("update", "n", "t", 50, {"a": "early"}, event_timestamp=at(5)),
                 mutation("update", "n", "t", 10, {"a": "late"}))
        self.assertEqual(self.thing()[4], {"a": "late"})
        first, second = sorted(str(uuid.uuid4()) for _ in range(2))
        self.add(mutation("update", "n", "u", 1, {"a": 2}, id=second))
        self.add(mutation("update", "n", "u", 1, {"a": 1}, id=first))
        self.assertEqual(self.thing("n", "u")[4], {"a": 2})
        self.assert_rebuilding_changes_nothing()

    def test_what_is_no_mutation_changes_nothing(self):
        self.add(*({"event_type": kind, "entity_ns": "n", "entity_id": "t", "mutation_type": "create",
                    "data": {"a": 1}} for kind in ("log", "metric", "error")))
        self.assertEqual(self.state(), ([], []))

    def test_relationships(self):
        ends = {"type": "owns", "from_ns": "n", "from_id": "a", "to_ns": "m", "to_id": "b"}
        self.add(mutation("update", "n", "r", 5, {"since": 2020}, "relationship"))
        self.assertEqual(self.query("SELECT deleted_at IS NOT NULL, created_at FROM relationships"),
                         [(True, None)])
        self.add(mutation("create", "n", "r", 1, dict(ends, share=0.5), "relationship"),
                 mutation("create", "n", "r", 1, {"a": 1}))
        row = "type, from_ns, from_id, to_ns, to_id, data, deleted_at IS NOT NULL"
        self.assertEqual(self.query(f"SELECT {row} FROM relationships"),
                         [("owns", "n", "a", "m", "b", {"share": 0.5, "since": 2020}, False)])
        self.assertEqual(self.thing("n", "r")[4], {"a": 1})
        self.add(mutation("update", "n", "r", 6, {"to_id": "c", "share": None}, "relationship"))
        self.assertEqual(self.query(f"SELECT {row} FROM relationships"),
                         [("owns", "n", "a", "m", "c", {"since": 2020}, False)])
        self.add(mutation("delete", "n", "r", 7, None, "relationship"))
        self.assertEqual(self.query(f"SELECT {row} FROM relationships"),
                         [("owns", "n", "a", "m", "c", {}, True)])
        self.assert_rebuilding_changes_nothing()

    def test_rebuilding_mends_what_somebody_broke(self):
        self.add(mutation("create", "n", "t", 1, {"a": 1, "content": "words"}),
                 mutation("create", "n", "u", 1), mutation("create", "n", "v", 1),
                 mutation("create", "n", "r", 1, {"type": "owns", "from_ns": "n", "from_id": "t",
                                                  "to_ns": "n", "to_id": "u"}, "relationship"))
        right = self.state()
        self.query("UPDATE things SET data = '{}', deleted_at = now() WHERE id = 't';"
                   " DELETE FROM things WHERE id = 'u'; INSERT INTO things (ns, id) VALUES ('n', 'w');"
                   " UPDATE relationships SET to_id = 'x'")
        self.assertEqual(self.query("SELECT * FROM rebuild_things()"), [(2, 1)])
        self.assertEqual(self.state(), right)

    def test_a_thing_as_it_was(self):
        self.add(mutation("create", "n", "t", 10, {"content": "a"}), mutation("update", "n", "t", 20, {"content": "b"}),
                 mutation("delete", "n", "t", 30), mutation("create", "n", "t", 40, {"content": "c"}))
        for seconds, content in ((9, []), (10, ["a"]), (19, ["a"]), (20, ["b"]), (30, []), (39, []), (40, ["c"]),
                                 (3000, ["c"])):
            with self.subTest(seconds):
                self.assertEqual([c for c, in self.query(
                    "SELECT content FROM thing_at('n', 't', %s)", (at(seconds),))], content)
        self.assertEqual(self.query("SELECT * FROM thing_at('n', 'nothing', now())"), [])

    def test_search_finds_the_living(self):
        self.add(mutation("create", "n", "Software developer", 1, {"content": "writes programs"}),
                 mutation("create", "n", "Baker", 1, {"content": "bakes bread"}),
                 mutation("create", "n", "Long", 1, {"content": " ".join(str(n) for n in range(300000))}))

        def found(words):
            return [i for i, in self.query("SELECT id FROM things WHERE search_vector @@"
                                           " plainto_tsquery('english', %s) ORDER BY id", (words,))]
        self.assertEqual(found("developers"), ["Software developer"])
        self.assertEqual(found("program"), ["Software developer"])
        self.assertEqual(found("42"), ["Long"])
        self.add(mutation("delete", "n", "Software developer", 2))
        self.assertEqual(found("developer"), [])

    def test_an_embedding_is_there_where_vectors_are(self):
        self.assertEqual(self.query("SELECT 1 FROM pg_attribute WHERE attname = 'embedding'"), [])
        # Stands in for pgvector: what counts is that there is a type of that name that takes a length.
        self.query("CREATE SCHEMA extensions; CREATE TYPE extensions.vector;"
                   " CREATE FUNCTION extensions.vector_in(cstring, oid, int) RETURNS extensions.vector"
                   " LANGUAGE internal STRICT IMMUTABLE AS 'varcharin';"
                   " CREATE FUNCTION extensions.vector_out(extensions.vector) RETURNS cstring"
                   " LANGUAGE internal STRICT IMMUTABLE AS 'varcharout';"
                   " CREATE FUNCTION extensions.vector_typmod_in(cstring[]) RETURNS int"
                   " LANGUAGE internal STRICT IMMUTABLE AS 'varchartypmodin';"
                   " CREATE TYPE extensions.vector (INPUT = extensions.vector_in, OUTPUT = extensions.vector_out,"
                   " TYPMOD_IN = extensions.vector_typmod_in, LIKE = text)")
        self.add(mutation("create", "n", "t", 1, {"content": "a"}))
        for _ in range(2):
            self.apply_schema("--model", "unified")
        self.query("UPDATE things SET embedding = '[1,2]'")
        self.add(mutation("update", "n", "t", 2, {"a": 1}))
        self.assert_rebuilding_changes_nothing()
        self.assertEqual(self.query("SELECT embedding::text FROM things"), [("[1,2]",)])
        self.add(mutation("update", "n", "t", 3, {"content": "b"}))
        self.assertEqual(self.query("SELECT embedding::text, data FROM things"), [(None, {"a": 1})])


class Order(UnifiedTest):
    """However mutations are cut into batches, whoever brings them and when: the same state."""

    def random_mutations(self, generator, count):
        events = []
        for _ in range(count):
            related = generator.random() < 0.3
            change = generator.choice(("create", "update", "update", "delete"))
            data = {generator.choice("abc"): generator.choice((None, generator.randrange(9)))}
            if generator.random() < 0.3:
                data["content"] = f"words {generator.randrange(9)}"
            if related and change == "create":
                data.update(type="owns", from_ns="n", from_id=str(generator.randrange(5)), to_ns="n", to_id="x")
            event = mutation(change, generator.choice(("n", "m/n")), f"key {generator.randrange(12)}",
                             generator.randrange(40), data, "relationship" if related else "thing",
                             id=str(uuid.UUID(int=generator.getrandbits(128))))
            if generator.random() < 0.2:
                event["event_timestamp"] = at(generator.randrange(40))
            events.append(event)
        return events

    def batches(self, generator, events):
        events = events[:]
        generator.shuffle(events)
        while events:
            size = generator.randrange(1, 12)
            yield events[:size]
            events = events[size:]

    def test_any_order_and_any_batches_over_four_connections(self):
        seed = random.randrange(10**6)
        generator = random.Random(seed)
        events = self.random_mutations(generator, 400)
        reference = self.new_database()
        self.apply_schema("--model", "unified", dbname=reference)
        with self.cluster.connect(reference) as connection:
            insert(connection, *sorted(events, key=lambda e: (e.get("event_timestamp", e["timestamp"]), e["id"])))
        lanes = [[] for _ in range(4)]
        for n, batch in enumerate(self.batches(generator, events)):
            lanes[n % 4].append(batch)

        def lane(batches):
            def run(connection):
                for batch in batches:
                    insert(connection, *batch)
            return run
        self.in_parallel(*(lane(batches) for batches in lanes))
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(400,)])
        self.assertEqual(self.state(), self.state(reference), f"seed {seed}")
        self.assert_rebuilding_changes_nothing()
        self.query("UPDATE things SET data = '{}', last_event_id = NULL; TRUNCATE relationships")
        self.query("SELECT * FROM rebuild_things()")
        self.assertEqual(self.state(), self.state(reference), f"seed {seed}")

    def test_batches_wait_for_each_other_by_key_and_never_in_a_circle(self):
        turn_begins = threading.Barrier(4)

        def lane(number):
            def run(connection):
                generator = random.Random(number)
                for turn in range(12):
                    keys = [f"key {n}" for n in range(100)] + [f"new in {turn} {n}" for n in range(100)]
                    generator.shuffle(keys)
                    events = [mutation("update", "n", key, turn, {f"lane {number}": turn}) for key in keys]
                    turn_begins.wait(60)
                    insert(connection, *events)
            return run
        self.in_parallel(*(lane(number) for number in range(4)))
        self.assertEqual(self.query("SELECT data, count(*) FROM things WHERE id LIKE 'key%' GROUP BY 1"),
                         [({f"lane {number}": 11 for number in range(4)}, 100)])
        self.assertEqual(self.query("SELECT count(*) FROM things"), [(1300,)])

    def while_uncommitted(self, event, work):
        """Does the work beside a transaction that has added the event and commits once the work waits for it."""
        first = self.connection()
        first.execute("BEGIN")
        insert(first, event)
        working = threading.Event()
        others = []

        def other(connection):
            others.append(connection)
            working.set()
            work(connection)

        def commit(_):
            working.wait(30)
            wait_until(lambda: self.waits_for(others[0]), 30, "the other transaction to wait")
            first.execute("COMMIT")
        self.in_parallel(other, commit)

    def test_a_batch_waits_for_what_another_has_not_committed(self):
        self.while_uncommitted(
            mutation("create", "n", "t", 5, {"a": 5}),
            lambda connection: insert(connection, mutation("update", "n", "t", 3, {"a": 3, "b": 3})))
        self.assertEqual(self.thing()[4], {"a": 5})
        self.assert_rebuilding_changes_nothing()

    def test_rebuilding_waits_for_what_a_batch_has_not_committed(self):
        self.add(mutation("create", "n", "t", 1, {"a": 1}))
        self.while_uncommitted(mutation("update", "n", "t", 2, {"a": 2}),
                               lambda connection: connection.execute("SELECT * FROM rebuild_things()"))
        self.assertEqual(self.thing()[4], {"a": 2})

    def test_rebuilding_beside_batches(self):
        def lane(connection):
            for turn in range(40):
                insert(connection, *(mutation("update", "n", f"key {n}", turn, {"turn": turn}) for n in range(20)))

        def rebuild(connection):
            for _ in range(8):
                connection.execute("SELECT * FROM rebuild_things()")
        self.in_parallel(lane, lane, rebuild)
        self.assertEqual(self.query("SELECT DISTINCT data FROM things"), [({"turn": 39},)])
        self.assert_rebuilding_changes_nothing()

    def test_only_what_a_batch_touches_is_read(self):
        # The plans are made while the tables are empty.
        connection = self.connection()
        insert(connection, mutation("create", "n", "key 0", 0))
        insert(connection, mutation("create", "n", "key 0", 0))
        insert(connection, *(mutation("update", "n", f"key {n}", turn) for n in range(1000) for turn in (10, 20, 30)))

        def read():
            [(rows,)] = connection.execute(
                "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::int"
                " FROM pg_stat_xact_user_tables WHERE relname LIKE 'events%' OR relname = 'things'").fetchall()
            return rows

        for second in (40, 15):
            with connection.transaction():
                before = read()
                insert(connection, *(mutation("update", "n", f"key {n}", second) for n in range(100)))
                self.assertLess(read() - before, 1500, "rows, of 4,000")

    def test_more_keys_in_a_batch_than_the_server_has_locks(self):
        self.add(*(mutation("create", "n", f"key {n}", 1) for n in range(12000)))
        self.assertEqual(self.query("SELECT count(*) FROM things"), [(12000,)])


class Urls(UnifiedTest):
    NAMES = (("onet", "Software developer", "/onet/Software_developer"),
             ("en.wikipedia.org", "Software developer", "/en.wikipedia.org/Software_developer"),
             ("github.com/repos", "dot-do/workers", "/github.com/repos/dot-do/workers"),
             ("stripe.com/api", "customers/cus_123", "/stripe.com/api/customers/cus_123"))

    def from_url(self, url):
        return self.query("SELECT ns, id, certain FROM from_url(%s)", (url,))

    def test_there_and_back_where_the_thing_exists(self):
        for ns, thing_id, url in self.NAMES:
            with self.subTest(url):
                self.assertEqual(self.query("SELECT to_url(%s, %s)", (ns, thing_id)), [(url,)])
                self.add(mutation("create", ns, thing_id, 1))
                self.assertEqual(self.from_url(url), [(ns, thing_id, True)])
                self.assertEqual(self.from_url("https://example.com" + url), [(ns, thing_id, True)])

    def test_what_does_not_exist_is_guessed(self):
        for url, guess in (("/onet/Software_developer", ("onet", "Software developer")),
                           ("/github.com/repos/dot-do/workers", ("github.com/repos/dot-do", "workers")),
                           ("/a/B_c/d", ("a", "B c/d")), ("/a/b#de", ("a", "b#de"))):
            with self.subTest(url):
                self.assertEqual(self.from_url(url), [guess + (False,)])
        for url in ("", "/", "/a", "a/b", "/A/b", "//a", None):
            with self.subTest(url):
                self.assertEqual(self.from_url(url), [])

    def test_of_two_that_have_one_url_both_are_told(self):
        self.add(mutation("create", "a", "b c", 1), mutation("create", "a", "b_c", 1),
                 mutation("create", "a/b", "c d/e", 1), mutation("create", "a", "b/c d/e", 1))
        self.assertEqual(self.from_url("/a/b_c"), [("a", "b c", False), ("a", "b_c", False)])
        self.assertEqual(self.from_url("/a/b/c_d/e"), [("a", "b/c d/e", False), ("a/b", "c d/e", False)])
        self.add(mutation("delete", "a", "b c", 2))
        self.assertEqual([row[1] for row in self.from_url("/a/b_c")], ["b_c", "b c"])

    def test_the_index_is_used(self):
        with self.connection() as connection:
            connection.execute("SET enable_seqscan = off")
            plan = "\n".join(line for line, in connection.execute(
                "EXPLAIN SELECT 1 FROM things t"
                " WHERE hashtextextended(to_url(t.ns, t.id), 0) = hashtextextended('/a/b', 0)"))
        self.assertIn("things_url", plan)


class Partitions(UnifiedTest):
    def days_ago(self, days):
        return self.query("SELECT to_char(date_trunc('day', now() AT TIME ZONE 'UTC') - %s * interval '1 day',"
                          " 'YYYY-MM-DD 12:00+00'), to_char(date_trunc('day', now() AT TIME ZONE 'UTC')"
                          " - %s * interval '1 day', '\"events_p\"YYYYMMDD')", (days, days))[0]

    def maintain(self, *arguments):
        return self.query("SELECT action, part, moved FROM sluice.maintain_partitions("
                          + ", ".join(["%s"] * len(arguments)) + ")", arguments)

    def test_days_are_the_choice_of_the_model(self):
        self.assertEqual(self.query("SELECT period, keep::text FROM sluice.partitioned"), [("day", "90 days")])

    def test_things_outlive_the_partitions_of_their_history(self):
        old, old_part = self.days_ago(80)
        newer, _ = self.days_ago(1)
        created = mutation("create", "n", "t", 0, {"a": 1, "content": "old"})
        related = mutation("create", "n", "r", 0, {"type": "owns", "from_ns": "n", "from_id": "t", "to_ns": "n",
                                                   "to_id": "u"}, "relationship")
        self.add(dict(created, timestamp=old), dict(related, timestamp=old), {"timestamp": old})
        self.add(dict(mutation("update", "n", "t", 0, {"b": 2}), timestamp=newer))
        self.assertEqual(self.maintain(), [("made", old_part, 3)])
        before = self.state()
        self.assertEqual(self.maintain("60 days"), [("detached", old_part, 0)])
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(1,)])
        self.assert_rebuilding_changes_nothing()
        self.assertEqual(self.state(), before)
        self.assertEqual(self.query("SELECT data FROM thing_at('n', 't', %s)", (old,)), [({"a": 1},)])
        self.add(dict(mutation("update", "n", "t", 0, {"a": 5, "b": 5}), timestamp=self.days_ago(2)[0]))
        self.assertEqual(self.thing()[4], {"a": 5, "b": 2})
        self.assert_rebuilding_changes_nothing()

    def test_hot_warm_and_cold_by_age(self):
        for days in (3, 20, 80):
            self.add({"timestamp": self.days_ago(days)[0]})
        self.maintain()

        def tiers():
            return dict(self.query("SELECT part::text, tier FROM event_partitions"))
        parts = [self.days_ago(days)[1] for days in (0, 3, 20, 80)]
        self.assertEqual([tiers()[part] for part in parts], ["hot", "hot", "warm", "cold"])
        self.query("UPDATE event_tiers SET until_age = '1 day' WHERE tier = 'hot';"
                   " UPDATE event_tiers SET until_age = '10 days' WHERE tier = 'warm'")
        self.assertEqual([tiers()[part] for part in parts], ["hot", "warm", "cold", "cold"])
        self.assertEqual(tiers()["events_default"], "hot")

    def test_tiers_have_their_place(self):
        directory = tempfile.mkdtemp(prefix="sluice-cold-", dir=self.cluster.directory)
        own_by_unprivileged_user(directory)
        self.query(f"CREATE TABLESPACE attic LOCATION '{directory}'")
        self.addCleanup(lambda: self.cluster.query(f"DROP DATABASE {self.dbname} WITH (FORCE)")
                        and self.cluster.query("DROP TABLESPACE attic"))
        self.query("UPDATE event_tiers SET tablespace = 'attic' WHERE tier = 'cold'")
        old, part = self.days_ago(50)
        self.add({"timestamp": old})
        self.assertEqual(self.maintain(), [("made", part, 1), ("placed", part, 0)])
        self.assertEqual(self.maintain(), [])
        self.assertEqual(self.query("SELECT tablespace FROM event_partitions WHERE part = %s::regclass", (part,)),
                         [("attic",)])
        self.assertEqual(self.query(
            "SELECT bool_and(spcname = 'attic') FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
            " LEFT JOIN pg_tablespace s ON s.oid = reltablespace WHERE indrelid = %s::regclass", (part,)), [(True,)])
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(1,)])


if __name__ == "__main__":
    unittest.main()
