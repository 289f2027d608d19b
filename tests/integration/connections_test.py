#!/usr/bin/python3
"""More connections than there are descriptors, and ten thousand that say nothing: others are served, and
nothing spins (fault 29)."""

import os
import resource
import socket
import subprocess
import time
import unittest

from support.acking_producer import KEYED
from support.fault_test import FaultTest
from support.producer import connect
from support.sluice_test import say
from support.waiting import SLOWNESS, wait_until

MANY = 10_000
IDLE_CPU_SHARE = 0.3


class Connections(FaultTest):
    def setUp(self):
        super().setUp()
        self.opened = []
        self.addCleanup(lambda: [connection.close() for connection in self.opened])

    def open_as_many(self, daemon, count):
        """Stops where the daemon's backlog is full."""
        for _ in range(count):
            connection = socket.socket(socket.AF_UNIX)
            connection.setblocking(False)
            try:
                connection.connect(daemon.socket_path)
            except BlockingIOError:
                connection.close()
                return
            self.opened.append(connection)

    def cpu_share(self, daemon, seconds=2):
        before = daemon.cpu_seconds()
        time.sleep(seconds)  # what it takes in that time is what is measured
        return (daemon.cpu_seconds() - before) / seconds

    def test_out_of_descriptors(self):
        # Small segments: the spool needs new files all the while.
        daemon = self.start_spooling({"spool": {"segment_bytes": "64KiB"}})
        load = self.start_producers(daemon, (KEYED,), rate=1000)[0]
        self.wait_acks(100)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (64, 64))
        self.open_as_many(daemon, 500)
        self.wait_acks(500)
        self.assertEqual(load.connections, 1)
        load.pause()
        share = self.cpu_share(daemon)
        say(f"{len(self.opened)} connections at a daemon of 64 descriptors: {share * 100:.0f} % of a core")
        self.assertLess(share, IDLE_CPU_SHARE * SLOWNESS)
        while self.opened:
            self.opened.pop().close()
        load.resume()
        with connect(daemon.socket_path) as later:
            later.sendall(b'{"type":"later"}\n')
        wait_until(lambda: self.query("SELECT 1 FROM events WHERE type = 'later'"), 30,
                   "a new connection to be served")
        self.settle(daemon)

    def test_ten_thousand_that_say_nothing(self):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < MANY + 500:
            self.skipTest(f"at most {hard} descriptors here")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        daemon = self.start_spooling({"ingest": {"connections_max": MANY + 100}})
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
        load = self.start_producers(daemon, (KEYED,), rate=1000)[0]
        self.wait_acks(100)

        def all_open():
            self.open_as_many(daemon, MANY - len(self.opened))
            return len(self.opened) == MANY
        wait_until(all_open, 60, "the connections")
        wait_until(lambda: daemon.metrics()["sluice_connections"] >= MANY, 60, "all to be accepted")
        self.wait_acks(1000)
        self.assertEqual(load.connections, 1)
        load.pause()
        share = self.cpu_share(daemon)
        say(f"{MANY:,} quiet connections: {share * 100:.0f} % of a core, "
            f"{daemon.memory_bytes() / 2**20:.0f} MiB resident")
        self.assertLess(share, IDLE_CPU_SHARE * SLOWNESS)
        load.resume()
        self.settle(daemon)

    def test_one_user_leaves_places_for_others(self):
        daemon = self.start_daemon({"ingest": {
            "connections_max": 20, "connections_per_uid_max": 10, "socket_mode": "0666"}})
        os.chmod(os.path.dirname(daemon.socket_path), 0o755)
        self.open_as_many(daemon, 100)
        own = "root" if os.geteuid() == 0 else "system" if os.geteuid() < 1000 else "user"
        wait_until(lambda: daemon.metrics()['sluice_connections_refused_total{reason="cap",uid="%s"}' % own] >= 90,
                   30, "the others to be refused")
        self.assertEqual(daemon.metrics()["sluice_connections"], 10)
        if os.geteuid() != 0:
            return  # only root can be another user as well
        subprocess.run(["python3", "-c", "import socket, sys\n"
                        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
                        """s.sendall(b'{"type":"of another"}\\n')""", daemon.socket_path],
                       user="nobody", check=True, timeout=30)
        wait_until(lambda: self.query("SELECT 1 FROM events WHERE type = 'of another'"), 30,
                   "the other user's event")


if __name__ == "__main__":
    unittest.main()
