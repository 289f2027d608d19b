#!/usr/bin/python3
"""Start and end of the daemon: SIGTERM drains, stale sockets, a second daemon, wrong settings."""

import os
import re
import shutil
import signal
import socket
import stat
import tempfile
import time
import unittest

from support.producer import Load, as_line, connect, numbered, send
from support.sluice_daemon import SluiceDaemon, clean_environment, run_sluice, sluice_binary
from support.sluice_test import SluiceTest
from support.waiting import wait_until

LOCKED, UNAVAILABLE, BAD_CONFIG = 75, 69, 78


class Shutdown(SluiceTest):
    def test_sigterm_drains_and_ends_with_0(self):
        daemon = self.start_daemon()
        with connect(daemon.socket_path) as producer:
            producer.sendall(numbered("p", 0, 20_000, "x" * 200))
            self.assertEqual(daemon.stop(), 0, daemon.log_text())
        rows = self.query("SELECT count(*), max((data->>'n')::int) FROM events")[0]
        # What the daemon had read is stored, from the first line on, without a gap.
        self.assertGreater(rows[0], 0)
        self.assertEqual(rows[0], rows[1] + 1)
        self.assertFalse(os.path.exists(daemon.socket_path))

    def test_what_was_written_before_sigterm_by_one_who_left_is_stored(self):
        daemon = self.start_daemon()
        with connect(daemon.socket_path) as producer:
            producer.sendall(numbered("p", 0, 500))
        self.assertEqual(daemon.stop(), 0)
        self.assert_each_once({"p": 500})

    def test_sigterm_under_load_stores_what_was_received(self):
        daemon = self.start_daemon()
        loads = [Load(daemon.socket_path, f"p{n}", padding="x" * 200) for n in range(4)]
        for load in loads:
            load.start()
        wait_until(lambda: daemon.events("committed") > 10_000, 60, "commits")
        self.assertEqual(daemon.stop(), 0, daemon.log_text())
        for load in loads:
            load.join(20)
            self.assertIsInstance(load.error, OSError)
        gaps = self.query("SELECT source FROM events GROUP BY source"
                          " HAVING count(*) <> max((data->>'n')::int) + 1")
        self.assertEqual(gaps, [])

    def test_sigint_is_as_sigterm(self):
        daemon = self.start_daemon()
        daemon.signal(signal.SIGINT)
        self.assertEqual(daemon.wait(), 0)

    def test_in_memory_and_with_postgres_down_it_ends_with_69_and_says_how_many_were_left(self):
        daemon = self.start_daemon({"postgres": {"drain_timeout": "1s"},
                                    "spool": {"durability": "memory"}})
        self.ship(daemon, *[{"n": n} for n in range(10)])
        self.cluster.stop("fast")
        try:
            with connect(daemon.socket_path) as producer:
                producer.sendall(as_line({"n": 1}) * 1234)
            wait_until(lambda: daemon.events("received") == 1244, 20, "the events to be read")
            self.assertEqual(daemon.stop(30), UNAVAILABLE)
        finally:
            self.cluster.start()
        self.assertRegex(daemon.log_text(), r"\b1[,.]?234\b")

    def test_with_postgres_down_what_is_left_stays_in_the_spool_and_it_ends_with_0(self):
        daemon = self.start_daemon({"postgres": {"drain_timeout": "500ms"}})
        self.ship(daemon, *[{"n": n} for n in range(10)])
        self.cluster.stop("fast")
        try:
            with connect(daemon.socket_path) as producer:
                producer.sendall(numbered("p", 0, 1234))
                wait_until(lambda: daemon.events("received") == 1244, 20, "the events to be read")
                self.assertEqual(daemon.stop(30), 0, daemon.log_text())
        finally:
            self.cluster.start()
        self.assertRegex(daemon.log_text(), r"in_spool=1234\b")
        self.assertNotIn("lost", daemon.log_text())
        daemon.start()
        self.wait_quiet(daemon, 0)
        self.assertGreaterEqual(daemon.events("recovered"), 1234)
        self.assertEqual(daemon.events("committed"), 1234)
        self.assert_each_once({"p": 1234})

    def test_what_a_full_spool_could_not_take_is_said_and_it_ends_with_69(self):
        daemon = self.start_daemon({"postgres": {"drain_timeout": "500ms"},
                                    "spool": {"bytes_max": "3MiB", "segment_bytes": "512KiB"}})
        self.cluster.stop("fast")
        load = Load(daemon.socket_path, "p", padding="x" * 300)
        try:
            load.start()
            wait_until(lambda: daemon.metrics()['sluice_spool_full{reason="cap"}'] == 1, 60,
                       "a full spool")
            wait_until(lambda: daemon.books()[1]["in_memory"] > 0, 20, "events that do not fit")
            self.assertEqual(daemon.stop(30), UNAVAILABLE, daemon.log_text())
        finally:
            self.cluster.start()
        load.join(20)
        lost = int(re.search(r"\blost=(\d+)", daemon.log_text())[1])
        in_spool = int(re.search(r"\bin_spool=(\d+)", daemon.log_text())[1])
        self.assertGreater(lost, 0)
        self.assertGreater(in_spool, 0)
        daemon.start()
        self.wait_quiet(daemon, 0)
        self.assert_each_once({"p": in_spool})

    def test_a_second_signal_leaves_the_rest_in_the_spool_at_once(self):
        daemon = self.start_daemon({"postgres": {"drain_timeout": "10min"}})
        self.cluster.stop("fast")
        try:
            send(daemon.socket_path, {"n": 1})
            wait_until(lambda: daemon.events("journaled") == 1, 20, "the event in the spool")
            daemon.signal(signal.SIGTERM)
            wait_until(lambda: "stopping" in daemon.log_text(), 20, "the drain to begin")
            time.sleep(0.6)  # an earlier one would be taken for the same wish
            daemon.signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(), 0, daemon.log_text())
        finally:
            self.cluster.start()
        self.assertRegex(daemon.log_text(), r"in_spool=1\b")

    def test_after_kill_the_books_of_the_next_run_balance(self):
        daemon = self.start_daemon({"spool": {"segment_bytes": "256KiB"}})
        load = Load(daemon.socket_path, "p", padding="x" * 200)
        load.start()
        wait_until(lambda: daemon.events("committed") > 5_000, 60, "commits")
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        load.join(20)
        daemon.start()
        self.wait_quiet(daemon, 0)
        came, went = daemon.books()
        self.assertGreater(came["recovered"], 0)
        self.assertEqual(went["committed"] + went["found_committed"], came["recovered"])
        # What was in the spool is stored whole: from the first on, without a gap, and once.
        rows = self.query("SELECT count(*), count(DISTINCT data->>'n'), max((data->>'n')::int)"
                          " FROM events")[0]
        self.assertEqual(rows[0], rows[1])
        self.assertEqual(rows[0], rows[2] + 1)

    def test_dedupe_keys_survive_a_restart_and_a_kill(self):
        daemon = self.start_daemon()
        for number, end in enumerate((signal.SIGTERM, signal.SIGKILL)):
            self.ship(daemon, *[{"dedupe_key": f"k{number}-{n}"} for n in range(100)])
            daemon.signal(end)
            daemon.wait()
            daemon.start()
            self.ship(daemon, *[{"dedupe_key": f"k{number}-{n}"} for n in range(100)])
            self.assertEqual(daemon.events("duplicate"), 100)
        self.assertEqual(self.query("SELECT count(*) FROM events")[0][0], 200)

    def test_two_daemons_on_one_spool_the_second_ends_with_75(self):
        first = self.start_daemon()
        second = SluiceDaemon(self.dsn(), {"spool": {"dir": first.spool_dir}})
        self.addCleanup(second.close)
        second.spawn()
        self.assertEqual(second.wait(), LOCKED, second.log_text())
        self.assertEqual(len(second.log_text().splitlines()), 1, second.log_text())
        self.assertIn(first.spool_dir, second.log_text())
        self.assertFalse(os.path.exists(second.socket_path))
        self.ship(first, {"n": 1})

    def test_the_spool_is_the_daemons_alone(self):
        daemon = self.start_daemon()
        self.ship(daemon, {"n": 1})
        self.assertEqual(stat.S_IMODE(os.stat(daemon.spool_dir).st_mode), 0o700)
        for name in os.listdir(daemon.spool_dir):
            status = os.stat(os.path.join(daemon.spool_dir, name))
            self.assertEqual(stat.S_IMODE(status.st_mode) & 0o077, 0, name)

    def test_a_spool_that_cannot_be_had_ends_with_78_and_leaves_no_socket(self):
        for spool_dir, needle in (("/tmp/no-such-directory/spool", "no-such-directory"),
                                  ("/dev/null", "/dev/null")):
            with self.subTest(spool_dir):
                daemon = SluiceDaemon(self.dsn(), {"spool": {"dir": spool_dir}})
                self.addCleanup(daemon.close)
                daemon.spawn()
                self.assertEqual(daemon.wait(), BAD_CONFIG, daemon.log_text())
                self.assertIn(needle, daemon.log_text())
                self.assertFalse(os.path.exists(daemon.socket_path))

    def test_a_spool_of_a_newer_format_is_left_alone_and_ends_with_78(self):
        daemon = self.start_daemon()
        self.ship(daemon, {"n": 1})
        self.assertEqual(daemon.stop(), 0)
        with open(os.path.join(daemon.spool_dir, "VERSION"), "w") as file:
            file.write("sluice-spool 99\n")
        before = sorted(os.listdir(daemon.spool_dir))
        daemon.spawn()
        self.assertEqual(daemon.wait(), BAD_CONFIG, daemon.log_text())
        self.assertEqual(sorted(os.listdir(daemon.spool_dir)), before)
        self.assertFalse(os.path.exists(daemon.socket_path))

    def test_a_stale_socket_is_no_obstacle(self):
        daemon = self.start_daemon()
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        self.assertTrue(os.path.exists(daemon.socket_path))
        daemon.start()
        self.ship(daemon, {"n": 1})
        self.assertEqual(len(self.rows()), 1)

    def test_a_second_daemon_on_the_same_socket_ends_with_75(self):
        first = self.start_daemon()
        second = SluiceDaemon(self.dsn(), {"ingest": {"socket": first.socket_path}})
        self.addCleanup(second.close)
        second.spawn()
        self.assertEqual(second.wait(), LOCKED, second.log_text())
        self.assertIn(first.socket_path, second.log_text())
        self.ship(first, {"n": 1})

    def test_a_file_that_is_no_socket_is_left_alone(self):
        daemon = SluiceDaemon(self.dsn())
        self.addCleanup(daemon.close)
        with open(daemon.socket_path, "w") as file:
            file.write("precious")
        daemon.spawn()
        self.assertNotEqual(daemon.wait(), 0)
        with open(daemon.socket_path) as file:
            self.assertEqual(file.read(), "precious")

    def test_the_socket_has_the_mode_of_the_settings(self):
        daemon = self.start_daemon({"ingest": {"socket_mode": "0620"}})
        self.assertEqual(stat.S_IMODE(os.stat(daemon.socket_path).st_mode), 0o620)

    def test_wrong_settings_end_with_78_and_name_the_line(self):
        daemon = SluiceDaemon(self.dsn(), {"ingest": {"line_byte_max": "1MiB"}})
        self.addCleanup(daemon.close)
        daemon.spawn()
        self.assertEqual(daemon.wait(), BAD_CONFIG)
        self.assertIn("line_bytes_max", daemon.log_text())
        self.assertRegex(daemon.log_text(), r"sluice\.toml:\d+")

    def test_addresses_that_are_none_end_with_78(self):
        for section, key, value in (("metrics", "listen", "9464"), ("ingest", "tcp", "127.0.0.1"),
                                    ("postgres", "dsn", "host=/tmp hunter2")):
            with self.subTest(section):
                daemon = SluiceDaemon(self.dsn(), {section: {key: value}})
                self.addCleanup(daemon.close)
                daemon.spawn()
                self.assertEqual(daemon.wait(), BAD_CONFIG, daemon.log_text())
                self.assertNotIn("hunter2", daemon.log_text())

    def test_sockets_from_systemd_are_adopted(self):
        daemon = SluiceDaemon(self.dsn())
        self.addCleanup(daemon.close)
        path = os.path.join(daemon.directory, "adopted.sock")
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(path)
        listener.listen()
        pid = spawn_with_listen_fd(daemon, listener)
        try:
            wait_until(lambda: daemon.page("/readyz")[0] == 200, 20, "the daemon to be ready")
            with connect(path) as producer:
                producer.sendall(as_line({"n": 1}))
            wait_until(lambda: self.query("SELECT count(*) FROM events")[0][0] == 1, 20, "the row")
        finally:
            os.kill(pid, signal.SIGTERM)
            _, status = os.waitpid(pid, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 0)
        self.assertTrue(os.path.exists(path), "systemd owns the socket's file")

    def test_an_adopted_socket_takes_the_place_of_the_listener_of_its_path(self):
        directory = tempfile.mkdtemp(prefix="sluice-a-", dir="/tmp")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        path = os.path.join(directory, "adopted.sock")
        daemon = SluiceDaemon(self.dsn(),
                              {"listener": [{"socket": path, "default_type": "adopted"}]})
        self.addCleanup(daemon.close)
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(path)
        listener.listen()
        pid = spawn_with_listen_fd(daemon, listener)
        try:
            wait_until(lambda: daemon.page("/readyz")[0] == 200, 20, "the daemon to be ready")
            send(path, {"n": 1})
            send(daemon.socket_path, {"n": 2})  # not replaced: it is made as always
            wait_until(lambda: self.query("SELECT count(*) FROM events")[0][0] == 2, 20, "the rows")
        finally:
            os.kill(pid, signal.SIGTERM)
            _, status = os.waitpid(pid, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 0)
        self.assertEqual(dict(self.query("SELECT extra->>'n', type FROM events")),
                         {"1": "adopted", "2": "log"})
        self.assertTrue(os.path.exists(path))
        self.assertFalse(os.path.exists(daemon.socket_path))


def spawn_with_listen_fd(daemon, listener):
    """As systemd does it: the socket is descriptor 3, and LISTEN_PID names the process itself."""

    env = clean_environment({"LISTEN_FDS": "1"})
    pid = os.fork()
    if pid == 0:
        env["LISTEN_PID"] = str(os.getpid())
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)
        os.execve(sluice_binary(), ["sluice", "serve", "--config", daemon.config_path], env)
    return pid


class Help(unittest.TestCase):
    def test_help_and_version_everywhere(self):
        self.assertEqual(run_sluice("--version").returncode, 0)
        for command in ((), ("serve",), ("dev",), ("send",), ("check",), ("schema",),
                        ("schema", "print"), ("schema", "apply")):
            answer = run_sluice(*command, "--help")
            self.assertEqual(answer.returncode, 0, command)
            self.assertIn("Usage", answer.stdout)

    def test_wrong_usage_ends_with_64(self):
        self.assertEqual(run_sluice("serve", "--no-such-option").returncode, 64)
        self.assertEqual(run_sluice("no-such-command").returncode, 64)


if __name__ == "__main__":
    unittest.main()
