#!/usr/bin/python3
"""Bad input, row by row: what each line comes to, through the socket and in the table, with acks and
without. docs/bad_input.md names the rows, and the tests of those that are not here."""

import glob
import hashlib
import json
import os
import re
import unittest

from support.asking import Asking
from support.producer import send
from support.refused_lines import kept_in
from support.sluice_test import SluiceTest
from support.waiting import wait_until

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# In every payload; never in the log.
MARK = b"m4rk3r"


def marked(inside):
    return b'{"mark":"' + MARK + b'",' + inside + b"}"


def nested(depth):
    return b'{"' + MARK + b'":' + b'{"a":' * (depth - 2) + b"{}" + b"}" * (depth - 1)


def keys(count):
    return b"{" + b",".join(b'"' + MARK + b'%d":1' % n for n in range(count)) + b"}"


class Row:
    """Lines that all come to the same: `code` of the nack, or None: they are stored."""

    def __init__(self, name, code, lines, **settings):
        self.name = name
        self.code = code
        self.lines = lines
        self.settings = settings  # of [ingest]
        self.field = settings.pop("field", None)  # that the nack names


BAD_UTF8 = [marked(b'"a":"\xc3\x28"'), marked(b'"a":"\xc0\xaf"'), marked(b'"a":"\xed\xa0\x80"'),
            marked(b'"a":"\xf4\x90\x80\x80"'), marked(b'"a":"\xff"')]
SURROGATES = [marked(b'"a":"\\ud800"'), marked(b'"a":"\\udc00\\ud800"')]
NULS = [marked(b'"a":"x\\u0000"'), marked(b'"k\\u0000":1')]
TWICE = [marked(b'"a":1,"a":2'), marked(b'"type":"t","type":"u"')]
BAD_TIMES = [marked(b'"time":"%s"' % text) for text in (
    b"now", b"today", b"infinity", b"epoch", b"300000-01-01T00:00:00Z", b"-4713-01-01T00:00:00Z",
    b"0000-01-01T00:00:00Z", b"2026-02-30T00:00:00Z", b"2026-01-01T00:00:00+99:99",
    b"2026-01-01T00:00:00")]
MISFITS = [marked(b'"source":{}'), marked(b'"source":5')]

