#!/usr/bin/python3
"""The model conversations: conversations, messages with their text, attachments, and who may do what."""

import json
import unittest

from support.model_test import ModelTest
from support.sample_shipper import SampleShipper, routes_of, samples_of
from support.sluice_daemon import run_sluice
from support.sluice_test import exact_json
from support.waiting import wait_until

CONVERSATION = "11111111-0000-4000-8000-000000000001"
MESSAGE = "11111111-0000-4000-8000-000000000011"
PHOTOGRAPH = "11111111-0000-4000-8000-000000000013"
NOBODY = "99999999-0000-4000-8000-000000000000"


class ConversationsTest(ModelTest):
    model = "conversations"
    apply_options = ("--role", "shipper")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.query("CREATE ROLE shipper LOGIN")

    def shipper(self):
        return SampleShipper(self.connection(user="shipper"), self.model)

    def add_conversation(self):
        self.query("INSERT INTO conversations (id, title) VALUES (%s, 'one')", (CONVERSATION,))

    def add_message(self, raw, message=MESSAGE):
        self.query("INSERT INTO messages (id, conversation_id, role, raw_message)"
                   " VALUES (%s, %s, 'user', %s)", (message, CONVERSATION, raw))


class Samples(ConversationsTest):
    def test_each_sample_becomes_a_row(self):
        self.assertEqual(self.shipper().ship(samples_of(self.model)), 8)
        self.assertEqual(self.query("SELECT (SELECT count(*) FROM conversations),"
                                    " (SELECT count(*) FROM messages),"
                                    " (SELECT count(*) FROM attachments)"), [(2, 5, 1)])
        self.assertEqual(
            self.query("SELECT content_text FROM messages ORDER BY created_at"),
            [("Will it rain in Bergen tomorrow?",), ("It will.\nTake a coat.",), ("And this sky?",),
             ("Those clouds bring rain.",), ("Good morning.",)])

    def test_what_is_loaded_is_what_came(self):
        self.shipper().ship(samples_of(self.model))
        for event in samples_of(self.model):
            if event["type"] == "message.created":
                stored, = self.query(
                    "SELECT raw_message::text, conversation_id::text, role, provider, model, metadata"
                    " FROM messages WHERE id = %s", (event["id"],))
                self.assertEqual((exact_json(stored[0]), *stored[1:]),
                                 (exact_json(json.dumps(event["raw_message"])),
                                  event["conversation_id"], event["role"], event["provider"],
                                  event["model"], event.get("metadata")))
        self.assertEqual(self.query("SELECT extra->'labels' FROM messages WHERE extra ? 'labels'"),
                         [(["retry"],)])
        self.assertEqual(self.query("SELECT type, message_id::text, metadata FROM attachments"),
                         [("image", PHOTOGRAPH, {"name": "sky.png", "bytes": 48213})])

    def test_sent_again_it_is_recognised(self):
        shipper = self.shipper()
        shipper.ship(samples_of(self.model))
        self.query("UPDATE conversations SET title = 'by the application'")
        self.assertEqual(shipper.ship(samples_of(self.model)), 0)
        self.assertEqual((shipper.duplicates, shipper.dead), (8, 0))
        self.assertEqual(self.query("SELECT DISTINCT title FROM conversations"),
                         [("by the application",)])

    def test_another_message_under_the_same_id_is_seen(self):
        shipper = self.shipper()
        shipper.ship(samples_of(self.model))
        edited = next(e for e in samples_of(self.model) if e["id"] == MESSAGE)
        edited["raw_message"] = {"role": "user", "content": "Will it snow?"}
        self.assertEqual(shipper.ship([edited]), 0)
        self.assertEqual(shipper.dead, 1)

    def test_in_one_batch_parents_go_first(self):
        tables = [route["table"] for route in routes_of(self.model)]
        self.assertEqual(tables, ["conversations", "messages", "attachments"])
        self.assertEqual(self.shipper().ship(list(reversed(samples_of(self.model)))), 8)


