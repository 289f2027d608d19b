#!/usr/bin/python3
"""The model spirits: the same event any number of times is one row, what is remembered in its order, and all
of it through a pooler."""

import decimal
import hashlib
import itertools
import unittest
import uuid

import psycopg

from support.model_test import ModelTest
from support.pgbouncer import Pgbouncer
from support.sample_shipper import SampleShipper, samples_of
from support.waiting import wait_until

WREN = "33333333-0000-4000-8000-000000000001"
ADD_EVENT = ("INSERT INTO events (id, spirit_id, event_type, content, occurred_at, session_id, source_uri,"
             " dedupe_key, importance_score, created_at) VALUES (coalesce(%(id)s::uuid, gen_random_uuid()),"
             " %(spirit_id)s, %(event_type)s, %(content)s, %(occurred_at)s, %(session_id)s, %(source_uri)s,"
             " %(dedupe_key)s, %(importance_score)s, coalesce(%(created_at)s::timestamptz, now()))")
DO_NOTHING = " ON CONFLICT (dedupe_key) DO NOTHING"


def expected_key(spirit, event_type, content, occurred_at, source_uri):
    text = "|".join((spirit, event_type, content[:100], occurred_at, source_uri))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class SpiritsTest(ModelTest):
    model = "spirits"
    apply_options = ("--role", "shipper")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.query("CREATE ROLE shipper LOGIN")

    def shipper(self):
        return SampleShipper(self.connection(user="shipper"), self.model)

    def add_spirit(self, spirit=WREN):
        self.query("INSERT INTO spirits (id, name) VALUES (%s, 'Wren') ON CONFLICT DO NOTHING", (spirit,))

    def fields(self, **given):
        names = ("id", "content", "occurred_at", "session_id", "source_uri", "dedupe_key",
                 "importance_score", "created_at")
        return {**dict.fromkeys(names), "spirit_id": WREN, "event_type": "note", **given}

    def add_event(self, conflict="", **given):
        self.query(ADD_EVENT + conflict, self.fields(**given))

    def contents(self, function, *arguments, names=()):
        """Of the events that recent() or replay() gives, in its order."""
        values = ["%s"] * (len(arguments) - len(names)) + [f'"{name}" => %s' for name in names]
        return [row[0] for row in self.query(f"SELECT content FROM {function}({', '.join(values)})",
                                             arguments)]


class Samples(SpiritsTest):
    def test_each_sample_becomes_a_row_and_the_same_one_twice_is_one(self):
        shipper = self.shipper()
        self.assertEqual(shipper.ship(samples_of(self.model)), 4)
        self.assertEqual(shipper.duplicates, 1)
        self.assertEqual(self.query("SELECT name, description, meta, is_deleted FROM spirits"),
                         [("Wren", "Looks after the garden", {"language": "en"}, False)])
        self.assertEqual(
            self.query("SELECT event_type, meta_summary, session_id, meta, source_uri, importance_score,"
                       " extra->>'mood' FROM events ORDER BY occurred_at"),
            [("conversation", "roses", "s-1", None, None, decimal.Decimal("0.7"), None),
             ("observation", None, "s-1", {"celsius": -1.5}, "sensor://beds/1", decimal.Decimal("0.4"), None),
             ("reflection", None, "s-2", None, None, 1, "calm")])

    def test_in_a_year_it_is_still_the_same_event(self):
        shipper = self.shipper()
        keyed = [event for event in samples_of(self.model)
                 if event["type"] == "spirit.created" or "dedupe_key" in event or "source_uri" in event]
        shipper.ship(keyed)
        for event in keyed[1:]:
            event["id"] = str(uuid.uuid4())
        self.assertEqual(shipper.ship(keyed, received_at="2027-01-10T00:00:00Z"), 0)

    def test_parents_go_first_in_a_batch(self):
        self.assertEqual(self.shipper().ship(list(reversed(samples_of(self.model)))), 4)


