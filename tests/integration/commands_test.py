#!/usr/bin/python3
"""The commands beside serve: schema, check, dev. `send` has send_test.py."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

import psycopg

from support.postgres_cluster import free_port
from support.sample_shipper import MODELS
from support.sluice_daemon import (clean_environment, run_sluice, sluice_binary, toml)
from support.sluice_test import SluiceTest
from support.waiting import wait_until


class Schema(SluiceTest):
    def test_print_is_sql_that_postgres_takes(self):
        printed = run_sluice("schema", "print")
        self.assertEqual(printed.returncode, 0, printed.stderr)
        name = self.new_database()
        with self.cluster.connect(name) as connection:
            connection.execute(printed.stdout)
        self.assertEqual(self.query("SELECT count(*) FROM events", dbname=name), [(0,)])

    def test_applying_twice_does_no_harm(self):
        self.query("INSERT INTO events (id, occurred_at, type, received_at)"
                   " VALUES (gen_random_uuid(), now(), 't', now())")
        self.apply_schema()
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(1,)])

    def test_a_foreign_table_of_that_name_is_refused(self):
        name = self.new_database()
        self.query("CREATE TABLE events (name text)", dbname=name)
        applied = run_sluice("schema", "apply", env={"SLUICE_POSTGRES_DSN": self.dsn(name)})
        self.assertNotEqual(applied.returncode, 0)
        self.assertIn("events", applied.stderr)
        self.assertEqual(self.query("SELECT to_regclass('sluice.watermark')", dbname=name), [(None,)])

    def test_events_never_change(self):
        self.query("INSERT INTO events (id, occurred_at, type, received_at)"
                   " VALUES (gen_random_uuid(), now(), 't', now())")
        for statement in ("UPDATE events SET type = 'x'", "DELETE FROM events", "TRUNCATE events",
                          "MERGE INTO events USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE"):
            with self.assertRaises(psycopg.Error, msg=statement):
                self.query(statement)
        self.assertEqual(self.query("SELECT type FROM events"), [("t",)])

    def test_the_shipping_role_may_append_and_no_more(self):
        self.query("CREATE ROLE shipper LOGIN")
        self.apply_schema("--role", "shipper")
        daemon = self.start_daemon(dsn=self.cluster.dsn(self.dbname, user="shipper"))
        self.ship(daemon, {"n": 1})
        rights = self.query("SELECT has_table_privilege('shipper', 'events', right_name)"
                            " FROM unnest(ARRAY['INSERT','UPDATE','DELETE','TRUNCATE']) right_name")
        self.assertEqual([right for right, in rights], [True, False, False, False])

    def test_partitions(self):
        for partition in ("day", "month"):
            with self.subTest(partition):
                name = self.new_database()
                self.apply_schema("--partition", partition, dbname=name)
                self.apply_schema("--partition", partition, dbname=name)
                partitions = self.query("SELECT count(*) FROM pg_inherits"
                                        " WHERE inhparent = 'events'::regclass", dbname=name)[0][0]
                self.assertGreaterEqual(partitions, 3)
                daemon = self.start_daemon(dsn=self.dsn(name))
                self.ship(daemon, {"n": 1}, {"n": 2, "time": "1999-01-01T00:00:00Z"},
                          {"n": 3, "time": "2150-01-01T00:00:00Z"})
                self.assertEqual(self.query("SELECT count(*) FROM events", dbname=name), [(3,)])
                for statement in ("UPDATE events SET type = 'x'", "DELETE FROM events"):
                    with self.assertRaises(psycopg.Error, msg=statement):
                        self.query(statement, dbname=name)

    def test_another_schema(self):
        name = self.new_database()
        self.query("CREATE SCHEMA memory", dbname=name)
        self.apply_schema("--schema", "memory", dbname=name)
        self.assertEqual(self.query("SELECT count(*) FROM memory.events", dbname=name), [(0,)])


class Check(SluiceTest):
    cluster_settings = {"fsync": "on"}

    def check(self, dsn, config=None, **settings):
        """`config`: a file. `settings`: such as metrics_listen="127.0.0.1:9464"."""
        directory = tempfile.mkdtemp(prefix="sluice-c-", dir="/tmp")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        env = {"SLUICE_POSTGRES_DSN": dsn,
               "SLUICE_INGEST_SOCKET": os.path.join(directory, "events.sock"),
               "SLUICE_SPOOL_DIR": os.path.join(directory, "spool"),
               "SLUICE_METRICS_LISTEN": f"127.0.0.1:{free_port()}"}
        env.update({f"SLUICE_{name.upper()}": value for name, value in settings.items()})
        arguments = ("--config", config) if config else ()
        answer = run_sluice("check", *arguments, env=env)
        return answer.returncode, answer.stdout + answer.stderr

    def test_all_is_well(self):
        code, told = self.check(self.dsn())
        self.assertEqual(code, 0, told)
        self.assertIn("primary", told)

    def test_findings_say_what_to_do(self):
        empty = self.new_database()
        code, told = self.check(self.dsn(empty))
        self.assertEqual(code, 78, told)
        self.assertIn("schema apply", told)
        self.query("ALTER TABLE events DROP COLUMN extra")
        code, told = self.check(self.dsn())
        self.assertEqual(code, 78, told)
        self.assertIn("extra", told)

    def test_a_right_that_is_missing_on_sluices_own_tables_is_named_with_its_grant(self):
        self.query("CREATE ROLE poor LOGIN")
        self.apply_schema("--role", "poor")
        dsn = self.cluster.dsn(self.dbname, user="poor")
        self.assertEqual(self.check(dsn)[0], 0)
        for table, right in (("redelivered", "SELECT"), ("redelivered", "INSERT"),
                             ("watermark", "UPDATE")):
            with self.subTest(table=table, right=right):
                self.query(f"REVOKE {right} ON sluice.{table} FROM poor")
                code, told = self.check(dsn)
                self.assertEqual(code, 78, told)
                self.assertIn(f'poor may not {right} "sluice".{table}', told)
                self.assertIn(f'GRANT {right} ON "sluice".{table} TO poor;', told)
                self.query(f"GRANT {right} ON sluice.{table} TO poor")

    def check_with(self, toml):
        with tempfile.NamedTemporaryFile("w", suffix=".toml", dir="/tmp") as file:
            file.write(toml)
            file.flush()
            code, told = self.check(self.dsn(), config=file.name)
            return code, told.replace(file.name, "FILE")

    def test_each_route_is_checked_with_its_place_in_the_file(self):
        self.query("CREATE TABLE good (id uuid PRIMARY KEY, made timestamptz NOT NULL DEFAULT now());"
                   "CREATE TABLE odd (id int, n int GENERATED ALWAYS AS (1) STORED, must text NOT NULL)")
        code, told = self.check_with(
            '[[route]]\nmatch = "good"\ntable = "good"\ncolumns = [{ name = "id", from = "$id" }]\n'
            '[[route]]\nmatch = "odd"\ntable = "odd"\nmode = "merge"\nkey = ["id"]\n'
            'columns = [\n{ name = "id", from = "$id" },\n{ name = "n", from = "n" },\n'
            '{ name = "gone", from = "n" }]\n'
            '[[route]]\nmatch = "none.*"\ntable = "no.where"\ncolumns = [{ name = "a", from = "a" }]\n')
        self.assertEqual(code, 78, told)
        for needle in ('ok    "good" -> good takes every column',
                       'column "id" of table odd has the type integer, which its value cannot be sent as'
                       ' (FILE:11)',
                       'column "n" of table odd is generated by the table and takes no value (FILE:12)',
                       'column "gone" of table odd does not exist (FILE:13)',
                       'wants a value that the route does not give: must (FILE:5)',
                       "no unique index of \"odd\" is of the key's columns (id) and no others (FILE:5)",
                       'table "no"."where" does not exist', "no route takes events of every type"):
            self.assertIn(needle, told)

    def test_no_server_ends_with_69(self):
        code, told = self.check("host=/tmp/no-such-directory")
        self.assertEqual(code, 69, told)

    def test_places_that_cannot_be_listened_on_are_found(self):
        with tempfile.TemporaryDirectory(prefix="sluice-c-", dir="/tmp") as directory:
            plain = os.path.join(directory, "plain")
            with open(plain, "w") as file:
                file.write("precious")
            for settings, code, needle in (
                    ({"metrics_listen": "9464"}, 78, "host:port"),
                    ({"metrics_listen": "192.0.2.1:9464"}, 69, "192.0.2.1:9464"),
                    ({"ingest_tcp": "127.0.0.1"}, 78, "no TCP address"),
                    ({"ingest_tcp": "0.0.0.0:9465"}, 78, "not loopback"),
                    ({"ingest_socket_group": "no-such-group"}, 78, "no-such-group"),
                    ({"ingest_socket": plain}, 78, "is no socket"),
                    ({"ingest_socket": "/tmp/no-such-directory/s"}, 78, "no-such-directory")):
                with self.subTest(settings):
                    found, told = self.check(self.dsn(), **settings)
                    self.assertEqual(found, code, told)
                    self.assertIn(needle, told)
            with open(plain) as file:
                self.assertEqual(file.read(), "precious")

    def test_the_spools_disk_is_tried_and_nothing_is_left_there(self):
        directory = tempfile.mkdtemp(prefix="sluice-c-", dir="/tmp")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        code, told = self.check(self.dsn(), spool_dir=directory)
        self.assertEqual(code, 0, told)
        self.assertIn('durability "power"', told)
        self.assertRegex(told, r"syncs 4 KiB in [\d.]+ ms \(median\), [\d.]+ ms \(p99\)")
        self.assertRegex(told, r"about \d+ acks a second")
        self.assertEqual(os.listdir(directory), [])
        code, told = self.check(self.dsn(), spool_durability="process")
        self.assertEqual(code, 0, told)
        self.assertIn("not the loss of power", told)
        code, told = self.check(self.dsn(), spool_durability="memory")
        self.assertEqual(code, 0, told)
        self.assertNotIn("syncs", told)

    def test_a_spool_that_will_not_do_is_found(self):
        with tempfile.NamedTemporaryFile() as plain:
            for spool_dir, needle in (("/tmp/no-such-directory/spool", "cannot write"),
                                      (plain.name, "is not a directory")):
                with self.subTest(spool_dir):
                    code, told = self.check(self.dsn(), spool_dir=spool_dir)
                    self.assertEqual(code, 78, told)
                    self.assertIn(needle, told)

    def test_a_spool_in_memory_or_larger_than_the_disk_is_noted(self):
        code, told = self.check(self.dsn(), spool_dir="/dev/shm", spool_bytes_max="1000TiB")
        self.assertEqual(code, 0, told)
        self.assertIn("survives no reboot", told)
        self.assertIn("lower spool.bytes_max", told)

    def test_a_running_daemon_is_no_fault(self):
        daemon = self.start_daemon()
        found, told = self.check(self.dsn(), ingest_socket=daemon.socket_path,
                                 spool_dir=daemon.spool_dir,
                                 metrics_listen=f"127.0.0.1:{daemon.metrics_port}")
        self.assertEqual(found, 0, told)
        self.assertIn("a daemon is running on it", told)
        self.ship(daemon, {"n": 1})

    def test_a_connection_string_that_is_none_is_found_and_not_repeated(self):
        for dsn in ("host=/tmp hunter2", "host=/tmp hunter2=x", "postgres://u:hunter2@[::1/db"):
            with self.subTest(dsn):
                found, told = self.check(dsn)
                self.assertEqual(found, 78, told)
                self.assertIn("postgres.dsn", told)
                self.assertNotIn("hunter2", told)

    def test_a_password_in_the_file_is_refused(self):
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(toml({"postgres": {"dsn": "host=/tmp password=hunter2"}}))
            file.flush()
            answer = run_sluice("check", "--config", file.name)
        self.assertEqual(answer.returncode, 78, answer.stderr)
        self.assertNotIn("hunter2", answer.stdout + answer.stderr)


class CommandLine(unittest.TestCase):
    def test_what_is_no_command_is_named(self):
        done = run_sluice("bog\x1bus")
        self.assertEqual(done.returncode, 64)
        self.assertEqual(done.stderr, "sluice: bog\\x1bus is not a command; sluice --help lists them\n")

    def test_send_takes_no_directory(self):
        done = run_sluice("send", "--socket", "/nowhere", "/tmp")
        self.assertEqual((done.returncode, done.stderr), (64, "sluice: /tmp: Is a directory\n"))


class Dev(unittest.TestCase):
    """`sluice dev` from nothing, and a second time on what is there."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="sl-", dir="/tmp")
        os.chmod(self.directory, 0o755)
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.processes = []

    def start(self, *options):
        log_path = os.path.join(self.directory, f"log{len(self.processes)}")
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                [sluice_binary(), "dev", "--dir", os.path.join(self.directory, "dev"), *options],
                env=clean_environment({"SLUICE_METRICS_LISTEN": f"127.0.0.1:{free_port()}"}),
                stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.processes.append(process)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

        def told():
            with open(log_path) as log:
                text = log.read()
            if process.poll() is not None:
                raise AssertionError(f"dev ended with {process.returncode}: {text}")
            return text if re.search(r"psql ", text) and re.search(r"nc -\w*U ", text) else None

        return process, wait_until(told, 60, "dev to print its lines")

    def run_line(self, told, pattern):
        """Runs the line that matches, as somebody would who pastes it."""
        line = re.search(pattern, told).group(0)
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, f"{line}: {done.stderr}")
        return done.stdout

    def rows(self, told):
        return self.run_line(told, r"psql .*")

    def test_first_and_second_run(self):
        process, told = self.start()
        sock = re.search(r"nc -\w*U (\S+)", told).group(1)
        sent = run_sluice("send", "--socket", sock, input='{"type":"first.seen"}\n')
        self.assertEqual(sent.returncode, 0, sent.stderr)
        wait_until(lambda: "first.seen" in self.rows(told), 20, "the row")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(60), 0)

        self.assertTrue(os.path.isdir(os.path.join(self.directory, "dev", "spool")))
        process, told = self.start()
        self.assertIn("first.seen", self.rows(told))
        process.terminate()
        self.assertEqual(process.wait(60), 0)

    def test_a_model_has_its_tables_and_routes(self):
        _, told = self.start("--model", "conversations")
        sock = re.search(r"nc -\w*U (\S+)", told).group(1)
        sent = run_sluice("send", "--socket", sock, os.path.join(MODELS, "conversations.ndjson"))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        wait_until(lambda: "(0 rows)" not in self.rows(told), 20, "rows of messages")
        checked = subprocess.run(
            ["bash", "-c", f"set -a; . {self.directory}/dev/connection; exec {sluice_binary()} check"],
            capture_output=True, text=True, timeout=60)
        self.assertNotIn("WRONG", checked.stdout)
        self.assertIn("-> messages takes every column", checked.stdout)

    def test_another_model_in_the_same_directory_says_what_to_do(self):
        process, _ = self.start("--model", "spirits")
        process.terminate()
        self.assertEqual(process.wait(60), 0)
        other = run_sluice("dev", "--dir", os.path.join(self.directory, "dev"))
        self.assertEqual(other.returncode, 78, other.stderr)
        self.assertIn("take another --dir", other.stderr)

    def test_a_crashed_run_is_taken_up(self):
        process, told = self.start()
        sock = re.search(r"nc -\w*U (\S+)", told).group(1)
        self.assertEqual(
            run_sluice("send", "--socket", sock, input='{"type":"before.crash"}\n').returncode, 0)
        wait_until(lambda: "before.crash" in self.rows(told), 20, "the row")
        pid_file = os.path.join(self.directory, "dev", "postgres", "postmaster.pid")
        with open(pid_file) as file:
            postmaster = int(file.readline())
        process.kill()
        process.wait()
        os.kill(postmaster, signal.SIGKILL)

        process, told = self.start()
        self.assertIn("before.crash", self.rows(told))
        process.terminate()
        self.assertEqual(process.wait(60), 0)

        # A number that another living process has by now.
        with open(pid_file, "w") as file:
            file.write(f"{os.getpid()}\n")
        _, told = self.start()
        self.assertIn("before.crash", self.rows(told))

    def test_a_second_one_on_the_same_directory_ends_with_75(self):
        self.start()
        second = run_sluice("dev", "--dir", os.path.join(self.directory, "dev"))
        self.assertEqual(second.returncode, 75, second.stderr)


if __name__ == "__main__":
    unittest.main()