class Text(ConversationsTest):
    def assert_text(self, raw, text):
        self.assertEqual(self.query("SELECT message_text(%s::jsonb)", (json.dumps(raw),)), [(text,)])

    def test_string_content(self):
        self.assert_text({"role": "user", "content": "hi"}, "hi")
        self.assert_text({"role": "user", "content": ""}, "")
        self.assert_text("hi", "hi")

    def test_the_text_parts_of_an_array(self):
        self.assert_text({"content": [{"type": "text", "text": "a"}, {"type": "image_url"},
                                      {"type": "text", "text": "b"}]}, "a\nb")
        self.assert_text({"content": [{"type": "input_text", "text": "a"},
                                      {"type": "output_text", "text": "b"}]}, "a\nb")
        self.assert_text({"content": [{"type": "text", "text": {"value": "a", "annotations": []}}]}, "a")
        self.assert_text({"content": ["a", "b"]}, "a\nb")

    def test_parts(self):
        self.assert_text({"role": "model", "parts": [{"text": "a"}, {"functionCall": {}}]}, "a")
        self.assert_text({"content": {"role": "model", "parts": [{"text": "a"}]}}, "a")

    def test_thoughts_tools_and_images_are_no_text(self):
        self.assert_text({"content": [{"type": "thinking", "thinking": "x"}, {"type": "tool_use"},
                                      {"type": "tool_result", "text": "x"}]}, None)
        self.assert_text({"parts": [{"text": "x", "thought": True}, {"text": "a"}]}, "a")

    def test_what_has_no_text_has_none(self):
        for raw in ({}, {"content": None}, {"content": []}, {"content": 7}, {"content": {"a": 1}}, [], 7,
                    None, {"content": [1, None, [], {}, {"text": 7}, {"type": 7, "text": "x"}]}):
            self.assert_text(raw, None)

    def test_the_order_of_the_parts_is_kept(self):
        words = [str(n) for n in range(200)]
        self.assert_text({"content": [{"type": "text", "text": word} for word in words]},
                         "\n".join(words))

    def test_it_is_the_databases_to_say(self):
        self.add_conversation()
        self.assert_refused("428C9", "INSERT INTO messages (id, conversation_id, role, raw_message,"
                            " content_text) VALUES (%s, %s, 'user', '{}', 'x')", (MESSAGE, CONVERSATION))

    def test_numbers_keep_their_digits(self):
        self.add_conversation()
        raw = '{"big": 18446744073709551617.000000000000000000001, "list": [1e2, -0.10]}'
        self.add_message(raw)
        stored = self.query("SELECT raw_message::text FROM messages")[0][0]
        self.assertEqual(exact_json(stored), exact_json(raw))


class Parents(ConversationsTest):
    def test_a_message_without_its_conversation(self):
        error = self.assert_refused(
            "23503", "INSERT INTO messages (id, conversation_id, role, raw_message)"
            " VALUES (%s, %s, 'user', '{}')", (MESSAGE, NOBODY))
        self.assertIn(NOBODY, error.diag.message_detail)

    def test_an_attachment_without_its_message(self):
        self.assert_refused("23503", "INSERT INTO attachments (id, message_id, type)"
                            " VALUES (%s, %s, 'file')", (MESSAGE, NOBODY))

    def test_a_parent_that_another_lane_commits_meanwhile(self):
        """The child waits for nothing: it is refused as long as its parent is not committed."""
        child = ("INSERT INTO messages (id, conversation_id, role, raw_message)"
                 " VALUES (%s, %s, 'user', '{}')")
        parent = self.connection()
        parent.execute("BEGIN")
        parent.execute("INSERT INTO conversations (id) VALUES (%s)", (CONVERSATION,))
        self.assert_refused("23503", child, (MESSAGE, CONVERSATION))
        parent.execute("COMMIT")
        self.query(child, (MESSAGE, CONVERSATION))

    def test_children_of_one_parent_do_not_wait_for_each_other(self):
        self.add_conversation()
        first = self.connection()
        first.execute("BEGIN")
        first.execute("INSERT INTO messages (id, conversation_id, role, raw_message)"
                      " VALUES (%s, %s, 'user', '{}')", (MESSAGE, CONVERSATION))
        self.query("SET statement_timeout = '20s'; INSERT INTO messages (id, conversation_id, role,"
                   f" raw_message) VALUES ('{PHOTOGRAPH}', '{CONVERSATION}', 'user', '{{}}')")
        first.execute("COMMIT")
        self.assertEqual(self.query("SELECT count(*) FROM messages"), [(2,)])

    def test_a_conversation_with_messages_stays(self):
        self.add_conversation()
        self.add_message("{}")
        self.assert_refused("23503", "DELETE FROM conversations")