class Keys(SpiritsTest):
    def key_of(self, **given):
        self.add_spirit()
        event = str(uuid.uuid4())
        self.add_event(id=event, **given)
        return self.query("SELECT dedupe_key FROM events WHERE id = %s", (event,))[0][0]

    def test_the_key_is_that_of_the_event(self):
        self.assertEqual(
            self.key_of(content="hello", occurred_at="2026-01-05T10:00:00.5+01:00", source_uri="x://1"),
            expected_key(WREN, "note", "hello", "2026-01-05T09:00:00.5Z", "x://1"))

    def test_the_time_in_the_key_has_no_zeros_at_its_end(self):
        for time, text in (("2026-01-05T10:20:30Z",) * 2, ("2026-01-05T10:20:30.000001Z",) * 2,
                           ("2026-01-05T00:00:00Z",) * 2, ("2026-01-05T10:20:30.120Z", "2026-01-05T10:20:30.12Z"),
                           ("2026-01-05T10:20:10.000Z", "2026-01-05T10:20:10Z")):
            self.assertEqual(self.query("SELECT event_dedupe_key(%s, 'note', 'a', %s, 'x://1')",
                                        (WREN, time)), [(expected_key(WREN, "note", "a", text, "x://1"),)])

    def test_what_is_missing_is_empty_in_the_key(self):
        self.assertEqual(self.query("SELECT event_dedupe_key(%s, 'note', NULL, NULL, 'x://1')", (WREN,)),
                         [(expected_key(WREN, "note", "", "", "x://1"),)])

    def test_a_hundred_characters_of_the_content_count_not_bytes(self):
        content = "ä€😀" * 50
        at = "2026-01-05T09:00:00Z"
        self.assertEqual(self.key_of(content=content, occurred_at=at, source_uri="x://1"),
                         expected_key(WREN, "note", content, at, "x://1"))
        self.add_event(conflict=DO_NOTHING, content=content[:100] + "another end", occurred_at=at,
                       source_uri="x://1")
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(1,)])
        self.add_event(conflict=DO_NOTHING, content=content[:99] + "!", occurred_at=at, source_uri="x://1")
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(2,)])

    def test_each_field_makes_another_event(self):
        self.add_spirit()
        other = "33333333-0000-4000-8000-000000000002"
        self.add_spirit(other)
        event = {"content": "a", "occurred_at": "2026-01-05T09:00:00Z", "source_uri": "x://1"}
        for change in ({}, {"spirit_id": other}, {"event_type": "talk"}, {"content": "b"}, {"content": None},
                       {"occurred_at": "2026-01-05T09:00:00.000001Z"}, {"source_uri": "x://2"}, {}):
            self.add_event(conflict=DO_NOTHING, **{**event, **change})
        self.assertEqual(self.query("SELECT count(*), count(DISTINCT dedupe_key) FROM events"), [(7, 7)])

    def test_without_a_time_the_time_of_receipt_counts_but_not_for_the_key(self):
        self.add_spirit()
        for receipt in ("2026-01-05T09:00:00Z", "2027-01-05T09:00:00Z"):
            for time in (None, receipt):  # nothing, or what the daemon puts in place of nothing
                self.add_event(conflict=DO_NOTHING, content="a", occurred_at=time, created_at=receipt,
                               source_uri="x://1")
        self.assertEqual(
            self.query("SELECT occurred_at = created_at, occurred_at = '2026-01-05T09:00:00Z', dedupe_key"
                       " FROM events"), [(True, True, expected_key(WREN, "note", "a", "", "x://1"))])

    def test_a_key_of_the_producer_is_left_alone(self):
        self.assertEqual(self.key_of(content="a", source_uri="x://1", dedupe_key="mine"), "mine")

    def test_without_key_and_source_equal_events_are_events(self):
        self.add_spirit()
        for _ in range(2):
            self.add_event(conflict=DO_NOTHING, content="a", occurred_at="2026-01-05T09:00:00Z")
        self.assertEqual(self.query("SELECT count(*), count(dedupe_key) FROM events"), [(2, 0)])

    def test_without_on_conflict_the_second_is_refused(self):
        self.add_spirit()
        self.add_event(dedupe_key="k")
        error = self.assert_refused("23505", ADD_EVENT, self.fields(dedupe_key="k"))
        self.assertEqual(error.diag.constraint_name, "events_dedupe_key_key")

    def test_the_key_is_the_same_wherever_the_session_is(self):
        keys = set()
        for zone, style in (("Asia/Kathmandu", "German"), ("UTC", "ISO")):
            with self.cluster.connect(self.dbname) as connection:
                connection.execute(f"SET timezone = '{zone}'; SET datestyle = '{style}'")
                keys.add(connection.execute("SELECT event_dedupe_key(%s, 'note', 'a', %s, 'x://1')",
                                            (WREN, "2026-01-05T09:00:00Z")).fetchone()[0])
        self.assertEqual(keys, {expected_key(WREN, "note", "a", "2026-01-05T09:00:00Z", "x://1")})

    def test_lanes_that_send_the_same_events_at_once_make_one_row_of_each(self):
        self.add_spirit()

        def lane(connection):
            # In the same order: otherwise two could wait for each other, and one be told to try again.
            with connection.transaction():
                for n in range(50):
                    connection.execute(ADD_EVENT + DO_NOTHING, self.fields(
                        content=str(n), occurred_at="2026-01-05T09:00:00Z", source_uri="x://1"))

        self.in_parallel(*[lane] * 4)
        self.assertEqual(self.query("SELECT count(*), count(DISTINCT content) FROM events"), [(50, 50)])

    def test_of_two_lanes_the_second_waits_and_adds_only_what_the_first_did_not(self):
        self.add_spirit()
        for end, rows in (("COMMIT", 1), ("ROLLBACK", 2)):
            first, second = self.connection(), self.connection()
            first.execute("BEGIN")
            first.execute(ADD_EVENT + DO_NOTHING, self.fields(dedupe_key=f"k-{end}"))

            def finish_when_it_waits(_):
                wait_until(lambda: self.waits_for(second), 30, "the second lane to wait")
                first.execute(end)

            self.in_parallel(lambda _: second.execute(ADD_EVENT + DO_NOTHING,
                                                      self.fields(dedupe_key=f"k-{end}")),
                             finish_when_it_waits)
            self.assertEqual(self.query("SELECT count(*) FROM events"), [(rows,)])


