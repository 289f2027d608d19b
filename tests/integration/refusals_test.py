#!/usr/bin/python3
"""Lines that are refused: each is counted under its code, its neighbours are stored, and the
connection lives."""

import array
import os
import socket
import unittest

from support.producer import as_line, connect
from support.sluice_test import SluiceTest
from support.waiting import wait_until


def nested(depth):
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


class Refusals(SluiceTest):
    def test_refused_lines_are_counted_by_their_code_and_the_connection_lives(self):
        daemon = self.start_daemon()
        self.ship(daemon, b"{", b"[1]", b'{"n":1}', b"{", b'{"a":"\0"}', b'{"n":2}')
        self.assertEqual([daemon.rejected(code) for code in ("syntax", "not_object", "bad_byte")],
                         [2, 1, 1])
        self.assertEqual(len(self.rows()), 2)
        self.assertEqual(daemon.metrics()["sluice_connections_opened_total"], 1)

    def test_what_is_at_the_limits_is_accepted(self):
        daemon = self.start_daemon()
        lines = [nested(64), b"{" + b",".join(b'"k%d":1' % n for n in range(1000)) + b"}",
                 b'{"' + b"k" * 1024 + b'":1}', b'{"dedupe_key":"%s"}' % (b"k" * 256),
                 b'{"a":[-0,1e-400,1e308]}', b'{"type":"%s"}' % (b"t" * 200)]
        self.ship(daemon, *lines)
        self.assertEqual(len(self.rows()), len(lines))

    def test_a_byte_order_mark_inside_is_refused(self):
        daemon = self.start_daemon()
        self.ship(daemon, b'\xef\xbb\xbf{"n":1}', b'\xef\xbb\xbf{"n":2}', b'{"n":3}')
        self.assertEqual([row["extra"]["n"] for row in self.rows()], [1, 3])

    def test_a_line_longer_than_allowed_is_skipped(self):
        daemon = self.start_daemon({"ingest": {"line_bytes_max": "64KiB"}})
        fits = b'{"data":"%s"}' % (b"x" * (65536 - 11))
        self.assertEqual(len(fits), 65536)
        self.ship(daemon, fits, fits[:-2] + b'x"}', b'{"n":1}', b"y" * 1_000_000, b'{"n":2}')
        self.assertEqual(len(self.rows()), 3)
        self.assertEqual(daemon.rejected("too_long"), 2)

    def test_foreign_protocols_are_refused_line_by_line(self):
        daemon = self.start_daemon()
        with connect(daemon.socket_path) as producer:
            producer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\x16\x03\x01\x02\x00\x01\n" +
                             os.urandom(50_000).replace(b"{", b"x") + b"\n")
            producer.sendall(as_line({"n": 1}))
        wait_until(lambda: daemon.events("committed") == 1, 20, "the good line")
        self.assertGreaterEqual(daemon.events("rejected"), 4)
        self.assertNotIn("GET /", daemon.log_text())

    def test_payloads_never_reach_the_log(self):
        daemon = self.start_daemon()
        self.ship(daemon, b'{"secret":"hunter2"', b'{"secret":"hunter2","dedupe_key":1}',
                  b'{"secret":"\x1b[2Jhunter2"}', b'{"secret":"hunter2"}')
        self.assertNotIn("hunter2", daemon.log_text())
        self.assertNotIn("\x1b", daemon.log_text())

    def test_file_descriptors_that_are_sent_along_are_dropped(self):
        daemon = self.start_daemon()
        with connect(daemon.socket_path) as producer:
            producer.sendall(as_line({"n": 0}))
            self.wait_quiet(daemon, 1)
            before = daemon.open_files()
            with open("/dev/null") as null:
                rights = array.array("i", [null.fileno()] * 10)
                for n in range(20):
                    producer.sendmsg([as_line({"n": n})],
                                     [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            wait_until(lambda: daemon.events("received") == 21, 20, "all lines")
            # Files and connections of its own come and go; what was sent along would be 200.
            wait_until(lambda: daemon.open_files() <= before + 10, 20, "no more files than before")
        self.wait_quiet(daemon, 21)

    def test_a_producer_that_is_killed_loses_nothing_it_sent(self):
        daemon = self.start_daemon()
        for n in range(50):
            child = os.fork()
            if child == 0:
                producer = connect(daemon.socket_path)
                producer.sendall(as_line({"n": n}) * 10)
                os.kill(os.getpid(), 9)
            os.waitpid(child, 0)
        self.wait_quiet(daemon, 500)
        self.assertEqual(len(self.rows()), 500)


if __name__ == "__main__":
    unittest.main()