ROWS = [
    Row("longer than line_bytes_max", "too_long", [marked(b'"a":"%s"' % (b"x" * 70_000))],
        line_bytes_max="64KiB"),
    Row("byte order mark inside", "syntax", [b"\xef\xbb\xbf" + marked(b'"a":1')]),
    Row("raw NUL", "bad_byte", [marked(b'"a":1') + b"\0junk", marked(b'"a":"\0"'), b"\0" + MARK]),
    Row("raw control characters", "syntax",
        [marked(b'"a":"\x01"'), marked(b'"a":"\t"'), marked(b'"a":"\x1b[2J"'), marked(b'"a":"\x1f"')]),
    Row("invalid UTF-8, replaced", None, BAD_UTF8),
    Row("invalid UTF-8, rejected", "bad_utf8", BAD_UTF8, text="reject"),
    Row("escaped NUL, replaced", None, NULS),
    Row("escaped NUL, stripped", None, NULS, nul="strip"),
    Row("escaped NUL, rejected", "nul", NULS, nul="reject"),
    Row("lone and swapped surrogates, replaced", None, SURROGATES),
    Row("lone and swapped surrogates, rejected", "bad_utf8", SURROGATES, text="reject"),
    Row("not an object", "not_object",
        [b'["' + MARK + b'"]', b'"' + MARK + b'"', b"1", b"null", b"true", b"[]"]),
    Row("two documents, trailing junk", "trailing",
        [marked(b'"a":1') * 2, marked(b'"a":1') + b" x", marked(b'"a":1') + b","]),
    Row("depth 64", None, [nested(64)]),
    Row("depth over 64", "too_deep", [nested(65), nested(100_000)]),
    Row("1000 keys of 1 KiB at most", None, [keys(1000), b'{"' + b"k" * 1024 + b'":1}']),
    Row("more keys, longer keys", "limits", [keys(1001), b'{"' + b"k" * 1025 + b'":1}']),
    Row("duplicate keys, the last counts", None, TWICE),
    Row("duplicate keys, rejected", "duplicate_key", TWICE, dup_key="reject"),
    Row("integers beyond int64", None, [marked(b'"a":18446744073709551616'),
                                        marked(b'"a":-9223372036854775809')]),
    Row("numbers out of range", "number_range",
        [marked(b'"a":1e400'), marked(b'"a":[1e131071]'), marked(b'"a":-1e309')]),
    Row("no JSON numbers, comments, trailing commas", "syntax",
        [marked(b'"a":' + text) for text in (b"NaN", b"Infinity", b"01", b"+1", b".5", b"0x10", b"1.",
                                             b"/*c*/1", b"1,", b"tru")] +
        [b"{", b"{'" + MARK + b"':1}", b'{"' + MARK + b'"}', b"hello " + MARK,
         marked(b'"a":"\\x41"'), marked(b'"a":"\\u12g4"'), b'{"a":"' + MARK]),
    Row("limits as configured, at", None,
        [nested(70), keys(5), marked(b'"a":1e9'), b'{"' + b"k" * 64 + b'":1}',
         marked(b'"time":"2300-01-01T00:00:00Z"')],
        depth_max=70, keys_max=5, key_bytes_max=64, exponent_max=9, last_year=2300),
    Row("limits as configured, deeper", "too_deep", [nested(71)],
        depth_max=70, keys_max=5, key_bytes_max=64, exponent_max=9, last_year=2300),
    Row("limits as configured, more", "limits", [keys(6), b'{"' + b"k" * 65 + b'":1}'],
        depth_max=70, keys_max=5, key_bytes_max=64, exponent_max=9, last_year=2300),
    Row("limits as configured, greater", "number_range", [marked(b'"a":1e10')],
        depth_max=70, keys_max=5, key_bytes_max=64, exponent_max=9, last_year=2300),
    Row("limits as configured, later", "misfit", [marked(b'"time":"2301-01-01T00:00:00Z"')],
        last_year=2300, misfit="reject", field="time"),
    Row("-0 and 1e-400", None, [marked(b'"a":-0'), marked(b'"a":1e-400')]),
    Row("unreadable times, kept", None, BAD_TIMES),
    Row("unreadable times, rejected", "misfit", BAD_TIMES, misfit="reject", field="time"),
    Row("leap second, nanoseconds, lower case", None,
        [marked(b'"time":"2026-06-30T23:59:60Z"'), marked(b'"time":"2026-01-01t00:00:00.123456789z"')]),
    Row("times far from now", None, [marked(b'"time":"1971-01-01T00:00:00Z"'),
                                     marked(b'"time":"2199-01-01T00:00:00Z"')]),
    Row("required type missing", "schema", [marked(b'"a":1'), marked(b'"type":""')],
        default_type="", field="type"),
    Row("known fields of a wrong type, kept", None, MISFITS),
    Row("known fields of a wrong type, rejected", "misfit", MISFITS, misfit="reject",
        field="source"),
    Row("dedupe_key empty, long, no string, with NUL", "dedupe_key",
        [marked(b'"dedupe_key":""'), marked(b'"dedupe_key":"%s"' % (b"k" * 257)),
         marked(b'"dedupe_key":7'), marked(b'"dedupe_key":"a\\u0000"')]),
    Row("text that COPY could stumble over", None,
        [marked(b'"data":"\\t\\n\\r\\\\"'), marked(b'"data":"\\\\N"'), marked(b'"data":"\\\\."'),
         marked(b'"source":"\\\\."'), marked(b'"type":"\\\\N"')]),
    Row("terminal escapes, log4j, SQL", None,
        [marked(b'"data":"\\u001b[2J${jndi:ldap://x}"'), marked(b'"source":"\'; DROP TABLE events; --"')]),
    Row("a TLS hello, HTTP", "syntax", [b"\x16\x03\x01\x02" + MARK, b"GET /" + MARK + b" HTTP/1.1"]),
]