class Refused(SpiritsTest):
    def test_an_unknown_spirit(self):
        error = self.assert_refused("23503", ADD_EVENT, self.fields())
        self.assertIn(WREN, error.diag.message_detail)

    def test_a_spirit_that_another_lane_commits_meanwhile(self):
        parent = self.connection()
        parent.execute("BEGIN")
        parent.execute("INSERT INTO spirits (id, name) VALUES (%s, 'Wren')", (WREN,))
        self.assert_refused("23503", ADD_EVENT, self.fields())
        parent.execute("COMMIT")
        self.add_event()

    def test_an_importance_outside_0_to_1(self):
        self.add_spirit()
        for importance in ("-0.0001", "1.0001", "NaN", "1e300"):
            self.assert_refused("23514", ADD_EVENT, self.fields(importance_score=importance))
        for importance in ("0", "1", "0.5", None):
            self.add_event(importance_score=importance)

    def test_neither_costs_its_neighbours(self):
        """Row by row behind savepoints, as isolation does it."""
        self.add_spirit()
        connection = self.connection(user="shipper")
        refused = []
        with connection.transaction():
            for n in range(20):
                bad = {7: {"spirit_id": str(uuid.uuid4())}, 14: {"importance_score": 2}}.get(n, {})
                try:
                    with connection.transaction():
                        connection.execute(ADD_EVENT + DO_NOTHING,
                                           self.fields(**{"dedupe_key": str(n), **bad}))
                except psycopg.Error as error:
                    refused.append((n, error.sqlstate))
        self.assertEqual(refused, [(7, "23503"), (14, "23514")])
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(18,)])

    def test_what_must_be_there(self):
        self.add_spirit()
        self.assert_refused("23502", ADD_EVENT, self.fields(spirit_id=None))
        self.assert_refused("23502", ADD_EVENT, self.fields(event_type=None))
        self.assert_refused("23502", "INSERT INTO spirits (id) VALUES (gen_random_uuid())")


