#!/usr/bin/python3
"""What becomes of the spool's directory: full, shared, cloned, restored, with files missing, doubled,
empty, foreign or of a newer format (faults 16, 20, 21, 22 and 23)."""

import os
import shutil
import time
import unittest

from support.acking_producer import KEYED, NAMED
from support.fault_test import FaultTest
from support.segment_file import BLOCK_HEADER_BYTES, IDLE
from support.sluice_daemon import SluiceDaemon, run_sluice
from support.sluice_test import say
from support.small_disk import SmallDisk, may_mount
from support.waiting import wait_until

LOCKED, BAD_CONFIG = 75, 78
SPOOL_OF_8_MIB = 8


class SpoolFiles(FaultTest):
    def backlog(self, events=5000):
        """A spool in which so many events of a keyed and a named producer wait, all acked, and whose
        daemon was killed."""
        daemon = self.start_spooling(segment_bytes="64KiB")
        spool = self.spools[-1]
        self.cluster.stop("fast")
        try:
            loads = self.start_producers(daemon, (KEYED, NAMED), total=events)
            wait_until(lambda: all(load.acked == events for load in loads), 60, "acks")
            daemon.signal(9)
            daemon.wait()
        finally:
            self.cluster.start()
        return daemon, spool

    def rows(self):
        return self.query("SELECT count(*), count(DISTINCT (source, data->>'n')) FROM events")[0]


class Damage(SpoolFiles):
    def test_a_missing_segment_is_counted_and_the_rest_delivered(self):
        daemon, spool = self.backlog()
        files = self.segment_files(spool)
        self.assertGreater(len(files), 10)
        os.unlink(files[len(files) // 2])
        daemon.start()
        self.finish_without_oracle(daemon)
        rows, distinct = self.rows()
        self.assertEqual(rows, distinct)
        self.assertLess(rows, 10_000)
        self.assertGreater(rows, 9_000)
        self.assertIn("segments of the spool are not there", daemon.log_text())

    def finish_without_oracle(self, daemon):
        for load in self.producers:
            load.finish()
        self.producers = []
        self.wait_quiet(daemon)

    def test_files_that_do_not_belong_there_cost_nothing(self):
        daemon, spool = self.backlog()
        files = self.segment_files(spool)
        ordinal = max(int(os.path.basename(path).split("-")[1], 16) for path in files)
        width = len(os.path.basename(files[0]).split("-")[1])
        first = os.path.basename(files[0]).split("-", 2)[2]
        # The same segment under another name, an empty file, a half header, and what is not ours.
        shutil.copy(files[0], os.path.join(spool, f"seg-{ordinal + 5:0{width}x}-{first}"))
        other = "0b0e7a1e-0000-4000-8000-00000000000"
        for number, content in enumerate((b"", b"\0" * 4096, b"slu")):
            name = f"seg-{ordinal + 6 + number:0{width}x}-{other}{number}.log"
            with open(os.path.join(spool, name), "wb") as file:
                file.write(content)
        for name in ("notes.txt", "seg-1.log", "seg-x-y.log", "core"):
            with open(os.path.join(spool, name), "w") as file:
                file.write("precious")
        os.mkdir(os.path.join(spool, "lost+found"))
        daemon.start()
        found = self.settle(daemon)
        self.assertEqual(found["rows"], 10_000)
        for name in ("notes.txt", "core"):
            with open(os.path.join(spool, name)) as file:
                self.assertEqual(file.read(), "precious")

    def test_a_newer_format_is_refused_with_78(self):
        daemon, spool = self.backlog(100)
        path = os.path.join(spool, "VERSION")
        with open(path) as file:
            version = file.read()
        with open(path, "w") as file:
            file.write(version.replace("1", "999", 1))
        daemon.spawn()
        self.assertEqual(daemon.wait(), BAD_CONFIG, daemon.log_text())
        self.assertIn("newer", daemon.log_text())
        with open(path, "w") as file:
            file.write(version)
        daemon.start()
        self.assertEqual(self.settle(daemon)["rows"], 200)


class DamagedBehindTheWatermark(SpoolFiles):
    def send(self, daemon):
        lines = "".join(f'{{"type":"t","source":"s","dedupe_key":"k{n}","data":{{"n":{n}}}}}\n'
                        for n in range(1000))
        sent = run_sluice("send", "--socket", daemon.socket_path, input=lines)
        self.assertEqual(sent.returncode, 0, sent.stderr)

    def test_one_bit_is_told_of_and_lets_no_line_in_a_second_time(self):
        daemon = self.start_spooling()
        self.send(daemon)
        self.wait_quiet(daemon)
        # An empty block tells that the last one is durable: until then it is a write under way.
        files = self.segment_files(self.spools[-1])
        wait_until(lambda: any(os.path.getsize(path) > 5000 and self.is_idle(path) for path in files),
                   30, "an empty block")
        daemon.signal(9)
        daemon.wait()
        damaged = next(path for path in files if os.path.getsize(path) > 5000)
        with open(damaged, "r+b") as file:
            file.seek(5000)
            byte = file.read(1)[0]
            file.seek(5000)
            file.write(bytes([byte ^ 1]))
        daemon.start()
        told = [line for line in daemon.log_text().splitlines() if "may be forgotten" in line]
        self.assertEqual(len(told), 1, daemon.log_text())
        self.assertRegex(told[0], r"numbers of \d+ events may be forgotten")
        self.assertEqual(daemon.metrics()["sluice_spool_corruptions_total"], 1)
        self.send(daemon)
        self.wait_quiet(daemon)
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(1000,)])

    @staticmethod
    def is_idle(path):
        with open(path, "rb") as file:
            file.seek(-BLOCK_HEADER_BYTES, os.SEEK_END)
            return file.read(5) == b"SBLK" + bytes([IDLE])


