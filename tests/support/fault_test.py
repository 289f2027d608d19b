"""What the tests of faults share: daemons with a spool of their own, acking producers of every kind, and
the oracle at the end. The table has no primary key, so that a batch that was sent twice is seen."""

import glob
import os
import random
import shutil
import tempfile

from support.acking_producer import KEYED, NAMED, PLAIN, REFUSED, AckingProducer
from support.oracle import Oracle
from support.sluice_test import SluiceTest, say
from support.waiting import wait_until

SEED = int(os.environ.get("SLUICE_TEST_SEED", random.randrange(2**32)))
RATE = int(os.environ.get("SLUICE_TEST_RATE", "5000"))  # events per second of each producer
KINDS = (KEYED, NAMED, PLAIN)
# Small segments, so that every fault meets rotation, seals, side files and retention too.
SMALL_SEGMENTS = {"segment_bytes": "256KiB"}


class FaultTest(SluiceTest):
    def setUp(self):
        super().setUp()
        self.drop_primary_key()
        self.producers = []
        self.spools = []

    def new_spool(self):
        directory = tempfile.mkdtemp(prefix="sluice-sp-", dir="/tmp")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        return os.path.join(directory, "spool")

    def spool_settings(self, spool=None, **more):
        """Settings of a daemon with a spool on disk, `power` unless `more` says otherwise."""
        spool = spool or self.new_spool()
        self.spools.append(spool)
        return {"durability": "power", "dir": spool, **SMALL_SEGMENTS, **more}

    def start_spooling(self, settings=None, dsn=None, spool=None, **spool_more):
        """A daemon as start_daemon() makes it, with a spool on disk; its directory is spools[-1]."""
        settings = dict(settings or {})
        settings["spool"] = self.spool_settings(spool, **spool_more)
        return self.start_daemon(settings, dsn=dsn)

    # Producers.

    def start_producers(self, daemon, kinds=KINDS, **options):
        """One producer of each of the kinds, under way."""
        options = {"rate": RATE, "padding": "x" * 200, **options}
        started = []
        for kind in kinds:
            name = f"{kind}{len(self.producers)}"
            producer = AckingProducer(daemon.socket_path, name, kind, seed=SEED + len(self.producers),
                                      **options)
            self.addCleanup(producer.abandon)
            self.producers.append(producer)
            started.append(producer)
            producer.start()
        return started

    def acked(self):
        return sum(producer.acked for producer in self.producers)

    def check_alive(self):
        """A producer ends by itself only when the protocol was broken."""
        for producer in self.producers:
            if producer.error:
                raise AssertionError(f"producer {producer.name}: {producer.error!r}")

    def wait_acks(self, more=1, timeout=60):
        """Until so many more events were acked."""
        goal = self.acked() + more

        def reached():
            self.check_alive()
            return self.acked() >= goal
        wait_until(reached, timeout, f"{more} more acks")

    def wait_commits(self, daemon, more=1, timeout=60):
        goal = daemon.events("committed") + more
        wait_until(lambda: daemon.events("committed") >= goal, timeout, f"{more} more commits")

    # The end of a test.

    def settle(self, daemon, timeout=60):
        """Ends the producers, waits until everything is delivered, and judges. Returns the sums."""
        for producer in self.producers:
            producer.finish(timeout)
        self.wait_quiet(daemon, timeout=timeout)
        return self.judge()

    def judge(self, query=None, producers=None):
        producers = self.producers if producers is None else producers
        found = Oracle(query or self.query, self.spools).check(producers)
        for producer in producers:
            if producer.kind != PLAIN:
                self.assertEqual(producer.acked + producer.states.count(REFUSED), producer.made,
                                 producer.name)
        say(f"{found['made']:,} events, {found['acked']:,} acked, {found['rows']:,} rows, "
            f"{found['set_aside']:,} set aside")
        return found

    @staticmethod
    def segment_files(spool):
        return sorted(glob.glob(os.path.join(spool, "seg-*.log")))
