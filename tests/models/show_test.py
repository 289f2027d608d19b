#!/usr/bin/python3
"""`sluice show ID`: everything that the tables of each model know about an id, and what they do not know."""

import json
import unittest

from support.model_test import ModelTest
from support.sample_shipper import SampleShipper, samples_of
from support.sluice_daemon import run_sluice

NOBODY = "99999999-0000-4000-8000-000000000000"


class ShowTest(ModelTest):
    def setUp(self):
        super().setUp()
        SampleShipper(self.connection(), self.model).ship(samples_of(self.model))

    def show(self, *arguments, dsn=None):
        return run_sluice("show", *arguments, env={"SLUICE_POSTGRES_DSN": dsn or self.dsn()})

    def known(self, some_id, *arguments, dsn=None):
        """Of a program that reads it."""
        shown = self.show(some_id, "--json", *arguments, dsn=dsn)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertEqual(shown.stdout.count("\n"), 1)
        return json.loads(shown.stdout)

    def assert_unknown(self, some_id, *arguments, dsn=None):
        for form in ((), ("--json",)):
            shown = self.show(some_id, *form, *arguments, dsn=dsn)
            self.assertEqual((shown.returncode, shown.stdout), (1, ""), shown.stderr)
            self.assertIn(f"nothing is known about {some_id}", shown.stderr)

    def ids(self, rows):
        return [row["id"] for row in rows]


class AgentLog(ShowTest):
    FAILED = "00000000-0000-4000-8000-000000000014"

    def test_an_event_with_all_around_it(self):
        about = self.known(self.FAILED)
        connection = self.connection(options="'-c timezone=UTC'")
        self.assertEqual(about, connection.execute("SELECT everything_about(%s)",
                                                   (self.FAILED,)).fetchone()[0])
        self.assertEqual(about["outcome"]["status"], "failure")

    def test_on_a_terminal(self):
        told = self.show(self.FAILED).stdout
        self.assertIn(f"id  {self.FAILED}\n\nevent\n", told)
        self.assertIn("\n    error\n      code     E401\n      message  expected 200, got 401\n", told)
        self.assertIn("\nsessions\n  - session_id  s-1\n    after\n      - id: ", told)
        self.assertNotIn("null", told)

    def test_a_node(self):
        about = self.known("00000000-0000-4000-8000-000000000001")
        self.assertEqual((about["node"]["kind"], about["summary"]["failures"]), ("session", 2))

    def test_what_is_not_there(self):
        self.assert_unknown(NOBODY)
        self.assert_unknown("not-a-uuid")
        self.assertIn("no UUID or ULID", self.show("not-a-uuid").stderr)
        self.assert_unknown("'); DROP TABLE events; --")
        self.assertEqual(self.show().returncode, 64)

    def test_what_a_producer_wrote_moves_no_terminal(self):
        self.query("INSERT INTO events (id, occurred_at, type, received_at, data) VALUES"
                   " (%s, now(), 't', now(), %s)",
                   (NOBODY, json.dumps({"text": "\x1b]0;title\x07\x9b31m\u202e\nid  forged"})))
        told = self.show(NOBODY).stdout
        self.assertIn("| \\x1b]0;title\\x07\\x9b31m\\u{202e}\n", told)
        self.assertFalse(any(c in told for c in "\x1b\x07\x9b\u202e"), told)
        self.assertIn("| id  forged\n", told)

    def test_a_ulid_is_the_uuid_that_it_is_stored_as(self):
        self.query("INSERT INTO events (id, occurred_at, type, received_at) VALUES"
                   " ('019b8d63-64e0-5a5a-5a5a-5a0000000006', now(), 'ulid', now())")
        self.assertEqual(self.known("01KE6P6S70B9D5MPJT00000006")["event"]["type"], "ulid")

    def test_it_changes_nothing(self):
        self.query("CREATE FUNCTION everything_about_x(id text) RETURNS jsonb LANGUAGE plpgsql AS"
                   " 'BEGIN CREATE TABLE planted (); RETURN NULL; END'")
        shown = self.show(NOBODY)
        self.assertEqual(shown.returncode, 78)
        self.assertIn("read-only", shown.stderr)

    def test_functions_off_the_search_path_are_not_called(self):
        self.query("CREATE SCHEMA other; CREATE FUNCTION other.everything_about_x(id text) RETURNS jsonb"
                   " LANGUAGE sql AS $$ SELECT '{\"x\": 1}'::jsonb $$")
        self.assert_unknown(NOBODY)
        self.assertEqual(self.known(NOBODY, "--schema", "other"), {"x": 1})

    def test_tables_of_ones_own_have_their_say(self):
        self.query("CREATE FUNCTION everything_about_tickets(name text) RETURNS jsonb"
                   " LANGUAGE sql AS $$ SELECT jsonb_build_object('ticket', name) $$")
        self.assertEqual(self.known("T-1"), {"ticket": "T-1"})
        about = self.known(self.FAILED)
        self.assertEqual((about["ticket"], about["event"]["type"]), (self.FAILED, "test"))

    def test_where_nothing_can_be_asked(self):
        empty = self.new_database()
        shown = self.show(NOBODY, dsn=self.dsn(empty))
        self.assertEqual(shown.returncode, 78)
        self.assertIn("schema apply", shown.stderr)
        self.assertEqual(self.show(NOBODY, dsn="host=/tmp/no-such-directory").returncode, 69)

    def test_a_role_that_may_not_read_is_told(self):
        self.query("CREATE ROLE blind LOGIN")
        shown = self.show(NOBODY, dsn=self.cluster.dsn(self.dbname, user="blind"))
        self.assertEqual(shown.returncode, 78)
        self.assertIn("may not read", shown.stderr)


