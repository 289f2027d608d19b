#!/usr/bin/python3
"""`sluice spool ls|verify|dump|export` on files made by the book, and some of them damaged, and beside a running daemon."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import uuid

from support.producer import Load, numbered
from support.segment_file import BLOCK_HEADER_BYTES, HEADER_BYTES, IDLE, SegmentFile, record
from support.sluice_daemon import clean_environment, run_sluice, sluice_binary
from support.sluice_test import SluiceTest


def line(n):
    return b'{"type":"t.%d","data":{"n":%d}}' % (n, n)


def records(*numbers):
    return [record(line(n), event_type=b"t.%d" % n) for n in numbers]


class SpoolFiles(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="sluice-spool-", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def spool(self, *arguments, **more):
        return run_sluice("spool", *arguments, "--dir", self.directory, **more)

    def segment(self, ordinal, *numbers, **options):
        """A sealed segment with a block for each number."""
        segment = SegmentFile(ordinal, **options)
        for number in numbers:
            segment.append(*records(number))
        return segment.seal()

    def exported(self, *segments, code=0):
        done = self.spool("export", *segments)
        self.assertEqual(done.returncode, code, done.stderr)
        return [json.loads(text)["data"]["n"] for text in done.stdout.splitlines()]

    def assert_verified(self, code, *told):
        done = self.spool("verify")
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        for text in told:
            self.assertIn(text, done.stdout + done.stderr)
        if code == 0:
            self.assertEqual(done.stderr, "")


class List(SpoolFiles):
    def test_segments_stand_in_their_order_with_what_they_hold(self):
        sealed = self.segment(9, 1, 2, 3).write(self.directory)
        torn = SegmentFile(10)
        torn.append(*records(4, 5))
        torn.write(self.directory)
        newer = self.segment(11, 5, supersedes=(torn, 1)).write(self.directory)
        done = self.spool("ls")
        self.assertEqual(done.returncode, 0, done.stderr)
        heading, first, second, third, total = done.stdout.splitlines()
        self.assertEqual(heading.split(), ["ordinal", "uuid", "created", "bytes", "events", "state",
                                           "supersedes"])
        created = "2023-11-14T22:13:20.000000Z"
        self.assertEqual(first.split(), ["9", str(sealed.id), created, str(len(sealed.bytes)), "3",
                                         "sealed", "-"])
        self.assertEqual(second.split(), ["10", str(torn.id), created, str(len(torn.bytes)), "2",
                                          "open", "-"])
        self.assertEqual(third.split(), ["11", str(newer.id), created, str(len(newer.bytes)), "1",
                                         "sealed", str(torn.id), "from", "1"])
        self.assertIn("3 segments", total)

    def test_a_segment_that_was_cut_down_to_its_header_is_released(self):
        released = SegmentFile(1)
        del released.bytes[HEADER_BYTES:]
        released.write(self.directory)
        done = self.spool("ls")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("released", done.stdout)
        self.assert_verified(0)

    def test_an_empty_directory(self):
        self.assertEqual(self.spool("ls").returncode, 0)
        self.assertEqual(self.exported(), [])
        self.assert_verified(0)

    def test_a_directory_that_is_not_there(self):
        done = run_sluice("spool", "ls", "--dir", "/tmp/no-such-directory")
        self.assertEqual(done.returncode, 69)
        self.assertIn("no-such-directory", done.stderr)

    def test_the_directory_of_the_settings(self):
        self.segment(1, 1).write(self.directory)
        done = run_sluice("spool", "export", env={"SLUICE_SPOOL_DIR": self.directory})
        self.assertEqual(done.stdout.encode(), line(1) + b"\n", done.stderr)


class Verify(SpoolFiles):
    def test_whole_files_are_whole(self):
        self.segment(1, *range(100)).write(self.directory)
        self.assert_verified(0, "1 segments, 102 good blocks, 100 events: no damage")

    def test_damage_is_told_with_its_place_and_what_is_lost(self):
        segment = SegmentFile(1)
        segment.append(*records(0))
        begin = segment.append(*records(1, 2))
        end = segment.append(*records(3))
        segment.seal()
        segment.bytes[begin + 100] ^= 1
        segment.write(self.directory)
        self.assert_verified(65, f"{segment.name}: bytes {begin} to {end} are damaged",
                             "2 events are lost, from index 1")
        self.assertEqual(self.exported(code=65), [0, 3])

    def test_a_file_that_ends_in_damage(self):
        segment = SegmentFile(1)
        segment.append(*records(0))
        begin = segment.append(*records(1))
        segment.seal()
        del segment.bytes[begin + 100:]
        segment.write(self.directory)
        follower = SegmentFile(2, refs=[(segment, begin + 200, 2)]).seal()
        follower.write(self.directory)
        self.assert_verified(65, "all events from index 1 are lost", "the rest is missing")

    def test_what_was_never_durable_is_no_damage(self):
        segment = SegmentFile(1)
        segment.append(*records(0))
        segment.block(IDLE)
        begin = segment.append(*records(1), synced=False)
        del segment.bytes[begin + 70:]
        segment.write(self.directory)
        self.assert_verified(0, "70 bytes at the end are no whole block",
                             "nothing that is known to be synced is in them")
        self.assertEqual(self.exported(), [0])

    def test_a_damaged_side_file(self):
        segment = self.segment(1, 1).write(self.directory)
        path = os.path.join(self.directory, segment.name.replace(".log", ".keys"))
        with open(path, "wb") as file:
            file.write(b"SLUICEKX" + bytes(32))
        self.assert_verified(65, f"{os.path.basename(path)}: has no side file's header")
        open(path, "wb").close()
        self.assert_verified(0)

    def test_a_missing_segment(self):
        self.segment(1, 1).write(self.directory)
        self.segment(4, 1).write(self.directory)
        self.assert_verified(65, "2 segments are missing")

    def test_a_file_that_is_no_segment(self):
        name = f"seg-{1:016x}-{uuid.uuid4()}.log"
        with open(os.path.join(self.directory, name), "wb") as file:
            file.write(b"x" * 500)
        self.assert_verified(65, name, "has no segment's header")

    def test_a_damaged_header_of_a_segment_loses_no_event(self):
        segment = self.segment(1, 1, 2)
        segment.bytes[40] ^= 1
        segment.write(self.directory)
        self.assert_verified(65, f"{segment.name}: bytes 0 to 128 are damaged: no event is lost")
        self.assertEqual(self.exported(code=65), [1, 2])

    def test_a_copy_under_another_name_is_not_counted_again(self):
        segment = self.segment(1, 1, 2).write(self.directory)
        segment.name = f"seg-{2:016x}-{uuid.uuid4()}.log"
        segment.write(self.directory)
        self.assert_verified(65, f"{segment.name}: is a segment with another name", "2 events")

    def test_a_newer_format(self):
        SegmentFile(1, version=2).write(self.directory)
        self.assert_verified(78, "has format version 2")

    def test_files_of_others_are_left_alone(self):
        for name in ("LOCK", "VERSION", "seg-1.log", "seg-0000000000000001-x.log", "notes"):
            with open(os.path.join(self.directory, name), "wb") as file:
                file.write(b"x")
        self.assert_verified(0)

    def test_a_flipped_byte_is_seen_wherever_it_is(self):
        segment = self.segment(1, 1, 2, 3)
        # The seal is the last block and holds nothing: without it the segment is open, and whole.
        for at in range(0, len(segment.bytes) - BLOCK_HEADER_BYTES, 13):
            flipped = bytearray(segment.bytes)
            flipped[at] ^= 0x10
            with open(os.path.join(self.directory, segment.name), "wb") as file:
                file.write(flipped)
            with self.subTest(at):
                self.assertIn(self.spool("verify").returncode, (65, 78))


class Dump(SpoolFiles):
    def test_events_as_a_table(self):
        segment = self.segment(1, 7, 8).write(self.directory)
        for name in ("1", str(segment.id), segment.name):
            done = self.spool("dump", name)
            self.assertEqual(done.returncode, 0, done.stderr)
            heading, first, second = done.stdout.splitlines()
            self.assertIn("index", heading)
            self.assertEqual(first.split()[0], "0")
            self.assertEqual(first.split()[-1], "t.7")
            self.assertEqual(second.split()[-1], "t.8")

    def test_events_as_json(self):
        event_id = uuid.uuid4()
        segment = SegmentFile(1)
        segment.append(record(line(7), event_type=b"t.7", event_id=event_id), record(b"{}"))
        segment.seal().write(self.directory)
        done = self.spool("dump", "--json", "1")
        first, second = map(json.loads, done.stdout.splitlines())
        self.assertEqual(first, {
            "index": 0, "received_at": "2023-11-14T22:13:20.000000Z",
            "occurred_at": "2023-11-14T22:13:20.000000Z", "id": str(event_id), "uid": 1000,
            "route": 0, "type": "t.7", "line_bytes": len(line(7)), "dedupe_hash": ""})
        self.assertEqual((second["index"], second["type"]), (1, ""))

    def test_a_producer_cannot_write_to_the_terminal(self):
        segment = SegmentFile(1)
        text = b'{"type":"\x1b[31m"}'
        segment.append(record(text, event_type=b"\x1b[31m"))
        segment.seal().write(self.directory)
        for options in ([], ["--json"]):
            self.assertNotIn("\x1b", self.spool("dump", "1", *options).stdout)

    def test_a_segment_that_is_not_there(self):
        done = self.spool("dump", "5")
        self.assertEqual(done.returncode, 64)
        self.assertIn("spool ls", done.stderr)


class Export(SpoolFiles):
    def test_lines_come_out_as_they_came_in(self):
        lines = [b'{"a":1}', b' {"b" : "\xff\xfe"}\r', b'{"long":"' + b"x" * 100_000 + b'"}']
        segment = SegmentFile(1)
        segment.append(*map(record, lines))
        segment.seal().write(self.directory)
        done = subprocess.run([sluice_binary(), "spool", "export", "--dir", self.directory],
                              env=clean_environment(), capture_output=True, check=True)
        self.assertEqual(done.stdout, b"\n".join(lines) + b"\n")

    def test_all_segments_in_order_or_those_that_are_named(self):
        self.segment(0x10, 3, 4).write(self.directory)
        self.segment(0xf, 1, 2).write(self.directory)
        self.segment(0x11, 5).write(self.directory)
        self.assertEqual(self.exported(), [1, 2, 3, 4, 5])
        self.assertEqual(self.exported("17", "15"), [5, 1, 2])
        self.exported("17", "99", code=64)

    def test_what_another_segment_supersedes_comes_once(self):
        old = SegmentFile(1)
        old.append(*records(1, 2))
        old.append(*records(3, 4))
        old.write(self.directory)
        self.segment(2, 3, 4, 5, supersedes=(old, 2)).write(self.directory)
        self.assertEqual(self.exported(), [1, 2, 3, 4, 5])

    def test_a_full_disk_is_no_success(self):
        self.segment(1, 1).write(self.directory)
        with open("/dev/full", "wb") as full:
            done = subprocess.run([sluice_binary(), "spool", "export", "--dir", self.directory],
                                  env=clean_environment(), stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 69, done.stderr)


class RunningDaemon(SluiceTest):
    """The same beside the daemon that writes the files."""

    def spool(self, daemon, command):
        done = run_sluice("spool", command, "--config", daemon.config_path)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_files_that_are_being_written_can_be_read(self):
        daemon = self.start_daemon({"spool": {"segment_bytes": "1MiB", "retain_time": "0"}})
        load = Load(daemon.socket_path, "p", padding="x" * 200, rate=20_000)
        load.start()
        reads = 0
        try:
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                for command in ("ls", "verify", "export"):
                    self.spool(daemon, command)
                    reads += 1
        finally:
            sent = load.finish()
        self.assertGreater(reads, 3)
        self.wait_quiet(daemon, sent)

    def test_what_is_in_the_spool_comes_out_as_it_came_in(self):
        daemon = self.start_daemon()
        self.cluster.stop("fast")
        self.addCleanup(self.cluster.start)
        lines = numbered("p", 0, 5000).decode()
        sent = run_sluice("send", "--socket", daemon.socket_path, input=lines)
        self.assertEqual(sent.returncode, 0, sent.stderr)
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        exported = self.spool(daemon, "export").splitlines()
        # Blocks are dealt to several segments in turn.
        self.assertEqual(sorted(exported), sorted(lines.splitlines()))
        self.assertIn("5000 events", self.spool(daemon, "ls"))
        self.assertIn("no damage", self.spool(daemon, "verify"))


if __name__ == "__main__":
    unittest.main()
