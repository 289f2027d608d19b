#!/usr/bin/python3
"""The fault shim itself: what it counts, fails, shortens and writes down, tried on a small program."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from support.fault_shim import PowerCutReplay, counts, shim_environment

# 1 mkdir, 2 open, 3 pwritev, 4 pwritev, 5 fdatasync, 6 rename, 7 fsync of the directory, 8 pwrite, 9 unlink.
PROGRAM = r"""
import os
os.mkdir("sub", dir_fd=root)
new = os.open("new", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=root)
def write(offset, pieces):
    data = b"".join(pieces)
    while data:
        try:
            done = os.pwritev(new, [data[:1], data[1:]], offset)
        except InterruptedError:
            continue
        data, offset = data[done:], offset + done
write(0, [b"ab", b"cd"])
write(4, [b"ef", b"gh"])
os.fdatasync(new)
os.rename("new", "kept", src_dir_fd=root, dst_dir_fd=root)
os.fsync(os.open(".", os.O_RDONLY, dir_fd=root))
os.pwrite(new, b"XYZ", 8)
os.unlink("kept", dir_fd=root)
"""
CALLS, SYNCS = 9, 2


class FaultShim(unittest.TestCase):
    def setUp(self):
        self.directory = os.path.realpath(tempfile.mkdtemp(prefix="sluice-shim-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.spool = os.path.join(self.directory, "spool")
        self.new_spool()

    def new_spool(self):
        shutil.rmtree(self.spool, ignore_errors=True)
        os.mkdir(self.spool)

    def path(self, name):
        return os.path.join(self.directory, name)

    def run_program(self, **faults):
        """The exit status, with `Error.errno` of what the program died of on stderr."""
        opening = f"import os; root = os.open({self.spool!r}, os.O_RDONLY)\n"
        return subprocess.run([sys.executable, "-c", opening + PROGRAM], capture_output=True, text=True,
                              env={**os.environ, **shim_environment(self.spool, **faults)})

    def content(self, name):
        with open(os.path.join(self.spool, name), "rb") as file:
            return file.read()

    def test_calls_on_the_directory_are_counted_and_others_are_not(self):
        ended = self.run_program(count_file=self.path("counts"))
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertEqual(counts(self.path("counts")), (CALLS, SYNCS))

    def test_the_process_is_killed_before_or_after_the_call(self):
        for at in range(1, CALLS + 1):
            for when, expected in (("kill_at", at - 1), ("kill_after", at)):
                with self.subTest(at=at, when=when):
                    self.new_spool()
                    log = self.path(f"log-{at}-{when}")
                    ended = self.run_program(**{when: at, "log": log})
                    self.assertEqual(ended.returncode, -signal.SIGKILL)
                    with open(log, "rb") as file:
                        replay = PowerCutReplay(file.read())
                    done = 0
                    while not replay.at_end():
                        replay.step()
                        done += 1
                    self.assertEqual(done, expected)

    def test_a_full_disk_refuses_what_needs_room(self):
        for at in (1, 2, 3, 4, 6, 8):
            with self.subTest(at=at):
                self.new_spool()
                self.assertIn("No space left on device", self.run_program(enospc_at=at).stderr)
        for at in (5, 7, 9):
            with self.subTest(at=at):
                self.new_spool()
                self.assertEqual(self.run_program(enospc_at=at).returncode, 0)

    def test_a_failing_disk_fails_any_call_and_syncs_by_their_own_number(self):
        for at in (1, 2, 3, 4, 6, 8, 9):
            with self.subTest(at=at):
                self.new_spool()
                self.assertIn("Input/output error", self.run_program(eio_at=at).stderr)
        for at in range(1, SYNCS + 1):
            with self.subTest(sync=at):
                self.new_spool()
                self.assertIn("Input/output error", self.run_program(eio_fsync_at=at).stderr)
        self.assertTrue(os.path.exists(os.path.join(self.spool, "kept")))

    def test_short_writes_come_to_the_same_in_the_end(self):
        ended = self.run_program(short=1, kill_after=0, count_file=self.path("counts"),
                                 log=self.path("log"))
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertGreater(counts(self.path("counts"))[0], CALLS + 3)
        with open(self.path("log"), "rb") as file:
            log = file.read()
        self.assertIn(b"\nwrite ", log)
        written = b"".join(line for line in log.split(b"\n") if line and b" " not in line)
        self.assertEqual(written, b"abcdefghXY")

    def test_a_power_cut_leaves_what_was_synced_and_nothing_is_sure_of_the_rest(self):
        self.assertEqual(self.run_program(log=self.path("log")).returncode, 0)
        with open(self.path("log"), "rb") as file:
            log = file.read()
        before_rename, after_sync = set(), set()
        for seed in range(300):
            replay = PowerCutReplay(log)
            while replay.step()[0] != "sync":
                pass
            before_rename |= self.left_by(replay, seed)
            while replay.step()[0] != "sync_directory":
                pass
            replay.step()
            after_sync |= self.left_by(replay, seed)
        self.assertEqual(before_rename, {("nothing", b""), ("new", b"abcdefgh")})
        self.assertEqual({(name, content[:8]) for name, content in after_sync}, {("kept", b"abcdefgh")})
        ends = {content[8:] for _, content in after_sync}
        self.assertLessEqual({b"", b"X", b"XY", b"XYZ", b"\0\0\0"}, ends)

    def left_by(self, replay, seed):
        left = self.path("left")
        shutil.rmtree(left, ignore_errors=True)
        replay.leave(left, random.Random(seed))
        found = set()
        for name in os.listdir(left):
            if name != "sub":
                with open(os.path.join(left, name), "rb") as file:
                    found.add((name, file.read()))
        return found or {("nothing", b"")}


if __name__ == "__main__":
    unittest.main()