class ChangedToMemory(SpoolFiles):
    LEFT = "segments of an earlier run"

    def restart(self, daemon, spool, durability):
        """With another durability; the directory stays."""
        daemon.write_config(self.dsn(), {"spool": {"dir": spool, "durability": durability}})
        daemon.start()
        return daemon

    def check(self, daemon):
        return run_sluice("check", "--config", daemon.config_path)

    def test_what_waits_in_the_directory_is_told_until_it_is_delivered(self):
        daemon, spool = self.backlog(500)
        segments = len(self.segment_files(spool))
        self.restart(daemon, spool, "memory")
        told = [line for line in daemon.log_text().splitlines() if self.LEFT in line]
        self.assertEqual(len(told), 1, daemon.log_text())
        self.assertIn("error", told[0])
        self.assertIn(f"dir={spool}", told[0])
        self.assertIn(f"segments={segments}", told[0])
        self.assertIn("power", told[0])
        checked = self.check(daemon)
        self.assertEqual(checked.returncode, BAD_CONFIG, checked.stdout)
        self.assertRegex(checked.stdout, f"WRONG {spool} has {segments} {self.LEFT}")
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(0,)])
        self.assertEqual(daemon.stop(), 0)

        # Where another daemon works on it, nothing is left behind.
        self.restart(daemon, spool, "process")
        self.assertEqual(self.settle(daemon)["rows"], 1000)
        daemon.write_config(self.dsn(), {"spool": {"dir": spool, "durability": "memory"}})
        self.assertNotIn(self.LEFT, self.check(daemon).stdout)
        self.assertEqual(daemon.stop(), 0)
        self.assertGreater(len(self.segment_files(spool)), 0)
        self.assertNotIn(self.LEFT, self.check(daemon).stdout)


class Copies(SpoolFiles):
    def test_a_second_daemon_on_the_same_spool_ends_with_75(self):
        first = self.start_spooling()
        self.start_producers(first)
        self.wait_acks(100)
        second = SluiceDaemon(self.dsn(), {"spool": self.spool_settings(self.spools[0])})
        self.addCleanup(second.close)
        second.spawn()
        self.assertEqual(second.wait(), LOCKED, second.log_text())
        self.assertIn(self.spools[0], second.log_text())
        self.spools.pop()
        self.wait_acks(100)
        self.settle(first)

    def test_a_clone_runs_beside_the_original(self):
        daemon, spool = self.backlog()
        clone = self.new_spool()
        shutil.copytree(spool, clone)
        daemon.start()
        other = self.start_spooling(spool=clone, segment_bytes="64KiB")
        self.start_producers(daemon)
        self.start_producers(other)
        self.wait_acks(5000)
        for producer in self.producers:
            producer.finish()
        self.wait_quiet(daemon)
        self.wait_quiet(other)
        self.judge()

    def test_a_spool_restored_from_a_backup_delivers_only_what_is_new(self):
        daemon, spool = self.backlog()
        backup = self.new_spool()
        shutil.copytree(spool, backup)
        daemon.start()
        self.start_producers(daemon)
        self.wait_acks(3000)
        self.settle(daemon)
        self.assertEqual(daemon.stop(), 0)
        shutil.rmtree(spool)
        shutil.copytree(backup, spool)
        # Producers that came after the backup are not known any more: these have other names.
        daemon.start()
        self.start_producers(daemon)
        self.wait_acks(3000)
        self.settle(daemon)


@unittest.skipUnless(may_mount(), "needs the right to mount")
class FullDisk(SpoolFiles):
    def full_then_room(self, on_full):
        """Postgres is away until the spool's disk is full; then all drains by itself."""
        disk = SmallDisk(SPOOL_OF_8_MIB)
        self.addCleanup(disk.close)
        daemon = self.start_spooling({"ingest": {"on_full": on_full}}, retain_time="0s",
                                     segment_bytes="256KiB",
                                     spool=os.path.join(disk.path, "spool"))
        self.cluster.stop("fast")
        try:
            self.start_producers(daemon, (KEYED, NAMED) if on_full == "wait" else (KEYED, KEYED),
                                 rate=None, padding="x" * 1000)
            if on_full == "wait":
                wait_until(self.nothing_moves, 60, "the producers to be held")
            else:
                wait_until(lambda: all(load.nacks["full"] > 100 for load in self.producers), 60,
                           "nacks")
            say(f"{on_full}: full after {self.acked():,} acks, {disk.free_bytes():,} bytes free")
            self.assertTrue(daemon.running)
        finally:
            self.cluster.start()
        before = self.acked()
        wait_until(lambda: self.acked() > before + 5000, 60, "acks again")
        found = self.settle(daemon, timeout=90)
        self.assertEqual(found["acked"], found["made"])

    def nothing_moves(self):
        self.check_alive()
        before = self.acked()
        time.sleep(1)  # the time in which nothing may move is what is measured
        return before and self.acked() == before

    def test_the_producers_wait(self):
        self.full_then_room("wait")

    def test_lines_are_refused(self):
        self.full_then_room("reject")

    def test_a_disk_that_others_filled(self):
        disk = SmallDisk(64)
        self.addCleanup(disk.close)
        daemon = self.start_spooling(spool=os.path.join(disk.path, "spool"), retain_time="0s")
        self.start_producers(daemon, (KEYED, NAMED), padding="x" * 1000)
        for _ in range(3):
            self.wait_acks(1000)
            disk.fill()
            time.sleep(1)  # some of it in the daemon's way, whether or not it meets it
            disk.clear()
        self.wait_acks(1000)
        found = self.settle(daemon)
        self.assertEqual(found["acked"], found["made"])


if __name__ == "__main__":
    unittest.main()
