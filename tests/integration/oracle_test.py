#!/usr/bin/python3
"""The oracle and the producers that it judges, without a daemon: a lost event, a double one and a
broken promise are each seen."""

import json
import os
import random
import shutil
import socket
import tempfile
import threading
import unittest

from support.acking_producer import ACKED, KEYED, NAMED, OFFERED, PLAIN, REFUSED, AckingProducer
from support.oracle import Oracle
from support.waiting import wait_until


class AckServer:
    """The daemon's side of the socket in few lines: keeps what it acks, recognises what comes again,
    and hangs up now and then before or after it has kept something."""

    def __init__(self, seed, hang_up=True, lose=None, forget_keys=False, full_every=0):
        self.directory = tempfile.mkdtemp(prefix="sluice-as-", dir="/tmp")
        self.path = os.path.join(self.directory, "events.sock")
        self.rows = []
        self._random = random.Random(seed)
        self._hang_up = hang_up
        self._lose = lose
        self._forget_keys = forget_keys
        self._full_every = full_every
        self._keys = set()
        self._have = {}
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            with client, client.makefile("rb") as lines:
                self._answer(client, lines)
        except OSError:
            pass

    def _answer(self, client, lines):
        hello = json.loads(next(lines))
        name, first = hello.get("producer"), hello.get("first", 1)
        answer = {"sluice": 1, "durability": "power"}
        if name:
            answer["have"] = self._have.get(name, 0)
        self._say(client, answer)
        count = 0
        no_room = False
        for line in lines:
            if not line.endswith(b"\n"):
                return
            count += 1
            chance = self._random.random() if self._hang_up else 1
            if chance < 0.005:
                return
            full = no_room or (self._full_every and self._random.randrange(self._full_every) == 0)
            if full:
                no_room = name is not None  # behind that line nothing of this connection is taken
                self._say(client, {"nack": count, "code": "full", "retry": True})
            elif line != b"\n":
                self._keep(json.loads(line), name, first + count - 1)
            if chance < 0.01:
                return
            self._say(client, {"ack": count})
        self._say(client, {"done": count, "stored": count, "duplicate": 0, "rejected": 0})

    @staticmethod
    def _say(client, value):
        client.sendall(json.dumps(value).encode() + b"\n")

    def _keep(self, event, name, number):
        with self._lock:
            if name:
                if number <= self._have.get(name, 0):
                    return
                self._have[name] = number
            key = event.get("dedupe_key")
            if key and not self._forget_keys:
                if key in self._keys:
                    return
                self._keys.add(key)
            if event["data"]["n"] != self._lose:
                self.rows.append((event["source"], event["data"]["n"]))

    def query(self, _sql, parameters):
        return [(n,) for source, n in self.rows if source == parameters[0]]

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class Producers(unittest.TestCase):
    def run_against(self, kind, total=3000, **server):
        server = AckServer(seed=3, **server)
        self.addCleanup(server.close)
        producer = AckingProducer(server.path, "p", kind, total=total, window=100, lines_per_write=7)
        producer.start()
        wait_until(lambda: producer.made == total or not producer.is_alive(), 60, "the events")
        producer.finish()
        return server, producer

    def test_keyed_and_named_producers_bring_everything_through_hang_ups(self):
        for kind in (KEYED, NAMED):
            with self.subTest(kind=kind):
                server, producer = self.run_against(kind)
                found = Oracle(server.query).check([producer])
                self.assertEqual((found["acked"], found["rows"]), (3000, 3000))
                self.assertGreater(producer.connections, 5)

    def test_a_plain_producer_offers_nothing_twice(self):
        server, producer = self.run_against(PLAIN)
        found = Oracle(server.query).check([producer])
        self.assertEqual(producer.resent, 0)
        self.assertLessEqual(found["acked"], found["rows"])
        self.assertLess(found["acked"], 3000)

    def test_a_line_that_found_no_room_is_offered_again(self):
        for kind in (KEYED, NAMED):
            with self.subTest(kind=kind):
                server, producer = self.run_against(kind, hang_up=False, full_every=10)
                self.assertGreater(producer.nacks["full"], 100)
                self.assertEqual(Oracle(server.query).check([producer])["rows"], 3000)

    def test_a_lost_event_is_seen(self):
        server, producer = self.run_against(KEYED, lose=1234)
        with self.assertRaisesRegex(AssertionError, r"1 events acked and lost, such as \[1234\]"):
            Oracle(server.query).check([producer])

    def test_doubles_are_seen(self):
        server, producer = self.run_against(KEYED, forget_keys=True)
        with self.assertRaisesRegex(AssertionError, "stored more than once"):
            Oracle(server.query).check([producer])


class Verdicts(unittest.TestCase):
    class Told:
        name, kind = "p", KEYED
        states = bytearray([ACKED, OFFERED, REFUSED])

    SEGMENT = "01234567-89ab-4cde-8f01-23456789abcd"

    def oracle(self, rows, aside=(), upto=10):
        directory = tempfile.mkdtemp(prefix="sluice-or-", dir="/tmp")
        self.addCleanup(shutil.rmtree, directory)
        os.mkdir(os.path.join(directory, "aside"))
        with open(os.path.join(directory, "aside", "dead-1.ndjson"), "w") as file:
            for index, n in aside:
                line = json.dumps({"source": "p", "data": {"n": n}})
                file.write(json.dumps({"segment": self.SEGMENT, "index": index, "line": line}) + "\n")

        def query(sql, _parameters):
            return [(self.SEGMENT, upto)] if "watermark" in sql else [(n,) for n in rows]

        return Oracle(query, [directory])

    def test_rows_and_records_are_counted_together(self):
        self.assertEqual(self.oracle([0, 1]).check([self.Told])["rows"], 2)
        self.assertEqual(self.oracle([1], [(3, 0)]).check([self.Told])["set_aside"], 1)

    def test_a_record_above_the_watermark_is_void(self):
        with self.assertRaisesRegex(AssertionError, "acked and lost"):
            self.oracle([1], [(10, 0)]).check([self.Told])
        self.oracle([0], [(10, 0)]).check([self.Told])

    def test_a_row_and_a_record_of_one_event_are_two(self):
        with self.assertRaisesRegex(AssertionError, "more than once"):
            self.oracle([0], [(3, 0)]).check([self.Told])

    def test_two_records_of_one_place_are_one_and_of_two_places_are_two(self):
        self.assertEqual(self.oracle([1], [(3, 0), (3, 0)]).check([self.Told])["set_aside"], 1)
        with self.assertRaisesRegex(AssertionError, "more than once"):
            self.oracle([1], [(3, 0), (4, 0)]).check([self.Told])

    def test_what_was_refused_or_never_sent_must_not_be_there(self):
        with self.assertRaisesRegex(AssertionError, "refused and stored"):
            self.oracle([0, 2]).check([self.Told])
        with self.assertRaisesRegex(AssertionError, "never sent"):
            self.oracle([0, 3]).check([self.Told])


if __name__ == "__main__":
    unittest.main()
