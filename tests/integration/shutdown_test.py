#!/usr/bin/python3
"""Start and end of the daemon: SIGTERM drains, stale sockets, a second daemon, wrong settings."""

import os
import signal
import socket
import stat
import unittest

from support.producer import Load, as_line, connect, numbered
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
