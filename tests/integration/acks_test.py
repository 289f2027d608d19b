#!/usr/bin/python3
"""What producers that ask for acks are told by a whole daemon: the protocol's page, played out."""

import select
import signal
import socket
import threading
import unittest

from support.asking import HELLO, Asking
from support.producer import as_line, connect, send
from support.sluice_test import SluiceTest
from support.waiting import wait_until


class Acks(SluiceTest):
    def test_a_session_from_hello_to_summary(self):
        daemon = self.start_daemon()
        with Asking(daemon.socket_path) as producer:
            self.assertEqual(producer.hello["sluice"], 1)
            self.assertEqual(producer.hello["line_bytes_max"], 1048576)
            self.assertEqual(producer.hello["dedupe_window_s"], 600)
            self.assertEqual(producer.hello["instance"], socket.gethostname())
            producer.write({"data": 1, "dedupe_key": "a"}, "", "[1]", {"data": 4, "dedupe_key": "a"})
            self.assertIn({"nack": 3, "code": "not_object", "retry": False}, producer.until_ack(4))
            producer.write({"data": 5})
            self.assertEqual(producer.finish()[-1],
                             {"done": 5, "stored": 2, "duplicate": 1, "rejected": 1})
        self.wait_quiet(daemon, 4)
        self.assertEqual([row["data"] for row in self.rows()], [1, 5])

    def test_a_producer_that_did_not_ask_reads_nothing(self):
        daemon = self.start_daemon()
        with connect(daemon.socket_path) as producer:
            producer.sendall(as_line({"data": 1}) + as_line("no JSON") + as_line(HELLO))
            producer.shutdown(socket.SHUT_WR)
            self.assertEqual(producer.recv(100), b"")
        self.wait_quiet(daemon, 3)

    def test_a_wrong_hello_is_explained(self):
        daemon = self.start_daemon()
        with Asking(daemon.socket_path, {"sluice": 1, "producer": "p"}) as producer:
            self.assertIn('"first":K', producer.hello["error"])
            self.assertIsNone(producer.answer())
        self.assertIn("asks for acks in a wrong way", daemon.log_text())

    def test_a_name_goes_on_where_it_was(self):
        daemon = self.start_daemon()
        hello = dict(HELLO, producer="builder-7", first=1)
        with Asking(daemon.socket_path, hello) as producer:
            self.assertEqual(producer.hello["have"], 0)
            producer.write(*[{"data": n} for n in range(1, 101)])
            producer.until_ack(100)
        with Asking(daemon.socket_path, dict(hello, first=51)) as producer:
            durable = producer.hello["durability"] != "memory"
            self.assertEqual(producer.hello["have"], 100 if durable else 0)
            producer.write(*[{"data": n} for n in range(51, 151)])
            summary = producer.finish()[-1]
            if durable:
                self.assertEqual(summary, {"done": 100, "stored": 50, "duplicate": 50, "rejected": 0})
        self.wait_quiet(daemon, 200)
        if durable:
            self.assertEqual([row["data"] for row in self.rows()], list(range(1, 151)))

    def test_a_row_that_postgres_refuses_is_nacked_to_who_waits_for_commits(self):
        self.query("ALTER TABLE events ADD CHECK (data <> '13')")
        daemon = self.start_daemon()
        with Asking(daemon.socket_path, dict(HELLO, ack="committed")) as producer:
            producer.write({"data": 12}, "", {"data": 13}, {"data": 14})
            self.assertEqual(producer.until_ack(4)[-2],
                             {"nack": 3, "code": "23514", "retry": False})
            self.assertEqual(producer.finish()[-1],
                             {"done": 4, "stored": 2, "duplicate": 0, "rejected": 1})
        self.assertEqual([row["data"] for row in self.rows()], [12, 14])

    def test_every_row_that_postgres_refuses_is_nacked(self):
        """Also where so many are refused that blocks are committed in many pieces."""
        self.query("ALTER TABLE events ADD CHECK (NOT data ? 'bad')")
        total = 1000
        for lanes in (1, 2):
            daemon = self.start_daemon({"postgres": {"lanes": lanes}})
            for every in (2, 7):
                with self.subTest(lanes=lanes, every=every):
                    bad = set(range(every, total + 1, every))
                    kind = f"{lanes} {every}"
                    with Asking(daemon.socket_path, dict(HELLO, ack="committed")) as producer:
                        producer.write(*[{"type": kind, "data": {"bad" if n in bad else "good": n}}
                                         for n in range(1, total + 1)])
                        answers = producer.finish()
                    nacked = [answer["nack"] for answer in answers if "nack" in answer]
                    self.assertEqual(sorted(nacked), sorted(bad))
                    self.assertEqual(answers[-1], {"done": total, "stored": total - len(bad),
                                                   "duplicate": 0, "rejected": len(bad)})
                    self.assertEqual(sum(row["type"] == kind for row in self.rows()),
                                     total - len(bad))
            self.wait_quiet(daemon, 2 * total)
            self.assertEqual(daemon.events("set_aside"), total // 2 + total // 7)
            daemon.stop()

    def test_a_duplicate_of_an_earlier_run_is_committed_when_its_original_is(self):
        daemon = self.start_daemon()
        event = {"data": 1, "dedupe_key": "a"}
        with self.cluster.connect(self.dbname) as other, other.transaction():
            other.execute("LOCK TABLE events")
            with Asking(daemon.socket_path) as producer:
                producer.write(event)
                producer.until_ack(1)
            daemon.signal(signal.SIGKILL)
            daemon.wait()
            daemon.start()
            producer = self.enterContext(
                Asking(daemon.socket_path, dict(HELLO, ack="committed")))
            producer.write(event)
            wait_until(lambda: daemon.events("duplicate") == 1, 30, "the duplicate to be seen")
            self.assertEqual(select.select([producer.socket], [], [], 0.5)[0], [])
        self.assertEqual(producer.until_ack(1), [{"ack": 1}])
        self.assertEqual([row["data"] for row in self.rows()], [1])

    def test_a_producer_that_never_reads_is_served_in_constant_memory(self):
        daemon = self.start_daemon()
        path = daemon.socket_path
        send(path, *[as_line({"data": n}) for n in range(1000)])
        self.wait_quiet(daemon, 1000)
        before = daemon.memory_bytes()
        with connect(path) as producer:
            producer.sendall(as_line(HELLO))
            for _ in range(50):
                producer.sendall(b"[]\n" * 20_000)
            producer.sendall(as_line({"data": "last"}))
            wait_until(lambda: daemon.events("received") == 1_001_001, 60, "all to be read")
        self.wait_quiet(daemon)
        self.check_memory(daemon.memory_bytes() - before, 16 << 20)
        self.assertEqual(self.rows()[-1]["data"], "last")


class Stopping(SluiceTest):
    def test_sigterm_gives_the_last_acks_and_the_summary(self):
        daemon = self.start_daemon()
        with Asking(daemon.socket_path) as producer:
            ended = threading.Event()

            def write_on():
                lines = b"".join(as_line({"data": n}) for n in range(200))
                try:
                    while not ended.is_set():
                        producer.socket.sendall(lines)
                except OSError:
                    pass

            writer = threading.Thread(target=write_on, daemon=True)
            writer.start()
            wait_until(lambda: daemon.events("received") > 2_000, 30, "the load")
            daemon.signal(15)
            answers = list(iter(producer.answer, None))
            ended.set()
            writer.join()
        self.assertEqual(daemon.wait(), 0)
        summary = answers[-1]
        self.assertEqual(answers[-2], {"ack": summary["done"]})
        self.assertEqual(summary["stored"], summary["done"])
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(summary["done"],)])


if __name__ == "__main__":
    unittest.main()