class Rules(ConversationsTest):
    def test_messages_and_attachments_never_change(self):
        self.add_conversation()
        self.add_message("{}")
        self.query("INSERT INTO attachments (id, message_id, type) VALUES (%s, %s, 'file')",
                   (MESSAGE, MESSAGE))
        for table in ("messages", "attachments"):
            self.assert_refused("42501", f"UPDATE {table} SET metadata = '{{}}'")
            self.assert_refused("42501", f"DELETE FROM {table}")
            self.assert_refused("42501", f"TRUNCATE {table} CASCADE")
        self.assert_refused("42501", "TRUNCATE conversations CASCADE")

    def test_a_conversation_belongs_to_its_application(self):
        self.add_conversation()
        self.query("UPDATE conversations SET updated_at = '2000-01-01', title = 'two'")
        self.assertEqual(self.query("SELECT title, updated_at > now() - interval '1 h'"
                                    " FROM conversations"), [("two", True)])

    def test_what_must_be_there(self):
        self.add_conversation()
        self.assert_refused("23502", "INSERT INTO messages (id, conversation_id, role)"
                            " VALUES (%s, %s, 'user')", (MESSAGE, CONVERSATION))
        self.assert_refused("23502", "INSERT INTO messages (id, conversation_id, raw_message)"
                            " VALUES (%s, %s, '{}')", (MESSAGE, CONVERSATION))
        self.assert_refused("23502", "INSERT INTO messages (id, role, raw_message)"
                            " VALUES (%s, 'user', '{}')", (MESSAGE,))

    def test_the_shipping_role_adds_and_looks_at_what_it_compares(self):
        for table in ("conversations", "messages", "attachments"):
            for wish in (f"UPDATE {table} SET metadata = NULL", f"DELETE FROM {table}",
                         f"TRUNCATE {table}"):
                self.assert_refused("42501", wish, user="shipper")
        self.assert_refused("42501", "SELECT title FROM conversations", user="shipper")
        with self.cluster.connect(self.dbname, user="shipper") as connection:
            connection.execute("SELECT id FROM conversations")
            connection.execute("SELECT * FROM messages, attachments")

    def test_the_indexes_that_loading_needs(self):
        found = [definition.split(" USING ")[1] for definition, in self.query(
            "SELECT indexdef FROM pg_indexes WHERE tablename IN ('messages', 'attachments')")]
        for wanted in ("btree (conversation_id, created_at)", "btree (provider)", "btree (message_id)"):
            self.assertIn(wanted, found)


class Applying(ConversationsTest):
    def test_twice_changes_nothing(self):
        self.shipper().ship(samples_of(self.model))
        before = self.schema_text()
        self.apply_schema("--model", self.model, "--role", "shipper")
        self.assertEqual(self.schema_text(), before)
        self.assertEqual(self.query("SELECT count(*) FROM messages"), [(5,)])

    def test_everything_says_what_it_is(self):
        self.assertEqual(self.undescribed(), [])

    def test_a_table_of_that_name_for_another_purpose_is_left_alone(self):
        dbname = self.new_database()
        self.query("CREATE TABLE messages (id uuid, body text)", dbname=dbname)
        applied = run_sluice("schema", "apply", "--model", self.model,
                             env={"SLUICE_POSTGRES_DSN": self.dsn(dbname)})
        self.assertNotEqual(applied.returncode, 0)
        self.assertIn("public.messages is there already and lacks conversation_id uuid", applied.stderr)
        self.assertEqual(self.query("SELECT to_regclass('conversations')", dbname=dbname), [(None,)])

    def test_while_a_daemon_writes(self):
        """A second application waits for the batch that is open, and harms neither."""
        self.add_conversation()
        batch = self.connection()
        batch.execute("BEGIN")
        batch.execute("INSERT INTO messages (id, conversation_id, role, raw_message)"
                      " VALUES (%s, %s, 'user', '{}')", (MESSAGE, CONVERSATION))

        def commit_when_it_waits(_):
            wait_until(lambda: self.query("SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0], 30,
                       "the application to wait")
            batch.execute("COMMIT")

        self.in_parallel(lambda _: self.apply_schema("--model", self.model), commit_when_it_waits)
        self.assertEqual(self.query("SELECT count(*) FROM messages"), [(1,)])


if __name__ == "__main__":
    unittest.main()
