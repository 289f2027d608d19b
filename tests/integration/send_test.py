#!/usr/bin/python3
"""`sluice send`: what it says and what its exit code means, against a daemon that is there, goes, refuses or is
silent."""

import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

from support.fake_ack_server import FakeAckServer
from support.producer import numbered
from support.sluice_daemon import clean_environment, run_sluice, sluice_binary
from support.sluice_test import SluiceTest
from support.waiting import SLOWNESS, wait_until


class SendCase(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="sluice-send-", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.socket_path = os.path.join(self.directory, "events.sock")

    def server(self, **options):
        server = FakeAckServer(self.socket_path, **options).start()
        self.addCleanup(server.stop)
        return server

    def file(self, content, name="lines"):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def send(self, *arguments, **more):
        return run_sluice("send", "--socket", self.socket_path, *arguments, **more)

    def spawn(self, *arguments, **more):
        process = subprocess.Popen(
            [sluice_binary(), "send", "--socket", self.socket_path, *arguments],
            env=clean_environment(), stderr=subprocess.PIPE, text=True, **more)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def assert_ended(self, process, code=0):
        told = process.communicate(timeout=60 * SLOWNESS)[1]
        self.assertEqual(process.returncode, code, told)
        return told


class Stored(SendCase):
    def test_every_line_of_a_file_is_stored_and_said(self):
        server = self.server()
        lines = numbered("p", 0, 5000)
        sent = self.send(self.file(lines[:-1]))  # the missing newline is added
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertIn("5000 lines stored, 0 refused", sent.stderr)
        self.assertEqual(server.stored, lines.splitlines())
        self.assertEqual(sent.stdout, "")

    def test_standard_input(self):
        server = self.server()
        lines = numbered("q", 0, 10)
        for _ in range(2):  # nobody knows that it is the same input
            sent = self.send(input=lines.decode())
            self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual(server.stored, lines.splitlines() * 2)

    def test_nothing_is_nothing(self):
        self.server()
        sent = self.send(self.file(b""))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertIn("0 lines stored", sent.stderr)

    def test_empty_lines_count_but_are_no_events(self):
        server = self.server()
        sent = self.send(self.file(b'{"n":1}\n\n  \r\n{"n":2}\n'))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertIn("2 lines stored, 0 refused", sent.stderr)
        self.assertIn("2 were empty", sent.stderr)
        self.assertEqual(server.have[server.hellos[0]["producer"]], 4)

    def test_a_daemon_that_keeps_events_in_memory_acks_commits(self):
        self.server(durability="memory")
        sent = self.send(self.file(numbered("p", 0, 10)))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertIn("10 lines committed", sent.stderr)

    def test_lines_of_a_pipe_go_out_as_they_come(self):
        server = self.server()
        process = self.spawn("-", stdin=subprocess.PIPE)
        for n in range(1, 4):
            process.stdin.write('{"n":%d}\n' % n)
            process.stdin.flush()
            server.wait_stored(n)
        process.stdin.write('{"n":')
        process.stdin.flush()
        process.stdin.write('4}')
        process.stdin.close()
        process.stdin = None
        self.assertIn("4 lines stored", self.assert_ended(process))
        self.assertEqual(server.stored[3], b'{"n":4}')


class Again(SendCase):
    def test_the_same_file_is_not_sent_twice(self):
        server = self.server()
        path = self.file(numbered("p", 0, 100))
        self.send(path)
        with open(path, "ab") as file:
            file.write(numbered("p", 100, 20))
        sent = self.send(path)
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertIn("20 lines stored", sent.stderr)
        self.assertIn("skipping 100 lines that were sent before under this name; --again", sent.stderr)
        self.assertIn("100 had been sent before", sent.stderr)
        self.assertEqual(server.stored, numbered("p", 0, 120).splitlines())
        self.assertEqual(server.duplicates, 0)

    def test_again_sends_all_of_it(self):
        server = self.server()
        path = self.file(numbered("p", 0, 100))
        self.send(path)
        sent = self.send("--again", path)
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual(len(server.stored), 200)

    def test_another_name_is_another_producer(self):
        server = self.server()
        path = self.file(numbered("p", 0, 100))
        for name in ("a", "b", "a"):
            self.assertEqual(self.send("--producer", name, path).returncode, 0)
        self.assertEqual(server.have, {"a": 100, "b": 100})
        self.assertEqual(len(server.stored), 200)

    def test_a_name_serves_standard_input_too(self):
        server = self.server()
        for count in (30, 50):
            sent = self.send("--producer", "a", input=numbered("p", 0, count).decode())
            self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual(server.stored, numbered("p", 0, 50).splitlines())

    def test_a_file_that_was_rotated_is_another_producer(self):
        server = self.server()
        self.send(self.file(numbered("p", 0, 100)))
        sent = self.send(self.file(numbered("p", 100, 50)))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual(server.stored, numbered("p", 0, 150).splitlines())

    def test_a_file_that_took_the_place_of_another_is_another_producer(self):
        server = self.server()
        lines = numbered("p", 0, 100).splitlines(keepends=True)
        path = self.file(b"".join(lines))
        self.send(path)
        os.rename(self.file(lines[0] + b"".join(lines[50:]), "new"), path)
        sent = self.send(path)
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertIn("51 lines stored", sent.stderr)
        os.unlink(path)  # its inode may be the next file's
        sent = self.send(self.file(b"".join(lines)))
        self.assertIn("100 lines stored", sent.stderr)
        self.assertEqual(len(server.have), 3)

    def test_a_file_that_was_written_anew_in_its_place_is_told_to_be_skipped(self):
        self.server()
        lines = numbered("p", 0, 100).splitlines(keepends=True)
        self.send(self.file(b"".join(lines)))
        sent = self.send(self.file(lines[0] + b'{"n":1}\n' * 110))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertIn("skipping 100 lines", sent.stderr)
        self.assertIn("11 lines stored", sent.stderr)

    def test_a_long_name_is_cut_between_two_characters(self):
        server = self.server()
        sent = self.send("--again", "--producer", "x" + "\u00e9" * 90, self.file(b'{"n":1}\n'))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual(server.hellos[0]["producer"].split(":")[0], "x" + "\u00e9" * 49)

    def test_fewer_lines_than_were_sent_before_are_another_input(self):
        self.server()
        self.send("--producer", "a", self.file(numbered("p", 0, 100)))
        sent = self.send("--producer", "a", self.file(numbered("p", 0, 50)))
        self.assertEqual(sent.returncode, 65, sent.stderr)
        self.assertIn("--again", sent.stderr)


class Lost(SendCase):
    def test_a_lost_connection_loses_and_doubles_nothing(self):
        server = self.server()
        server.lose_after = [1000, 0, 500, 1]
        server.acked_late = 150
        lines = numbered("p", 0, 20000, "x" * 100)
        sent = self.send(self.file(lines))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual(server.stored, lines.splitlines())
        self.assertIn("20000 lines stored", sent.stderr)
        self.assertGreater(server.duplicates, 0)
        self.assertIn("no daemon answers", sent.stderr)

    def test_standard_input_survives_a_lost_connection(self):
        server = self.server()
        server.lose_after = [100]
        server.acked_late = 50
        lines = numbered("p", 0, 1000)
        sent = self.send(input=lines.decode())
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual(server.stored, lines.splitlines())

    def test_a_daemon_that_restarts_is_waited_for(self):
        server = self.server()
        process = self.spawn("-", stdin=subprocess.PIPE)
        process.stdin.write(numbered("p", 0, 10).decode())
        process.stdin.flush()
        server.wait_stored(10)
        server.stop()
        process.stdin.write(numbered("p", 10, 10).decode())
        process.stdin.close()
        process.stdin = None
        self.assertIn("trying again for 30 s", process.stderr.readline())
        server.start()
        self.assert_ended(process)
        self.assertEqual(server.stored, numbered("p", 0, 20).splitlines())

    def test_a_kill_of_send_itself_doubles_nothing(self):
        server = self.server()
        lines = numbered("p", 0, 200_000)
        path = self.file(lines)
        process = self.spawn(path)
        server.wait_stored(1000)
        process.kill()
        process.wait()
        sent = self.send(path)
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual(server.stored, lines.splitlines())

    def test_nobody_there_ends_with_69(self):
        sent = self.send("--retry-for", "300ms", input="{}\n")
        self.assertEqual(sent.returncode, 69, sent.stderr)
        self.assertIn(self.socket_path, sent.stderr)
        self.assertIn("gave up", sent.stderr)

    def test_a_daemon_that_hangs_after_its_hello_ends_with_69(self):
        server = self.server()
        server.hangs_at = "lines"
        sent = self.send("--retry-for", "300ms", self.file(numbered("p", 0, 3)))
        self.assertEqual(sent.returncode, 69, sent.stderr)
        self.assertIn("gave up", sent.stderr)
        self.assertIn("acked no line for 0.3 s", sent.stderr)
        self.assertIn("3 were read and are not known to be stored", sent.stderr)

    def test_what_became_of_lines_is_counted_without_an_ack(self):
        server = self.server()
        server.acks = False
        server.refuse = {b"bad": "syntax"}
        process = self.spawn("--retry-for", "300ms", "-", stdin=subprocess.PIPE)
        process.stdin.write('\n{"n":1}\n\nbad\n \n')
        process.stdin.flush()
        process.wait(30 * SLOWNESS)
        told = self.assert_ended(process, 69)
        self.assertIn("sluice: 0 lines stored, 1 refused", told)
        self.assertIn("3 were empty; 1 were read and are not known to be stored", told)

    def test_a_daemon_that_hangs_is_waited_for_from_its_last_ack_on(self):
        server = self.server()
        process = self.spawn("--retry-for", "300ms", "-", stdin=subprocess.PIPE)
        process.stdin.write(numbered("p", 0, 10).decode())
        process.stdin.flush()
        server.wait_stored(10)
        # Nothing is waited for: that is no stall, however long it takes.
        with self.assertRaises(subprocess.TimeoutExpired):
            process.wait(1)
        server.acks = False
        process.stdin.write(numbered("p", 10, 5).decode())
        process.stdin.flush()
        process.wait(30 * SLOWNESS)
        told = self.assert_ended(process, 69)
        self.assertIn("acked no line", told)
        self.assertIn("10 lines stored", told)
        self.assertIn("5 were read and are not known to be stored", told)

    def test_what_is_lost_for_good_is_said(self):
        server = self.server()
        process = self.spawn("--retry-for", "300ms", "-", stdin=subprocess.PIPE)
        process.stdin.write(numbered("p", 0, 10).decode())
        process.stdin.flush()
        server.wait_stored(10)
        server.acks = False
        process.stdin.write(numbered("p", 10, 5).decode())
        process.stdin.flush()
        server.wait_stored(15)
        server.stop()
        self.assertIn("5 were read and are not known to be stored",
                      self.assert_ended(process, 69))

    def test_a_socket_that_never_answers_ends_with_69(self):
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(self.socket_path)
            silent.listen(8)
            sent = self.send("--retry-for", "300ms", input="{}\n")
        self.assertEqual(sent.returncode, 69, sent.stderr)
        self.assertIn("does not answer", sent.stderr)

    def test_a_hello_that_is_refused_ends_with_69(self):
        self.server().hello_error = "no such protocol"
        sent = self.send(input="{}\n")
        self.assertEqual(sent.returncode, 69, sent.stderr)
        self.assertIn("no such protocol", sent.stderr)

    def test_no_acks_is_written_and_forgotten(self):
        server = self.server()
        server.acks = False
        sent = self.send("--no-acks", self.file(b"{}\n"))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual(server.hellos, [])


class Refused(SendCase):
    def test_refused_lines_are_named_without_their_text_and_end_with_65(self):
        server = self.server()
        server.refuse = {rb"secret": "syntax"}
        path = self.file(b'{"n":1}\n\n{"secret":1}\n{"n":2}\nsecret\n')
        sent = self.send(path)
        self.assertEqual(sent.returncode, 65, sent.stderr)
        self.assertIn(f"{path}:3: refused: syntax\n", sent.stderr)
        self.assertIn(f"{path}:5: refused: syntax\n", sent.stderr)
        self.assertIn("2 lines stored, 2 refused", sent.stderr)
        self.assertNotIn("secret", sent.stderr)
        self.assertEqual(server.stored, [b'{"n":1}', b'{"n":2}'])

    def test_a_refusal_is_told_once_whatever_is_sent_again(self):
        server = self.server()
        server.refuse = {b"bad": "syntax"}
        server.lose_after = [50]
        server.acked_late = 60
        lines = [b"bad" if n % 10 == 0 else b'{"n":%d}' % n for n in range(100)]
        sent = self.send(self.file(b"\n".join(lines)))
        self.assertEqual(sent.returncode, 65, sent.stderr)
        self.assertEqual(len(re.findall("refused: syntax", sent.stderr)), 10)
        self.assertIn("90 lines stored, 10 refused", sent.stderr)

    def test_a_line_longer_than_the_daemon_takes_is_refused_and_the_rest_goes_on(self):
        server = self.server(line_bytes_max=1000)
        huge = b'{"padding":"' + b"x" * 3_000_000 + b'"}'
        path = self.file(b'{"n":1}\n' + huge + b'\n{"n":2}\n')
        sent = self.send(path)
        self.assertEqual(sent.returncode, 65, sent.stderr)
        self.assertIn(f"{path}:2: refused: too_long\n", sent.stderr)
        self.assertEqual(server.stored, [b'{"n":1}', b'{"n":2}'])

    def test_lines_that_found_no_room_are_sent_until_there_is_some(self):
        server = self.server()
        server.full = True
        lines = numbered("p", 0, 20000, "x" * 1000)
        process = self.spawn(self.file(lines))
        wait_until(lambda: len(server.hellos) >= 3, 30, "a second try")
        server.full = False
        told = self.assert_ended(process)
        self.assertIn("20000 lines stored, 0 refused", told)
        self.assertEqual(told.count("has no room; trying again for 30 s"), 1)
        self.assertEqual(server.stored, lines.splitlines())

    def test_room_that_is_short_again_and_again_loses_and_doubles_nothing(self):
        server = self.server()
        server.full_at = [1, 500, 1, 1000, 3]
        lines = numbered("p", 0, 5000)
        sent = self.send(self.file(lines))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertIn("5000 lines stored, 0 refused", sent.stderr)
        self.assertEqual(server.stored, lines.splitlines())
        self.assertEqual(len({hello["producer"] for hello in server.hellos}), 1)

    def test_a_refusal_for_want_of_room_that_is_lost_loses_no_line(self):
        server = self.server()
        server.full_at = [3]
        server.lose_after = [2]
        server.acked_late = 1
        lines = numbered("p", 0, 5)
        sent = self.send(self.file(lines))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual(server.stored, lines.splitlines())

    def test_a_refusal_is_told_once_however_often_there_is_no_room(self):
        server = self.server()
        server.refuse = {b"bad": "syntax"}
        server.full_at = [3, 2, 2]
        path = self.file(b'{"n":1}\nbad\n{"n":3}\nbad\n{"n":5}\n')
        sent = self.send(path)
        self.assertEqual(sent.returncode, 65, sent.stderr)
        self.assertEqual(len(re.findall("refused: syntax", sent.stderr)), 2)
        self.assertIn("3 lines stored, 2 refused", sent.stderr)
        self.assertEqual(server.stored, [b'{"n":1}', b'{"n":3}', b'{"n":5}'])

    def test_lines_that_never_find_room_end_with_69(self):
        server = self.server()
        server.full = True
        path = self.file(b'{"n":1}\n{"n":2}\n')
        sent = self.send("--retry-for", "200ms", path)
        self.assertEqual(sent.returncode, 69, sent.stderr)
        self.assertIn("0 lines stored, 0 refused", sent.stderr)
        self.assertIn("2 were read and are not known to be stored", sent.stderr)
        self.assertIn(f"gave up: the daemon at {self.socket_path} has no room", sent.stderr)
        server.full = False
        self.assertEqual(self.send(path).returncode, 0)
        self.assertEqual(server.stored, [b'{"n":1}', b'{"n":2}'])


class Usage(SendCase):
    def test_a_file_that_is_not_there(self):
        self.assertEqual(self.send("/tmp/no-such-file").returncode, 64)

    def test_a_duration_that_is_none(self):
        self.assertEqual(self.send("--retry-for", "soon", input="").returncode, 64)

    def test_a_name_that_is_too_long(self):
        self.assertEqual(self.send("--producer", "x" * 201, input="").returncode, 64)


class Terminal(SendCase):
    def run_on_terminal(self, *arguments):
        """What a terminal would be shown."""
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            [sluice_binary(), "send", "--socket", self.socket_path, *arguments],
            env=clean_environment(), stdin=subprocess.PIPE, stderr=follower)
        os.close(follower)
        shown = bytearray()

        def read():
            try:
                while piece := os.read(leader, 4096):
                    shown.extend(piece)
            except OSError:
                pass  # the other end has gone

        reader = threading.Thread(target=read)
        reader.start()
        process.stdin.write(b'{"n":1}\n')
        process.stdin.flush()
        return process, reader, shown

    def end(self, process, reader):
        process.stdin.close()
        self.assertEqual(process.wait(30 * SLOWNESS), 0)
        reader.join(30 * SLOWNESS)

    def test_one_line_is_written_over_and_gone_at_the_end(self):
        self.server()
        process, reader, shown = self.run_on_terminal()
        wait_until(lambda: b"\r\x1b[K1 acked, " in shown, 30, "the progress line")
        self.end(process, reader)
        self.assertRegex(bytes(shown), rb"\r\x1b\[Ksluice: 1 lines stored, 0 refused[^\n]*\r?\n$")

    def test_no_progress_is_no_progress(self):
        server = self.server()
        process, reader, shown = self.run_on_terminal("--no-progress")
        server.wait_stored(1)
        self.end(process, reader)
        self.assertNotIn(b"\x1b", shown)


