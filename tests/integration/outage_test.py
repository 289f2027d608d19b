#!/usr/bin/python3
"""Postgres stopped under load, with no spool on disk: the producer blocks, memory stays flat, and
everything arrives when it is back."""

import time
import unittest

from support.producer import Load
from support.sluice_test import SluiceTest, say
from support.waiting import wait_until

MIB = 2**20


class Outage(SluiceTest):
    def test_the_producer_blocks_and_everything_arrives(self):
        daemon = self.start_daemon({"spool": {"durability": "memory"}})
        bound = daemon.metrics()["sluice_queue_max_bytes"]
        loads = {f"p{n}": Load(daemon.socket_path, f"p{n}", padding="x" * 300) for n in range(4)}
        for load in loads.values():
            load.start()
        wait_until(lambda: daemon.events("committed") > 20_000, 60, "commits")
        self.cluster.stop("fast")

        def blocked():
            before = sum(load.sent for load in loads.values())
            time.sleep(0.5)  # the time in which nothing may move is what is measured
            return before == sum(load.sent for load in loads.values())

        wait_until(blocked, 30, "the producers to block")
        held = daemon.metrics()
        start_bytes = daemon.memory_bytes()
        time.sleep(3)
        grown = daemon.memory_bytes() - start_bytes
        say(f"{held['sluice_events_in_memory']:.0f} events held in "
            f"{held['sluice_queue_bytes'] / MIB:.1f} MiB, resident {start_bytes / MIB:.1f} MiB, "
            f"grown by {grown / MIB:.2f} MiB in 3 s")
        self.assertLess(grown, 2 * MIB)
        # The bound is soft by one read for each connection.
        self.assertLess(held["sluice_queue_bytes"], bound + 4 * MIB)
        self.assertEqual(daemon.page("/readyz")[0], 200)
        self.assertEqual(daemon.page("/healthz")[0], 200)

        self.cluster.start()
        sent = {name: load.finish() for name, load in loads.items()}
        self.wait_quiet(daemon, sum(sent.values()))
        self.assert_each_once(sent)
        say(f"{sum(sent.values()):,} events")

    def test_a_daemon_that_starts_before_postgres_waits_for_it(self):
        self.cluster.stop("fast")
        try:
            daemon = self.start_daemon()
            load = Load(daemon.socket_path, "p", total=1000)
            load.start()
            wait_until(lambda: daemon.events("received") == 1000, 30, "the events to be read")
            self.assertEqual(daemon.events("committed"), 0)
        finally:
            self.cluster.start()
        load.join()
        self.wait_quiet(daemon, 1000)
        self.assert_each_once({"p": 1000})


if __name__ == "__main__":
    unittest.main()