class Remembering(SpiritsTest):
    def setUp(self):
        super().setUp()
        self.add_spirit()
        # In an order that is not that of the times; two at the same time are told apart by their ids.
        for n in (3, 1, 4, 0, 2):
            self.add_event(id=f"00000000-0000-4000-8000-00000000000{n}", content=str(n),
                           event_type="talk" if n % 2 else "note", session_id="s" if n < 4 else "t",
                           occurred_at=f"2026-01-05T09:0{min(n, 3)}:00Z",
                           importance_score=None if n == 0 else n / 4)

    def test_recent_gives_the_newest_first(self):
        self.assertEqual(self.contents("recent", WREN), ["4", "3", "2", "1", "0"])

    def test_recent_by_limit_and_offset(self):
        self.assertEqual(self.contents("recent", WREN, 2), ["4", "3"])
        self.assertEqual(self.contents("recent", WREN, 2, 2), ["2", "1"])
        self.assertEqual(self.contents("recent", WREN, 2, 9), [])
        self.assertEqual(self.contents("recent", WREN, 2, 1, names=("limit", "offset")), ["3", "2"])
        self.assertEqual(self.contents("recent", WREN, None), ["4", "3", "2", "1", "0"])
        self.assert_refused("2201W", "SELECT recent(%s, -1)", (WREN,))
        self.assert_refused("2201X", "SELECT recent(%s, 1, -1)", (WREN,))

    def test_recent_by_type_and_importance(self):
        self.assertEqual(self.contents("recent", WREN, 20, 0, "talk"), ["3", "1"])
        self.assertEqual(self.contents("recent", WREN, 20, 0, "note", 0.5), ["4", "2"])
        self.assertEqual(self.contents("recent", WREN, decimal.Decimal("0.75"), names=("min_importance",)),
                         ["4", "3"])
        # Nobody said how important event 0 is, so it is not at least of importance 0.
        self.assertEqual(self.contents("recent", WREN, 0, names=("min_importance",)), ["4", "3", "2", "1"])

    def test_replay_gives_a_session_oldest_first(self):
        self.assertEqual(self.contents("replay", WREN, "s"), ["0", "1", "2", "3"])
        self.assertEqual(self.contents("replay", WREN, "t"), ["4"])
        self.assertEqual(self.contents("replay", WREN, "u"), [])

    def test_both_skip_what_is_deleted(self):
        self.query("UPDATE events SET is_deleted = true WHERE content IN ('1', '4')")
        self.assertEqual(self.contents("recent", WREN), ["3", "2", "0"])
        self.assertEqual(self.contents("recent", WREN, 1), ["3"])
        self.assertEqual(self.contents("replay", WREN, "s"), ["0", "2", "3"])
        self.query("UPDATE spirits SET is_deleted = true")
        self.assertEqual(self.contents("recent", WREN), [])
        self.assertEqual(self.contents("replay", WREN, "s"), [])

    def test_each_spirit_has_its_own_memory(self):
        other = "33333333-0000-4000-8000-000000000002"
        self.add_spirit(other)
        self.add_event(spirit_id=other, content="theirs", session_id="s",
                       occurred_at="2026-02-01T00:00:00Z")
        self.assertEqual(self.contents("recent", other), ["theirs"])
        self.assertEqual(self.contents("replay", other, "s"), ["theirs"])
        self.assertEqual(self.contents("recent", WREN, 1), ["4"])

    def test_the_order_of_arrival_makes_no_difference(self):
        for order in itertools.islice(itertools.permutations(range(4)), 0, 24, 5):
            spirit = str(uuid.uuid4())
            self.add_spirit(spirit)
            for n in order:
                self.add_event(spirit_id=spirit, content=str(n), session_id="s",
                               occurred_at=f"2026-01-05T09:0{n}:00Z")
            self.assertEqual(self.contents("recent", spirit), ["3", "2", "1", "0"])
            self.assertEqual(self.contents("replay", spirit, "s"), ["0", "1", "2", "3"])


