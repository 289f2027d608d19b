#!/usr/bin/python3
"""The policies for text that Postgres cannot store, for misfits and for keys that come twice."""

import datetime
import unittest

from support.sluice_test import SluiceTest

NUL_LINES = [
    (b'{"n":0,"data":"a\\u0000b"}', "a\ufffdb", "ab"),
    (b'{"n":1,"data":["\\u0000",{"\\u0000k":"\\\\u0000 stays"}]}',
     ["\ufffd", {"\ufffdk": "\\u0000 stays"}], ["", {"k": "\\u0000 stays"}]),
    (b'{"n":2,"data":"\\\\\\u0000\\\\\\\\u0000"}', "\\\ufffd\\\\u0000", "\\\\\\u0000"),
]
BAD_TEXT_LINES = [
    (b'{"n":0,"data":"a\xc3\x28b"}', "a\ufffd(b"),
    (b'{"n":1,"data":"\xff\xfe"}', "\ufffd\ufffd"),
    (b'{"n":2,"data":"\\ud800"}', "\ufffd"),
    (b'{"n":3,"data":"\\udc00\\ud800 x"}', "\ufffd\ufffd x"),
    (b'{"n":4,"data":"\\ud83d\\ude80 \xf0\x9f\x9a\x80"}', "\U0001f680 \U0001f680"),
    (b'{"n":5,"source":"s\xe2\x82","data":"\xe2\x82"}', "\ufffd"),
    (b'{"n":6,"data":{"k\x80":"\\ud83dx"}}', {"k\ufffd": "\ufffdx"}),
]


class Policies(SluiceTest):
    def shipped(self, settings, lines):
        """The rows of these lines by their number n, and the daemon."""
        daemon = self.start_daemon({"ingest": settings})
        self.ship(daemon, *lines)
        return {int(row["extra"]["n"]): row for row in self.rows()}, daemon

    def test_nul_replace(self):
        rows, daemon = self.shipped({}, [line for line, _, _ in NUL_LINES])
        for n, (_, replaced, _) in enumerate(NUL_LINES):
            self.assertEqual(rows[n]["data"], replaced)
        self.assertEqual(daemon.metrics()['sluice_mended_total{what="nul"}'], 3)

    def test_nul_strip(self):
        rows, _ = self.shipped({"nul": "strip"}, [line for line, _, _ in NUL_LINES])
        for n, (_, _, stripped) in enumerate(NUL_LINES):
            self.assertEqual(rows[n]["data"], stripped)

    def test_nul_reject_takes_the_event_and_not_its_neighbours(self):
        lines = [b'{"n":10}'] + [line for line, _, _ in NUL_LINES] + [b'{"n":11,"data":"\\\\u0000"}']
        rows, daemon = self.shipped({"nul": "reject"}, lines)
        self.assertEqual(sorted(rows), [10, 11])
        self.assertEqual(rows[11]["data"], "\\u0000")
        self.assertEqual(daemon.rejected("nul"), 3)

    def test_nul_in_text_columns_and_extra(self):
        rows, _ = self.shipped({}, [b'{"n":0,"type":"a\\u0000","source":"\\u0000b",'
                                    b'"session_id":"\\u0000","x\\u0000":"\\u0000"}'])
        row = rows[0]
        self.assertEqual(row["source"], "\ufffdb")
        self.assertEqual(row["session_id"], "\ufffd")
        self.assertEqual(row["extra"]["x\ufffd"], "\ufffd")

    def test_bad_text_is_replaced(self):
        rows, daemon = self.shipped({}, [line for line, _ in BAD_TEXT_LINES])
        for n, (line, expected) in enumerate(BAD_TEXT_LINES):
            self.assertEqual(rows[n]["data"], expected, line)
        self.assertEqual(rows[5]["source"], "s\ufffd")
        self.assertEqual(daemon.metrics()['sluice_mended_total{what="text"}'],
                         len(BAD_TEXT_LINES) - 1)

    def test_bad_text_is_refused_and_good_text_is_not(self):
        rows, daemon = self.shipped({"text": "reject"}, [line for line, _ in BAD_TEXT_LINES])
        self.assertEqual(sorted(rows), [4])
        self.assertEqual(daemon.rejected("bad_utf8"), len(BAD_TEXT_LINES) - 1)

    def test_misfit_reject(self):
        rows, daemon = self.shipped({"misfit": "reject"}, [
            b'{"n":0,"type":1}', b'{"n":1}', b'{"n":2,"time":"now"}', b'{"n":3,"source":[]}',
            b'{"n":4,"id":"17"}', b'{"n":5,"type":null}'])
        self.assertEqual(sorted(rows), [1, 5])
        self.assertEqual(daemon.rejected("misfit"), 4)

    def test_the_last_of_two_equal_keys_counts(self):
        rows, daemon = self.shipped({}, [
            b'{"n":0,"data":1,"data":2,"source":"a","source":"b","x":1,"x":{"y":3}}'])
        self.assertEqual((rows[0]["data"], rows[0]["source"], rows[0]["extra"]["x"]),
                         (2, "b", {"y": 3}))
        self.assertEqual(daemon.metrics()["sluice_duplicate_keys_total"], 1)

    def test_duplicate_keys_reject(self):
        rows, daemon = self.shipped({"dup_key": "reject"}, [
            b'{"n":0,"data":1,"data":2}', b'{"n":1}', b'{"n":2,"\\u0078":1,"x":2}'])
        self.assertEqual(sorted(rows), [1])
        self.assertEqual(daemon.rejected("duplicate_key"), 2)

    def test_an_empty_default_type_makes_the_type_required(self):
        rows, daemon = self.shipped({"default_type": ""}, [b'{"n":0}', b'{"n":1,"type":"t"}'])
        self.assertEqual(sorted(rows), [1])
        self.assertEqual(daemon.rejected("schema"), 1)

    def test_time_fields_are_chosen_by_the_setting(self):
        rows, _ = self.shipped({"time_fields": ["when"]}, [
            b'{"n":0,"when":"2026-01-01T00:00:00Z","time":5}'])
        self.assertEqual(rows[0]["occurred_at"].isoformat(), "2026-01-01T00:00:00+00:00")
        self.assertEqual(rows[0]["extra"]["time"], 5)

    def test_a_time_without_a_zone(self):
        naive = b'{"n":0,"time":"2026-01-01T00:00:00"}'
        rows, _ = self.shipped({}, [naive])
        self.assertEqual(rows[0]["extra"], {"n": 0, "time": "2026-01-01T00:00:00"})

    def test_a_time_without_a_zone_is_utc_if_that_is_the_default(self):
        rows, _ = self.shipped({"default_zone": "UTC"}, [
            b'{"n":0,"time":"2026-01-01T00:00:00"}', b'{"n":1,"time":"2026-01-01T01:00:00+01:00"}'])
        for row in rows.values():
            self.assertEqual(str(row["occurred_at"].astimezone(datetime.timezone.utc)),
                             "2026-01-01 00:00:00+00:00")


if __name__ == "__main__":
    unittest.main()