class Daemon(SluiceTest):
    """The same with the daemon itself and what it stored."""

    def send(self, daemon, *arguments, **more):
        return run_sluice("send", "--socket", daemon.socket_path, *arguments, **more)

    def file(self, daemon, content):
        path = os.path.join(daemon.directory, "lines")
        with open(path, "wb") as file:
            file.write(content)
        return path

    def test_rows_of_a_file_and_of_standard_input(self):
        daemon = self.start_daemon()
        path = self.file(daemon, numbered("p", 0, 5000)[:-1])
        sent = self.send(daemon, path)
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertIn("5000 lines", sent.stderr)
        sent = self.send(daemon, input=numbered("q", 0, 10).decode())
        self.assertEqual(sent.returncode, 0, sent.stderr)
        sent = self.send(daemon, path)
        self.assertIn("5000 had been sent before", sent.stderr)
        self.wait_quiet(daemon, 5010)
        self.assert_each_once({"p": 5000, "q": 10})

    def test_without_a_spool_on_disk_acks_are_commits(self):
        daemon = self.start_daemon({"spool": {"durability": "memory"}})
        sent = self.send(daemon, self.file(daemon, numbered("p", 0, 5000)))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertIn("5000 lines committed", sent.stderr)
        self.assert_each_once({"p": 5000})

    def test_without_acks(self):
        daemon = self.start_daemon()
        sent = self.send(daemon, "--no-acks", self.file(daemon, numbered("p", 0, 5000)))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.wait_quiet(daemon, 5000)
        self.assert_each_once({"p": 5000})

    def test_lines_that_the_daemon_refuses(self):
        daemon = self.start_daemon({"ingest": {"line_bytes_max": "4KiB"}})
        path = self.file(daemon, b'{"type":"a"}\n\nbroken\n[1]\n{"x":"' + b"x" * 9000
                         + b'"}\n{"type":"b"}\n')
        sent = self.send(daemon, path)
        self.assertEqual(sent.returncode, 65, sent.stderr)
        for line, code in ((3, "syntax"), (4, "not_object"), (5, "too_long")):
            self.assertIn(f"{path}:{line}: refused: {code}\n", sent.stderr)
        self.assertIn("2 lines stored, 3 refused", sent.stderr)
        self.assertNotIn("broken", sent.stderr)
        self.wait_quiet(daemon)
        self.assertEqual(self.query("SELECT type FROM events ORDER BY type"), [("a",), ("b",)])

    def test_a_listener_that_rejects_takes_all_when_there_is_room_again(self):
        self.drop_primary_key()
        daemon = self.start_daemon({"ingest": {"on_full": "reject", "queue_bytes_max": "4MiB"},
                                    "spool": {"durability": "memory"}})
        self.cluster.stop("fast")
        try:
            count = 40_000
            lines = numbered("p", 0, count, "x" * 500).replace(b'"dedupe_key"', b'"other"')
            process = subprocess.Popen(
                [sluice_binary(), "send", "--socket", daemon.socket_path, self.file(daemon, lines)],
                env=clean_environment(), stderr=subprocess.PIPE, text=True)
            self.addCleanup(process.stderr.close)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            wait_until(lambda: daemon.rejected("full") > 1000, 60, "lines to be turned away")
        finally:
            self.cluster.start()
        told = process.communicate(timeout=120 * SLOWNESS)[1]
        self.assertEqual(process.returncode, 0, told)
        self.assertIn(f"{count} lines committed, 0 refused", told)
        self.assert_each_once({"p": count})

    def test_a_full_listener_that_waits_ends_with_69_and_loses_nothing(self):
        daemon = self.start_daemon({"ingest": {"on_full": "wait", "queue_bytes_max": "4MiB"},
                                    "spool": {"durability": "memory"}})
        count = 40_000
        path = self.file(daemon, numbered("p", 0, count, "x" * 500))
        self.cluster.stop("fast")
        try:
            sent = self.send(daemon, "--retry-for", "2s", path)
        finally:
            self.cluster.start()
        self.assertEqual(sent.returncode, 69, sent.stderr)
        self.assertIn("gave up", sent.stderr)
        sent = self.send(daemon, "--retry-for", "120s", path)
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.wait_quiet(daemon)
        self.assert_each_once({"p": count})

    def test_a_daemon_that_is_killed_again_and_again(self):
        self.drop_primary_key()
        daemon = self.start_daemon()
        process = subprocess.Popen(
            [sluice_binary(), "send", "--socket", daemon.socket_path], env=clean_environment(),
            stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        feed = Feed(process.stdin)
        feed.start()
        self.addCleanup(feed.finish)
        for _ in range(5):
            seen = feed.fed
            wait_until(lambda: feed.fed > seen + 10_000, 60, "more lines to be sent")
            daemon.signal(signal.SIGKILL)
            daemon.wait()
            daemon.start()
        count = feed.finish()
        process.stdin = None
        told = process.communicate(timeout=60 * SLOWNESS)[1].decode()
        self.assertEqual(process.returncode, 0, told)
        self.assertIn(f"{count} lines stored, 0 refused", told)
        wait_until(lambda: self.query("SELECT count(*) FROM events")[0][0] >= count, 60, "the rows")
        self.assert_each_once({"p": count})


class Feed(threading.Thread):
    """Writes numbered lines without keys into a pipe until it is told to finish."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self._pipe = pipe
        self._finish = threading.Event()
        self.fed = 0

    def run(self):
        while not self._finish.wait(0.001):
            self._pipe.write(b"".join(
                b'{"type":"load","source":"p","data":{"n":%d}}\n' % n
                for n in range(self.fed, self.fed + 100)))
            self._pipe.flush()
            self.fed += 100

    def finish(self):
        """Ends the pipe; how many lines went into it."""
        self._finish.set()
        self.join(60 * SLOWNESS)
        self._pipe.close()
        return self.fed


if __name__ == "__main__":
    unittest.main()
