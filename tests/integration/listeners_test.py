#!/usr/bin/python3
"""Further listeners: each treats its producers as it says, and as [ingest] does where it says nothing."""

import json
import os
import shutil
import socket
import tempfile
import unittest

from support.producer import as_line, connect, numbered, send
from support.sluice_test import SluiceTest
from support.waiting import SLOWNESS, wait_until

NOBODY = 65534


class Listeners(SluiceTest):
    def start(self, *listeners, **sections):
        """A daemon with listeners at <its directory>/<name>, each given as (name, settings)."""
        directory = self.new_directory()
        self.paths = {name: os.path.join(directory, name) for name, _ in listeners}
        settings = {"listener": [{"socket": self.paths[name], **more} for name, more in listeners]}
        settings.update(sections)
        return self.start_daemon(settings)

    def new_directory(self):
        directory = tempfile.mkdtemp(prefix="sluice-l-", dir="/tmp")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        return directory

    def test_events_of_all_sockets_arrive_with_their_types(self):
        daemon = self.start(("plain", {}), ("metric", {"default_type": "metric"}),
                            ("strict", {"default_type": ""}))
        send(daemon.socket_path, {"n": 0})
        send(self.paths["plain"], {"n": 1})
        send(self.paths["metric"], {"n": 2}, {"n": 3, "type": "own"})
        send(self.paths["strict"], {"n": 4}, {"n": 5, "type": "own"})
        self.wait_quiet(daemon, 6)
        types = dict(self.query("SELECT extra->>'n', type FROM events"))
        self.assertEqual(types, {"0": "log", "1": "log", "2": "metric", "3": "own", "5": "own"})
        self.assertEqual(daemon.rejected("schema"), 1)

    def test_each_has_its_own_list_of_users(self):
        daemon = self.start(("closed", {"allow_uids": [NOBODY]}), ("open", {"allow_uids": []}))
        with connect(self.paths["closed"]) as producer:
            self.assertEqual(producer.recv(1), b"")
        send(self.paths["open"], {"n": 1})
        self.wait_quiet(daemon, 1)

    def test_sockets_have_their_own_modes_and_go_with_the_daemon(self):
        daemon = self.start(("narrow", {"socket_mode": "0600"}), ("wide", {"socket_mode": "0666"}))
        self.assertEqual(os.stat(self.paths["narrow"]).st_mode & 0o777, 0o600)
        self.assertEqual(os.stat(self.paths["wide"]).st_mode & 0o777, 0o666)
        self.assertEqual(daemon.stop(), 0)
        for path in self.paths.values():
            self.assertFalse(os.path.exists(path))

    def test_on_full_while_postgres_is_down_and_the_spool_is_at_its_cap(self):
        """The one that waits loses nothing; the others are told, or counted."""
        daemon = self.start(("rejecting", {"on_full": "reject"}), ("dropping", {"on_full": "drop"}),
                            spool={"bytes_max": "3MiB", "segment_bytes": "512KiB"},
                            ingest={"queue_bytes_max": "2MiB"})
        self.cluster.stop("fast")
        try:
            waiting = connect(daemon.socket_path)
            self.addCleanup(waiting.close)
            waiting.setblocking(False)
            offered = Endless(waiting, "w", "x" * 300)
            wait_until(lambda: offered.write() and full_reason(daemon) == "cap", 30, "a full spool")
            self.assertEqual(daemon.page("/readyz")[0], 503)
            self.assertIn("bytes_max", daemon.page("/readyz")[1])

            rejecting = connect(self.paths["rejecting"])
            self.addCleanup(rejecting.close)
            rejecting.sendall(b'{"sluice":1,"ack":"durable"}\n' + as_line({"n": 1}) * 3)
            answers = rejecting.makefile()
            self.assertEqual(json.loads(answers.readline())["durability"], "power")
            nacks = [json.loads(answers.readline()) for _ in range(3)]
            nacks = [answer for answer in nacks if "nack" in answer]
            self.assertEqual([(nack["code"], nack["retry"]) for nack in nacks],
                             [("full", True)] * len(nacks))
            self.assertGreater(len(nacks), 0)
            named = connect(self.paths["rejecting"])
            self.addCleanup(named.close)
            named.settimeout(30 * SLOWNESS)
            lines = numbered("p", 0, 3).splitlines(keepends=True)
            hello = b'{"sluice":1,"ack":"durable","producer":"p","first":1}\n'
            named.sendall(hello + lines[0])
            told = named.makefile()
            self.assertEqual(json.loads(told.readline())["have"], 0)
            self.assertEqual(json.loads(told.readline()), {"nack": 1, "code": "full", "retry": True})
            send(self.paths["dropping"], *[{"n": n} for n in range(50)])
            wait_until(lambda: daemon.events("dropped") == 50, 20, "dropped lines")
            wait_until(lambda: daemon.rejected("full") == 4, 20, "rejected lines")
            wait_until(daemon.books_balance, 20, "balanced books")
        finally:
            self.cluster.start()
        waiting.setblocking(True)
        sent = offered.finish()
        self.wait_quiet(daemon)
        self.assert_each_once({"w": sent})

        # There is room, but not behind that line: it would pass for stored when it is sent again.
        named.sendall(b"".join(lines[1:]))
        nacks = []
        while len(nacks) < 2:
            answer = json.loads(told.readline())
            nacks += [(answer["nack"], answer["code"])] if "nack" in answer else []
        self.assertEqual(nacks, [(2, "full"), (3, "full")])
        with connect(self.paths["rejecting"]) as again:
            again.settimeout(30 * SLOWNESS)
            again.sendall(hello + b"".join(lines))
            again.shutdown(socket.SHUT_WR)
            answers = [json.loads(line) for line in again.makefile()]
        self.assertEqual(answers[0]["have"], 0)
        self.assertEqual(answers[-1], {"done": 3, "stored": 3, "duplicate": 0, "rejected": 0})
        self.wait_quiet(daemon)
        self.assert_each_once({"w": sent, "p": 3})
        self.assertEqual(daemon.page("/readyz")[0], 200)
        self.assertEqual(full_reason(daemon), None)


class Endless:
    """Numbered lines of one producer, written as far as the socket takes them."""

    def __init__(self, socket, name, padding):
        self._socket = socket
        self._name = name
        self._padding = padding
        self._made = 0
        self._rest = b""

    def write(self):
        try:
            while True:
                if not self._rest:
                    self._rest = numbered(self._name, self._made, 100, self._padding)
                    self._made += 100
                self._rest = self._rest[self._socket.send(self._rest):]
        except BlockingIOError:
            return True

    def finish(self):
        """Writes what is left of the last lines; returns how many there were."""
        self._socket.sendall(self._rest)
        self._socket.close()
        return self._made


def full_reason(daemon):
    for series, value in daemon.metrics().items():
        if series.startswith("sluice_spool_full{") and value == 1:
            return series.split('"')[1]
    return None


if __name__ == "__main__":
    unittest.main()
