#!/usr/bin/python3
"""The event contract against a real Postgres: what a producer sends is what stands in the row."""

import datetime
import decimal
import json
import os
import random
import unittest
import uuid

from support.producer import as_line, connect, numbered, send
from support.sluice_test import SluiceTest, exact_json, say

UTC = datetime.timezone.utc
HARD_TEXT = [
    "plain", "Größe – ✓", "日本語のテスト", "emoji 🚀🧪 and ZWJ 👩‍🔬", "مرحبا", "tab\there", "line\nfeed",
    "carriage\rreturn", "back\\slash", "quote\"quote", "\\N", "\\.", "\x7f\u0080\u2028\u2029", "\ufffe\uffff",
    "\x1b[31mred\x1b[0m", "${jndi:ldap://x}", "'; DROP TABLE events; --", "  spaces  ", "",
    "\U0010ffff", "a" * 5000,
]


class Contract(SluiceTest):
    def test_every_field_arrives_as_sent(self):
        daemon = self.start_daemon()
        event = {
            "type": "tool.call", "time": "2026-01-01T00:00:00.123456Z",
            "id": "01890a5d-ac96-774b-bcce-b302099a8057", "source": "planner", "session_id": "s-1",
            "parent_id": "01890a5d-ac96-774b-bcce-b302099a8058", "dedupe_key": "k-1",
            "data": {"any": "json", "list": [1, 2.50, None, True, {"deep": []}]},
            "anything_else": 1, "more": {"x": [None]},
        }
        row = self.ship_one(daemon, event)
        self.assertEqual(row["id"], uuid.UUID(event["id"]))
        self.assertEqual(row["occurred_at"],
                         datetime.datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC))
        self.assertEqual((row["type"], row["source"], row["session_id"], row["dedupe_key"]),
                         ("tool.call", "planner", "s-1", "k-1"))
        self.assertEqual(row["parent_id"], uuid.UUID(event["parent_id"]))
        self.assertEqual(row["data"], exact_json(json.dumps(event["data"])))
        self.assertEqual(row["extra"], exact_json('{"anything_else":1,"more":{"x":[null]}}'))
        self.assertEqual(row["producer_uid"], os.getuid())

    def test_what_is_missing_is_filled_or_null(self):
        daemon = self.start_daemon()
        before = datetime.datetime.now(UTC)
        row = self.ship_one(daemon, {})
        after = datetime.datetime.now(UTC)
        self.assertEqual(row["id"].version, 7)
        self.assertTrue(before <= row["received_at"] <= after, row["received_at"])
        self.assertEqual(row["occurred_at"], row["received_at"])
        self.assertEqual(row["type"], "log")
        for column in ("source", "session_id", "parent_id", "data", "extra", "dedupe_key"):
            self.assertIsNone(row[column], column)

    def test_null_counts_as_missing_but_in_data_it_is_a_value(self):
        daemon = self.start_daemon()
        row = self.ship_one(daemon, {"type": None, "source": None, "session_id": None, "time": None,
                                     "parent_id": None, "id": None, "data": None})
        self.assertEqual((row["type"], row["source"], row["session_id"], row["parent_id"]),
                         ("log", None, None, None))
        self.assertEqual(row["data_text"], "null")
        self.assertIsNone(row["extra"])

    def test_data_may_be_any_json_value(self):
        daemon = self.start_daemon()
        values = ["text", 1, -1.5, True, False, [], {}, [[[]]], {"": {"": ""}}]
        rows = self.ship_all(daemon, [{"data": value} for value in values])
        self.assertEqual([row["data"] for row in rows],
                         [exact_json(json.dumps(value)) for value in values])

    def test_unknown_fields_stand_in_extra_together(self):
        daemon = self.start_daemon()
        row = self.ship_one(daemon, b'{"a":1.10,"type":"t","b":"x\\ty","data":{"c":2},"d":[{}],'
                                    b'"level":"info","\\u00e9":null}')
        self.assertEqual(row["extra"], {"a": decimal.Decimal("1.10"), "b": "x\ty", "d": [{}],
                                        "level": "info", "é": None})
        self.assertEqual(row["data"], {"c": 2})

    def test_numbers_keep_their_digits(self):
        daemon = self.start_daemon()
        numbers = ["0", "1.50", "-0.000", "18446744073709551616", "-9223372036854775809",
                   "0.1000000000000000055511151231257827", "3.14159265358979323846264338327950288",
                   "123456789012345678901234567890.123456789012345678901234567890", "1e308", "1E-308",
                   "12.5e+3", "-1.0e-5", "9007199254740993", "1e-400", "5e-324"]
        line = '{"data":[%s],"n":%s}' % (",".join(numbers), numbers[7])
        row = self.ship_one(daemon, line)
        stored = row["data"]
        for number, value in zip(numbers, stored):
            self.assertEqual(value, decimal.Decimal(number), number)
            if "e" not in number.lower():
                self.assertEqual(str(value), str(decimal.Decimal(number)).replace("-0.000", "0.000"))
        self.assertEqual(row["extra"]["n"], decimal.Decimal(numbers[7]))

    def test_text_arrives_as_sent_in_every_column(self):
        daemon = self.start_daemon()
        for ascii_only in (True, False):  # as \uXXXX escapes, and as UTF-8
            events = [{"source": text, "session_id": text, "data": {"text": text, text: 1},
                       "unknown": text, "n": n} for n, text in enumerate(HARD_TEXT)]
            lines = [json.dumps(event, ensure_ascii=ascii_only) for event in events]
            rows = sorted(self.ship_all(daemon, lines), key=lambda row: row["extra"]["n"])
            for text, row in zip(HARD_TEXT, rows):
                self.assertEqual(row["source"], text)
                self.assertEqual(row["session_id"], text)
                self.assertEqual(row["data"], {"text": text, text: 1})
                self.assertEqual(row["extra"]["unknown"], text)

    def test_random_json_is_equal_by_value(self):
        seed = random.randrange(2**32)
        say(f"seed {seed}")
        source = random.Random(seed)
        daemon = self.start_daemon()
        events = [{"data": random_value(source, 5), "other": random_value(source, 3), "n": n}
                  for n in range(2000)]
        lines = [json.dumps(event, ensure_ascii=source.random() < 0.5) for event in events]
        rows = sorted(self.ship_all(daemon, lines), key=lambda row: row["extra"]["n"])
        self.assertEqual(len(rows), len(events))
        for line, row in zip(lines, rows):
            sent = exact_json(line)
            self.assertEqual(row["data"], sent["data"])
            self.assertEqual(row["extra"], {"other": sent["other"], "n": sent["n"]})

    def test_a_large_string_is_stored_whole(self):
        daemon = self.start_daemon({"ingest": {"line_bytes_max": "8MiB"}})
        text = "x" * (3 * 2**20) + "end"
        row = self.ship_one(daemon, {"data": text, "source": text})
        self.assertEqual(row["data"], text)
        self.assertEqual(row["source"], text)

    def test_id_may_be_a_uuid_or_a_ulid(self):
        daemon = self.start_daemon()
        rows = self.ship_all(daemon, [{"id": "00000000-0000-4000-8000-00000000ABCD", "n": 0},
                                      {"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "n": 1}])
        rows.sort(key=lambda row: row["extra"]["n"])
        self.assertEqual(str(rows[0]["id"]), "00000000-0000-4000-8000-00000000abcd")
        self.assertEqual(rows[1]["id"].hex, "01563e3ab5d3d6764c61efb99302bd5b")

    def test_times_of_every_accepted_form(self):
        daemon = self.start_daemon()
        base = datetime.datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
        us = datetime.timedelta(microseconds=1)
        seconds = int(base.timestamp())
        forms = [
            ('"2026-03-04T05:06:07Z"', base),
            ('"2026-03-04t05:06:07z"', base),
            ('"2026-03-04T07:36:07+02:30"', base),
            ('"2026-03-04T05:06:07.000001Z"', base + us),
            ('"2026-03-04T05:06:07.0000005Z"', base),  # half to even
            ('"2026-03-04T05:06:07.0000015Z"', base + 2 * us),
            ('"2026-03-04T05:06:07.000000501Z"', base + us),
            ('"2026-03-04T05:05:60Z"', base.replace(second=0)),
            (str(seconds), base),
            (f"{seconds}.5", base + 500_000 * us),
            (f"{seconds}123", base + 123_000 * us),
            (f"{seconds}123456", base + 123_456 * us),
            (f"{seconds}123456789", base + 123_457 * us),
        ]
        rows = self.ship_all(daemon, ['{"time":%s,"n":%d}' % (text, n)
                                      for n, (text, _) in enumerate(forms)])
        rows.sort(key=lambda row: row["extra"]["n"])
        for (text, expected), row in zip(forms, rows):
            self.assertEqual(row["occurred_at"], expected, text)
            self.assertEqual(list(row["extra"]), ["n"], text)

    def test_time_is_taken_from_the_first_of_its_fields(self):
        daemon = self.start_daemon()
        rows = self.ship_all(daemon, [
            {"ts": 1767225600, "n": 0}, {"@timestamp": "2026-01-01T00:00:00Z", "n": 1},
            {"ts": 1, "timestamp": 1767225600, "n": 2}])
        for row in rows:
            self.assertEqual(row["occurred_at"], datetime.datetime(2026, 1, 1, tzinfo=UTC))
        last = max(rows, key=lambda row: row["extra"]["n"])
        self.assertEqual(last["extra"], {"ts": 1, "n": 2})

    def test_misfits_are_kept_in_extra_and_counted(self):
        daemon = self.start_daemon()
        misfits = [("type", 7), ("type", ""), ("type", "x" * 201), ("type", "a\nb"), ("id", 17),
                   ("id", "no-uuid"), ("source", {"a": 1}), ("session_id", 5), ("parent_id", "no"),
                   ("parent_id", 1), ("time", "now"), ("time", "infinity"),
                   ("time", "2026-02-30T00:00:00Z"), ("time", "2026-01-01T00:00:00"),
                   ("time", "2026-01-01T00:00:00+99:99"), ("time", "300000-01-01T00:00:00Z"),
                   ("time", True)]
        before = daemon.metrics()
        rows = self.ship_all(daemon, [{name: value, "n": n}
                                      for n, (name, value) in enumerate(misfits)])
        rows.sort(key=lambda row: row["extra"]["n"])
        for (name, value), row in zip(misfits, rows):
            self.assertEqual(row["extra"].get(name), value, (name, row))
            if name == "type":
                self.assertEqual(row["type"], "log")
            elif name == "time":
                self.assertEqual(row["occurred_at"], row["received_at"])
            elif name == "id":
                self.assertEqual(row["id"].version, 7)
            else:
                self.assertIsNone(row[name])
        after = daemon.metrics()
        for name in ("type", "id", "source", "session_id", "parent_id", "time"):
            series = f'sluice_misfits_total{{field="{name}"}}'
            self.assertEqual(after[series] - before.get(series, 0),
                             sum(1 for field, _ in misfits if field == name), name)

    def test_ids_are_unique_and_in_the_order_of_each_connection(self):
        daemon = self.start_daemon()
        producers = [connect(daemon.socket_path) for _ in range(5)]
        for first in range(0, 2000, 100):
            for number, producer in enumerate(producers):
                producer.sendall(numbered(f"p{number}", first, 100))
        for producer in producers:
            producer.close()
        self.wait_quiet(daemon, 10_000)
        self.assert_each_once({f"p{number}": 2000 for number in range(5)})
        self.assertEqual(self.query("SELECT count(DISTINCT id) FROM events"), [(10_000,)])
        for number in range(5):
            ordered = self.query("SELECT (data->>'n')::int FROM events WHERE source = %s ORDER BY id",
                                 [f"p{number}"])
            self.assertEqual([n for n, in ordered], list(range(2000)))

    def test_with_one_lane_commits_follow_the_ids(self):
        daemon = self.start_daemon({"postgres": {"lanes": 1, "batch_rows_max": 100}})
        for number in range(10):
            send(daemon.socket_path, numbered(f"p{number}", 0, 500).rstrip(b"\n"))
        self.wait_quiet(daemon, 5000)
        by_place = self.query("SELECT id FROM events ORDER BY ctid")
        self.assertEqual(by_place, sorted(by_place))

    def test_crlf_and_empty_lines(self):
        daemon = self.start_daemon()
        with connect(daemon.socket_path) as producer:
            producer.sendall(b'\xef\xbb\xbf{"n":1}\r\n\n   \n\r\n{"n":2}\n \t \r\n{"n":3}\r\n')
        self.wait_quiet(daemon, 3)
        self.assertEqual([row["extra"]["n"] for row in self.rows()], [1, 2, 3])
        self.assertEqual(daemon.metrics()['sluice_lines_skipped_total{reason="empty"}'], 4)

    def test_a_sender_of_single_bytes_is_served(self):
        daemon = self.start_daemon()
        with connect(daemon.socket_path) as producer:
            for byte in as_line({"source": "slow", "data": HARD_TEXT[:8]}):
                producer.sendall(bytes([byte]))
        self.wait_quiet(daemon, 1)
        self.assertEqual(self.rows()[0]["data"], HARD_TEXT[:8])

    def test_commits_are_on_disk_also_where_the_database_says_they_need_not_be(self):
        self.query(f"ALTER DATABASE {self.dbname} SET synchronous_commit = off")
        self.query("ALTER TABLE events ADD COLUMN committed text"
                   " DEFAULT current_setting('synchronous_commit')")
        self.ship(self.start_daemon(), {"n": 1})
        self.assertEqual(self.query("SELECT committed FROM events"), [("on",)])

    def test_a_line_without_newline_at_the_end_is_no_event(self):
        daemon = self.start_daemon()
        with connect(daemon.socket_path) as producer:
            producer.sendall(b'{"n":1}\n{"n":2}')
        self.wait_quiet(daemon, 1)
        self.assertEqual([row["extra"]["n"] for row in self.rows()], [1])
        self.assertEqual(daemon.metrics()['sluice_lines_skipped_total{reason="partial"}'], 1)


def random_value(source, depth):
    kind = source.randrange(8 if depth else 6)
    if kind == 0:
        return source.choice([None, True, False])
    if kind == 1:
        return source.randrange(-10**12, 10**12)
    if kind == 2:
        return source.uniform(-1e6, 1e6)
    if kind in (3, 4, 5):
        return random_text(source)
    if kind == 6:
        return [random_value(source, depth - 1) for _ in range(source.randrange(5))]
    return {random_text(source): random_value(source, depth - 1) for _ in range(source.randrange(5))}


def random_text(source):
    ranges = [(0x20, 0x7e), (0x01, 0x1f), (0xa0, 0x24f), (0x4e00, 0x4fff), (0x1f600, 0x1f64f)]
    return "".join(chr(source.randint(*source.choice(ranges))) for _ in range(source.randrange(20)))


if __name__ == "__main__":
    unittest.main()