class BadInput(SluiceTest):
    def daemons(self):
        """(daemon, its rows) for each of the settings that rows ask for."""
        groups = {}
        for row in ROWS:
            groups.setdefault(tuple(sorted(row.settings.items())), []).append(row)
        for settings, rows in groups.items():
            yield self.start_daemon({"ingest": dict(settings)}), rows

    def stored(self):
        return self.query("SELECT count(*) FROM events")[0][0]

    def ask(self, daemon, row):
        """Sends the row's lines with acks, between two good ones. Returns the nacks."""
        good = b'{"type":"good"}'
        with Asking(daemon.socket_path) as producer:
            producer.write(good, *row.lines, good)
            answers = producer.finish()
        refused = len(row.lines) if row.code else 0
        lines = len(row.lines) + 2
        self.assertEqual(answers[-1], {"done": lines, "stored": lines - refused, "duplicate": 0,
                                       "rejected": refused}, row.name)
        return [answer for answer in answers if "nack" in answer]

    def test_each_row_with_acks(self):
        for daemon, rows in self.daemons():
            for row in rows:
                with self.subTest(row.name):
                    before = self.stored()
                    nacks = self.ask(daemon, row)
                    expected = {"code": row.code, "retry": False}
                    if row.field:
                        expected["field"] = row.field
                    self.assertEqual(nacks, [dict(expected, nack=n) for n in range(2, len(row.lines) + 2)]
                                     if row.code else [])
                    self.wait_quiet(daemon)
                    self.assertEqual(self.stored() - before,
                                     2 + (0 if row.code else len(row.lines)))
            self.assertEqual(kept_in(daemon), [])
            self.assertNotIn(MARK.decode(), daemon.log_text())

    def test_each_row_without_acks(self):
        for daemon, rows in self.daemons():
            expected = []
            for row in rows:
                with self.subTest(row.name):
                    before = self.stored()
                    self.ship(daemon, b'{"type":"good"}', *row.lines, b'{"type":"good"}')
                    self.assertEqual(self.stored() - before,
                                     2 + (0 if row.code else len(row.lines)))
                    if row.code:
                        expected += [(row.code, b"" if row.code == "too_long" else line)
                                     for line in row.lines]
            wait_until(lambda: len(kept_in(daemon)) >= len(expected), 20, "refused lines to be kept")
            self.assertEqual([(record["sqlstate"], record["line"].encode(errors="surrogateescape"))
                              for record in kept_in(daemon)], expected)
            self.assertNotIn(MARK.decode(), daemon.log_text())
            self.assertNotIn("\x1b", daemon.log_text())

    def test_what_routes_ask_of_an_event(self):
        self.query("CREATE TABLE numbers (n bigint, owner text NOT NULL, dedupe_key text)")
        daemon = self.start_daemon({"toml": """
[[route]]
match   = "number"
table   = "numbers"
dedupe  = ["owner", { from = "/data/text", limit = 3 }]
columns = [ { name = "n", from = "n" }, { name = "owner", from = "owner", required = true },
            { name = "dedupe_key", from = "$dedupe_key" } ]
"""})
        with Asking(daemon.socket_path) as producer:
            producer.write({"type": "number", "n": 1, "owner": "a", "data": {"text": "\u00e4bcd"}},
                           {"type": "number", "n": 2}, {"type": "number", "n": 3, "own": "x"},
                           {"type": "other"},
                           {"type": "number", "n": 18446744073709551616, "owner": "big"},
                           {"owner": "a", "n": 4, "data": {"text": "\u00e4bce"}, "type": "number"})
            answers = producer.finish()
        self.assertEqual([(answer["code"], answer.get("field")) for answer in answers
                          if "nack" in answer],
                         [("schema", "owner"), ("schema", "owner"), ("no_route", None)])
        self.assertEqual(answers[-1], {"done": 6, "stored": 2, "duplicate": 1, "rejected": 3})
        self.wait_quiet(daemon)
        key = hashlib.sha256("a|\u00e4bc".encode()).hexdigest()[:32]
        self.assertEqual(self.query("SELECT n, owner, dedupe_key FROM numbers"), [(1, "a", key)])
        self.assertEqual(daemon.events("set_aside"), 1)
        [path] = glob.glob(os.path.join(daemon.spool_dir, "aside", "dead-*.ndjson"))
        with open(path) as file:
            self.assertEqual(json.loads(file.readline())["sqlstate"], "22003")

    def test_the_page_names_every_row_and_tests_that_exist(self):
        with open(os.path.join(ROOT, "docs", "bad_input.md")) as file:
            page = file.read()
        for row in ROWS:
            self.assertIn(row.name, page)
        named = re.findall(r"`((?:integration|unit)/\w+)`: `([^`]+)`", page)
        self.assertGreater(len(named), 5)
        for name, test in named:
            [path] = glob.glob(os.path.join(ROOT, "tests", name + ".*"))
            with open(path) as file:
                self.assertIn(test, file.read(), name)


if __name__ == "__main__":
    unittest.main()