class Rules(SpiritsTest):
    def test_of_an_event_only_the_mark_that_it_is_deleted_changes(self):
        self.add_spirit()
        self.add_event(content="a", created_at="2026-01-05T09:00:00Z", importance_score="0.5")
        for change in ("content = 'b'", "importance_score = 0.6", "occurred_at = now()",
                       "dedupe_key = 'k'", "is_deleted = true, meta_summary = 'x'", "meta = '{}'",
                       "id = gen_random_uuid()", "created_at = now()", "extra = '{}'"):
            self.assert_refused("42501", f"UPDATE events SET {change}")
        self.assert_refused("42501", "DELETE FROM events")
        self.assert_refused("42501", "TRUNCATE events")
        self.assert_refused("42501", "TRUNCATE spirits CASCADE")
        self.query("UPDATE events SET is_deleted = true, content = content")
        self.assertEqual(self.query("SELECT content, is_deleted, updated_at > created_at FROM events"),
                         [("a", True, True)])
        self.query("UPDATE events SET is_deleted = false")

    def test_what_is_deleted_keeps_its_key(self):
        self.add_spirit()
        self.add_event(dedupe_key="k")
        self.query("UPDATE events SET is_deleted = true")
        self.add_event(conflict=DO_NOTHING, dedupe_key="k")
        self.assertEqual(self.query("SELECT count(*), bool_and(is_deleted) FROM events"), [(1, True)])

    def test_a_spirit_belongs_to_its_application(self):
        self.add_spirit()
        self.query("UPDATE spirits SET name = 'Robin', updated_at = '2000-01-01'")
        self.assertEqual(self.query("SELECT name, updated_at > '2020-01-01' FROM spirits"), [("Robin", True)])

    def test_the_shipping_role_adds_and_sees_keys_only(self):
        for wish in ("SELECT content FROM events", "SELECT name FROM spirits", "DELETE FROM events",
                     "UPDATE events SET is_deleted = true", "UPDATE spirits SET name = 'x'",
                     "TRUNCATE events", "DELETE FROM spirits"):
            self.assert_refused("42501", wish, user="shipper")

    def test_the_indexes(self):
        found = [definition.split(" USING ")[1] for definition, in self.query(
            "SELECT indexdef FROM pg_indexes WHERE tablename = 'events'")]
        for wanted in ("btree (spirit_id, occurred_at, id)", "btree (event_type)", "btree (session_id)",
                       "btree (dedupe_key)"):
            self.assertIn(wanted, found)

    def test_applied_twice_nothing_changes(self):
        before = self.schema_text()
        self.apply_schema("--model", self.model, "--role", "shipper")
        self.assertEqual(self.schema_text(), before)

    def test_everything_says_what_it_is(self):
        self.assertEqual(self.undescribed(), [])


class Pooled(SpiritsTest):
    def test_behind_a_pooler_in_transaction_mode(self):
        """Two server connections for four clients, so that each statement may meet another one."""
        with Pgbouncer(self.cluster, default_pool_size=2) as pooler:
            clients = [pooler.connect(self.dbname) for _ in range(4)]
            for client in clients:
                self.addCleanup(client.close)
            for client in clients:
                SampleShipper(client, self.model).ship(samples_of(self.model)[:4])
            for n, client in enumerate(clients * 3):
                client.execute(ADD_EVENT + DO_NOTHING, self.fields(
                    content=str(n % 6), session_id="p", occurred_at=f"2026-02-01T00:0{n % 6}:00Z",
                    source_uri="x://1"))
            for client in clients:
                self.assertEqual(
                    [row[0] for row in client.execute("SELECT content FROM recent(%s, 3)", (WREN,))],
                    ["5", "4", "3"])
                self.assertEqual(
                    [row[0] for row in client.execute("SELECT content FROM replay(%s, 'p')", (WREN,))],
                    ["0", "1", "2", "3", "4", "5"])
            self.assertEqual(self.query("SELECT count(*) FROM events WHERE session_id = 's-1'"), [(2,)])


if __name__ == "__main__":
    unittest.main()