class Unified(ShowTest):
    model = "unified"
    UPDATE = "01KE6P6S70B9D5MPJT00000006"

    def test_an_event_and_what_it_is_about(self):
        about = self.known(self.UPDATE)
        self.assertEqual(about["event"]["mutation_type"], "update")
        self.assertEqual(about["about"]["thing"]["data"],
                         {"stars": 13, "license": "MIT", "archived": False})
        self.assertEqual([change["data"].get("stars") for change in about["about"]["history"]],
                         [12, 99, 13])

    def test_an_event_about_nothing(self):
        about = self.known("01KE6P7RF0B9D5MPJT0000000C")
        self.assertEqual((about["event"]["event_type"], about["about"]), ("metric", None))

    def test_a_thing_by_its_name_or_url(self):
        for name in ("onet/Software developer", "/onet/Software_developer", "onet/Software_developer",
                     "https://example.com/onet/Software_developer"):
            thing, = self.known(name)["known"]
            self.assertEqual((thing["ns"], thing["id"], thing["thing"]["code"]),
                             ("onet", "Software developer", "15-1252"), name)
            self.assertEqual(self.ids(thing["relationships_out"]), ["Software developer/describes/1"])
        other, = self.known("en.wikipedia.org/Software developer")["known"]
        self.assertEqual(self.ids(other["relationships_in"]), ["Software developer/describes/1"])

    def test_names_with_slashes_and_underscores(self):
        self.assertEqual(self.known("github.com/repos/dot-do/workers")["known"][0]["id"], "dot-do/workers")
        thing, = self.known("stripe.com/api/customers/cus_123")["known"]
        self.assertIsNotNone(thing["thing"]["deleted_at"])
        self.assertEqual([change["change"] for change in thing["history"]], ["create", "delete"])

    def test_a_relationship(self):
        found, = self.known("onet/Software developer/describes/1")["known"]
        self.assertEqual((found["thing"], found["relationship"]["type"]), (None, "described_by"))

    def test_an_event_whose_partition_was_detached(self):
        self.query("SELECT keep_mutations('events'); TRUNCATE things, relationships;"
                   " ALTER TABLE events RENAME TO before; CREATE TABLE events (LIKE before);"
                   " CREATE OR REPLACE VIEW mutations AS"
                   " SELECT entity_ns AS ns, entity_id AS id, key_of(entity_ns, entity_id) AS key,"
                   "  (entity_type = 'relationship') IS TRUE AS of_relationship, mutation_type AS change,"
                   "  entity_type AS type, data AS patch, coalesce(event_timestamp, \"timestamp\") AS at,"
                   "  k.id AS event_id FROM kept_mutations k")
        about = self.known(self.UPDATE)
        self.assertEqual(about["kept_mutation"]["mutation_type"], "update")
        self.assertEqual(len(about["about"]["history"]), 3)

    def test_what_is_not_there(self):
        for name in (NOBODY, "nothing", "nothing/here", "/", "", "a/" * 300):
            self.assert_unknown(name)


