#!/usr/bin/python3
"""Many producers, endless lines, half lines: each is served and memory stays where it is."""

import os
import socket
import threading
import unittest

from support.postgres_cluster import free_port
from support.producer import Load, as_line, connect
from support.sluice_test import SluiceTest, say
from support.waiting import SLOWNESS, wait_until

MIB = 2**20


class Producers(SluiceTest):
    def test_a_hundred_producers_at_once(self):
        daemon = self.start_daemon()
        loads = {f"p{n}": Load(daemon.socket_path, f"p{n}", total=1000, lines_per_write=17)
                 for n in range(100)}
        for load in loads.values():
            load.start()
        for load in loads.values():
            load.join(60)
        self.wait_quiet(daemon, 100_000)
        self.assert_each_once({name: 1000 for name in loads})

    def test_a_hundred_megabytes_without_newline_leave_memory_flat(self):
        daemon = self.start_daemon()
        with connect(daemon.socket_path) as producer:
            producer.sendall(as_line({"n": 1}))
            self.wait_quiet(daemon, 1)
            before = daemon.memory_bytes()
            for _ in range(100):
                producer.sendall(b"x" * 1_000_000)
            grown = daemon.memory_bytes(peak=True) - before
            producer.sendall(b"\n" + as_line({"n": 2}))
            self.wait_quiet(daemon, 3)
        say(f"memory grew by {grown / MIB:.1f} MiB")
        # Sanitizers keep memory of their own beside each byte.
        self.assertLess(grown, (8 if SLOWNESS == 1 else 40) * MIB)
        self.assertEqual([row["extra"]["n"] for row in self.rows()], [1, 2])
        self.assertEqual(daemon.rejected("too_long"), 1)

    def test_many_half_lines_lock_nobody_out(self):
        daemon = self.start_daemon({"ingest": {"queue_bytes_max": "4MiB"}})
        half = b'{"data":"' + b"x" * 900_000
        halves = [connect(daemon.socket_path) for _ in range(40)]
        writers = [threading.Thread(target=producer.sendall, args=(half,), daemon=True)
                   for producer in halves]
        for writer in writers:
            writer.start()
        # Those that are not read now must be finished by their senders' other halves.
        ends = [threading.Thread(target=self._finish, args=(writer, producer), daemon=True)
                for writer, producer in zip(writers, halves)]
        for end in ends:
            end.start()
        with connect(daemon.socket_path) as producer:
            producer.sendall(as_line({"n": 1}))
            wait_until(lambda: daemon.events("committed") >= 1, 30, "the first whole line")
        self.wait_quiet(daemon, 41)
        self.assertEqual(len(self.rows()), 41)

    @staticmethod
    def _finish(writer, producer):
        writer.join()
        producer.sendall(b'"}\n')
        producer.close()

    def test_idle_connections_cost_nothing(self):
        daemon = self.start_daemon()
        idle = [connect(daemon.socket_path) for _ in range(500)]
        wait_until(lambda: daemon.metrics()["sluice_connections"] == 500, 20, "500 connections")
        before = daemon.cpu_seconds()
        with connect(daemon.socket_path) as producer:
            producer.sendall(as_line({"n": 1}))
        self.wait_quiet(daemon, 1)
        self.assertLess(daemon.cpu_seconds() - before, 1)
        for producer in idle:
            producer.close()
        wait_until(lambda: daemon.metrics()["sluice_connections"] == 0, 20, "all to be closed")

    def test_connections_beyond_the_cap_wait_for_their_turn(self):
        daemon = self.start_daemon({"ingest": {"connections_max": 5}})
        first = [connect(daemon.socket_path) for _ in range(5)]
        wait_until(lambda: daemon.metrics()["sluice_connections"] == 5, 20, "five connections")
        late = connect(daemon.socket_path)
        late.sendall(as_line({"n": 1}))
        late.close()
        self.assertEqual(daemon.metrics()["sluice_connections"], 5)
        for producer in first:
            producer.close()
        self.wait_quiet(daemon, 1)
        self.assertEqual(len(self.rows()), 1)

    def test_a_user_who_is_not_allowed_is_closed_at_once(self):
        daemon = self.start_daemon({"ingest": {"allow_uids": [54321]}})
        with connect(daemon.socket_path) as producer:
            self.assertEqual(producer.recv(1), b"")
        own = "root" if os.geteuid() == 0 else "system" if os.geteuid() < 1000 else "user"
        series = f'sluice_connections_refused_total{{reason="uid",uid="{own}"}}'
        wait_until(lambda: daemon.metrics()[series] == 1, 20, "the count")


class FromTcp(SluiceTest):
    def test_events_over_loopback_have_no_uid(self):
        port = free_port()
        daemon = self.start_daemon({"ingest": {"tcp": f"127.0.0.1:{port}"}})
        with socket.create_connection(("127.0.0.1", port)) as producer:
            producer.sendall(as_line({"n": 1}))
        self.wait_quiet(daemon, 1)
        self.assertIsNone(self.rows()[0]["producer_uid"])


if __name__ == "__main__":
    unittest.main()