class Conversations(ShowTest):
    model = "conversations"
    CONVERSATION = "11111111-0000-4000-8000-000000000001"
    MESSAGES = [f"11111111-0000-4000-8000-0000000000{n}" for n in (11, 12, 13, 14)]
    PHOTOGRAPH = "11111111-0000-4000-8000-000000000021"

    def test_a_conversation_with_its_messages(self):
        about = self.known(self.CONVERSATION)
        self.assertEqual((about["conversation"]["title"], about["message_count"]), ("Rain in Bergen", 4))
        self.assertEqual(self.ids(about["messages"]), self.MESSAGES)
        self.assertEqual(about["messages"][1]["content_text"], "It will.\nTake a coat.")

    def test_a_long_conversation_by_its_end(self):
        self.query("INSERT INTO messages (id, conversation_id, role, raw_message, created_at)"
                   " SELECT gen_random_uuid(), %s, 'user', to_jsonb(n::text), '2026-02-01'::date + n"
                   " FROM generate_series(1, 1100) n", (self.CONVERSATION,))
        about = self.known(self.CONVERSATION)
        self.assertEqual((about["message_count"], len(about["messages"])), (1104, 1000))
        self.assertEqual(about["messages"][-1]["content_text"], "1100")

    def test_a_message_among_the_others(self):
        about = self.known(self.MESSAGES[2])
        self.assertEqual(about["message"]["raw_message"]["content"][1]["text"], "And this sky?")
        self.assertEqual(self.ids(about["attachments"]), [self.PHOTOGRAPH])
        self.assertEqual(self.ids(about["messages_before"]), self.MESSAGES[:2])
        self.assertEqual(self.ids(about["messages_after"]), self.MESSAGES[3:])
        self.assertEqual(about["conversation"]["id"], self.CONVERSATION)

    def test_an_attachment(self):
        about = self.known(self.PHOTOGRAPH)
        self.assertEqual((about["attachment"]["metadata"]["name"], about["message"]["id"]),
                         ("sky.png", self.MESSAGES[2]))

    def test_what_is_not_there(self):
        self.assert_unknown(NOBODY)


class Operations(ShowTest):
    model = "operations"
    USAGE = [f"22222222-0000-4000-8000-00000000000{n}" for n in (1, 2, 3)]
    BIRCH = "22222222-0000-4000-8000-000000000004"

    def test_usage_with_its_neighbours_and_its_day(self):
        about = self.known(self.USAGE[1])
        self.assertEqual(about["token_usage"]["tokens"], 800)
        self.assertEqual(self.ids(about["token_usage_before"]), self.USAGE[:1])
        self.assertEqual(self.ids(about["token_usage_after"]), self.USAGE[2:])
        self.assertEqual((about["token_usage_daily"]["date"], about["token_usage_daily"]["event_count"]),
                         ("2026-01-05", 3))

    def test_a_row_of_each_table(self):
        for number, table in ((11, "user_events"), (21, "audit_log"), (31, "planning_notes"),
                              (41, "agent_memory"), (51, "job_queue")):
            some_id = f"22222222-0000-4000-8000-0000000000{number}"
            self.assertEqual(self.known(some_id)[table]["id"], some_id)

    def test_another_organisations_row_is_not_shown(self):
        self.query("CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        dsn = self.cluster.dsn(self.dbname, user="reader")
        self.assert_unknown(self.BIRCH, dsn=dsn)
        self.query("ALTER ROLE reader SET app.current_org_id = 'org_birch'")
        self.assertEqual(self.known(self.BIRCH, dsn=dsn)["token_usage"]["organization_id"], "org_birch")
        self.assert_unknown(self.USAGE[0], dsn=dsn)

    def test_what_is_not_there(self):
        self.assert_unknown(NOBODY)


class Spirits(ShowTest):
    model = "spirits"
    WREN = "33333333-0000-4000-8000-000000000001"
    EVENTS = [f"33333333-0000-4000-8000-0000000000{n}" for n in (11, 12, 14)]

    def test_a_spirit_with_what_it_remembers(self):
        about = self.known(self.WREN)
        self.assertEqual(about["spirit"]["name"], "Wren")
        self.assertEqual(about["event_count"], len(about["recent"]))
        self.assertEqual(self.ids(about["recent"])[0], self.EVENTS[2])

    def test_an_event_in_its_session(self):
        about = self.known(self.EVENTS[0])
        self.assertEqual((about["event"]["session_id"], about["spirit"]["id"]), ("s-1", self.WREN))
        self.assertIn(self.EVENTS[1], self.ids(about["events_after"]))
        self.assertNotIn(self.EVENTS[2], self.ids(about["events_after"]))

    def test_a_deleted_event_is_shown_and_is_no_neighbour(self):
        self.query("UPDATE events SET is_deleted = true WHERE id = %s", (self.EVENTS[1],))
        self.assertTrue(self.known(self.EVENTS[1])["event"]["is_deleted"])
        self.assertNotIn(self.EVENTS[1], self.ids(self.known(self.EVENTS[0])["events_after"]))

    def test_what_is_not_there(self):
        self.assert_unknown(NOBODY)


class BesideEachOther(ModelTest):
    model = "conversations"

    def test_models_in_one_schema_are_all_asked(self):
        self.apply_schema("--model", "operations")
        self.apply_schema("--model", "spirits")
        for model in ("conversations", "operations", "spirits"):
            SampleShipper(self.connection(), model).ship(samples_of(model))
        for some_id, member in ((Conversations.CONVERSATION, "conversation"),
                                (Operations.BIRCH, "token_usage"), (Spirits.WREN, "spirit")):
            shown = run_sluice("show", some_id, "--json", env={"SLUICE_POSTGRES_DSN": self.dsn()})
            self.assertEqual(json.loads(shown.stdout)[member]["id"], some_id)


if __name__ == "__main__":
    unittest.main()
