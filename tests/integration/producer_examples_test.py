#!/usr/bin/python3
"""The producers of examples/: what a program sees of them when the daemon refuses, goes and comes back, and that
beside a daemon that is killed nothing is lost and nothing doubled."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from support.fake_ack_server import FakeAckServer
from support.producer import numbered
from support.sluice_test import SluiceTest
from support.waiting import SLOWNESS, wait_until

EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))), "examples")
sys.path.insert(0, EXAMPLES)

from sluice_producer import SluiceHandler, SluiceProducer  # noqa: E402

BASH_PRODUCER = os.path.join(EXAMPLES, "sluice-producer.sh")


def event(source, n):
    return {"type": "load", "source": source, "data": {"n": n}}


class FakeServerCase(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="sluice-examples-", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.socket_path = os.path.join(self.directory, "events.sock")
        self.server = FakeAckServer(self.socket_path)
        self.addCleanup(self.server.stop)

    def numbers(self):
        return [json.loads(line)["data"]["n"] for line in self.server.stored]

    def node(self, script, *arguments):
        """Runs a module that may import the example as `./sluice-producer.mjs`; its last line as JSON."""
        path = os.path.join(self.directory, "test.mjs")
        shutil.copy(os.path.join(EXAMPLES, "sluice-producer.mjs"), self.directory)
        with open(path, "w") as file:
            file.write('import { SluiceProducer } from "./sluice-producer.mjs";\n' + script)
        done = subprocess.run(["/usr/bin/node", path, self.socket_path, *arguments],
                              capture_output=True, text=True, timeout=60 * SLOWNESS)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout.splitlines()[-1])

    def bash(self, *arguments, env=None, **more):
        return subprocess.run([BASH_PRODUCER, self.socket_path, *arguments], capture_output=True,
                              text=True, timeout=60 * SLOWNESS, env={**os.environ, **(env or {})},
                              **more)


class Python(FakeServerCase):
    def producer(self, **options):
        producer = SluiceProducer(self.socket_path, "p", **options)
        self.addCleanup(producer.close, 0)
        return producer

    def test_events_are_stored_in_order_when_close_returns(self):
        self.server.start()
        with self.producer() as producer:
            for n in range(1000):
                self.assertTrue(producer.emit(event("p", n)))
        self.assertEqual(self.numbers(), list(range(1000)))
        self.assertEqual((producer.acked, producer.pending, producer.refused), (1000, 0, 0))

    def test_a_program_may_start_before_the_daemon(self):
        producer = self.producer()
        self.assertTrue(producer.emit(event("p", 0)))
        self.assertFalse(producer.flush(0.05))
        self.server.start()
        self.assertTrue(producer.close())
        self.assertEqual(self.numbers(), [0])

    def test_a_full_buffer_blocks_no_longer_than_it_was_told(self):
        producer = self.producer(timeout=0.2, buffer_bytes=1000)
        while producer.emit(event("p", 0), timeout=0):
            pass
        for patience in (None, 0.4, 0):
            begun = time.monotonic()
            self.assertFalse(producer.emit(event("p", 0), timeout=patience))
            took = time.monotonic() - begun
            wanted = 0.2 if patience is None else patience
            self.assertGreaterEqual(took, wanted)
            self.assertLess(took, wanted + 0.5 * SLOWNESS)
        self.assertEqual(producer.dropped, 4)

    def test_a_program_that_waits_for_room_goes_on_when_there_is_some(self):
        producer = self.producer(timeout=30, buffer_bytes=1000)
        while producer.emit(event("p", 0), timeout=0):
            pass
        threading.Timer(0.05, self.server.start).start()
        self.assertTrue(producer.emit(event("p", 1)))
        self.assertTrue(producer.close())

    def test_lost_connections_lose_and_double_nothing(self):
        self.server.lose_after = [10, 0, 100, 1]
        self.server.acked_late = 5
        self.server.start()
        producer = self.producer()
        for n in range(2000):
            self.assertTrue(producer.emit(event("p", n)))
        self.assertTrue(producer.close(30 * SLOWNESS))
        self.assertEqual(self.numbers(), list(range(2000)))
        self.assertEqual(len(self.server.hellos), 5)

    def test_refused_events_are_told_once_with_their_code(self):
        self.server.refuse = {b'"n":[13]}': "syntax"}
        self.server.lose_after = [2]
        self.server.acked_late = 3
        told = []
        self.server.start()
        producer = self.producer(on_refused=lambda line, code: told.append(
            (json.loads(line)["data"]["n"], code)))
        for n in range(5):
            producer.emit(event("p", n))
        self.assertTrue(producer.close())
        self.assertEqual(told, [(1, "syntax"), (3, "syntax")])
        self.assertEqual((producer.acked, producer.refused), (3, 2))
        self.assertEqual(self.numbers(), [0, 2, 4])

    def test_a_callback_that_raises_is_reported_and_the_sending_goes_on(self):
        self.server.refuse = {b'"n":[13]}': "syntax"}
        self.server.start()
        reported = []
        self.addCleanup(setattr, threading, "excepthook", threading.excepthook)
        threading.excepthook = lambda args: reported.append(args.exc_type)
        for wrong in (KeyError, SystemExit):
            def raises(line, code):
                raise wrong(code)
            with SluiceProducer(self.socket_path, "p", on_refused=raises) as producer:
                for n in range(5):
                    producer.emit(event("p", n))
            self.assertEqual((producer.acked, producer.refused, producer.pending), (3, 2, 0))
        self.assertEqual(reported, [KeyError] * 2 + [SystemExit] * 2)

    def test_a_long_name_is_cut_between_two_characters(self):
        self.server.start()
        for name, cut in (("\u00e9" * 200, "\u00e9" * 75), ("x" + "\u00e9" * 200, "x" + "\u00e9" * 74),
                          ("\U0001f600" * 200, "\U0001f600" * 37), ("\ud800x", "?x")):
            with SluiceProducer(self.socket_path, name) as producer:
                producer.emit(event("p", 0))
            self.assertEqual(self.server.hellos[-1]["producer"].split(":")[0], cut)

    def test_what_found_no_room_is_sent_again_and_stored_once(self):
        self.server.full_at = [1, 3, 1, 2]
        self.server.start()
        producer = self.producer()
        for n in range(5):
            producer.emit(event("p", n))
        self.assertTrue(producer.close())
        self.assertEqual(self.numbers(), [0, 1, 2, 3, 4])
        self.assertEqual((producer.acked, producer.refused), (5, 0))

    def test_close_says_that_events_are_left(self):
        producer = self.producer()
        producer.emit(event("p", 0))
        begun = time.monotonic()
        self.assertFalse(producer.close(0.2))
        self.assertLess(time.monotonic() - begun, 0.2 + 0.4 * SLOWNESS)
        self.assertEqual(producer.dropped, 1)

    def test_a_handler_ends_when_it_was_told_and_counts_what_is_left(self):
        handler = SluiceHandler(self.socket_path, "planner", close_timeout=0.2)
        handler.emit(logging.makeLogRecord({"msg": "nobody there"}))
        begun = time.monotonic()
        handler.close()
        self.assertLess(time.monotonic() - begun, 0.2 + 0.4 * SLOWNESS)
        handler.close()  # as logging does at the end of the program
        self.assertLess(time.monotonic() - begun, 0.2 + 0.4 * SLOWNESS)
        self.assertEqual(handler.dropped, 1)

    def test_a_handler_s_own_name_is_not_the_events_source(self):
        handler = SluiceHandler(self.socket_path, "planner", close_timeout=0)
        handler.name = "the_configurations_key"
        self.assertEqual(handler.event_of(logging.makeLogRecord({}))["source"], "planner")
        handler.close()

    def test_what_is_no_json_is_the_callers_error(self):
        producer = self.producer()
        for wrong in ({"a": object()}, {"a": float("nan")}):
            with self.assertRaises((TypeError, ValueError)):
                producer.emit(wrong)

    def test_log_records_become_events(self):
        self.server.start()
        logger = logging.Logger("agent.tools")
        handler = SluiceHandler(self.socket_path, "planner")
        logger.addHandler(handler)
        logger.info("read %d files", 3, extra={
            "tool": "grep", "where": {1, }, "score": float("nan"), "by_place": {(1, 2): "x"}})
        try:
            raise ValueError("no")
        except ValueError:
            logger.exception("failed")
        handler.close()
        first, second = map(json.loads, self.server.stored)
        self.assertEqual((first["type"], first["source"], first["level"], first["logger"],
                          first["message"]),
                         ("log", "planner", "INFO", "agent.tools", "read 3 files"))
        self.assertEqual(first["data"], {
            "tool": "grep", "where": "{1}", "score": "nan", "by_place": "{(1, 2): 'x'}"})
        self.assertRegex(first["time"], r"^\d{4}-.*\+00:00$")
        self.assertIn("ValueError: no", second["exception"])

    def test_the_file_runs_by_itself(self):
        self.server.start()
        done = subprocess.run(
            ["/usr/bin/python3", os.path.join(EXAMPLES, "sluice_producer.py"), self.socket_path],
            capture_output=True, text=True, timeout=30 * SLOWNESS)
        self.assertEqual(done.stdout, "3 events stored, 0 not\n", done.stderr)


class Node(FakeServerCase):
    SEND = """
        const producer = new SluiceProducer(process.argv[2], "n", { bufferBytes: 20000 });
        for (let n = 0; n < 2000; ++n) {
          while (!producer.emit({ type: "load", source: "n", data: { n } })) await producer.room();
        }
        const closed = await producer.close(30000);
        const { acked, pending, refused } = producer;
        console.log(JSON.stringify({ closed, acked, pending, refused }));
    """

    def test_events_are_stored_in_order_when_close_resolves(self):
        self.server.start()
        self.assertEqual(self.node(self.SEND),
                         {"closed": True, "acked": 2000, "pending": 0, "refused": 0})
        self.assertEqual(self.numbers(), list(range(2000)))

    def test_lost_connections_lose_and_double_nothing(self):
        self.server.lose_after = [10, 0, 100, 1]
        self.server.acked_late = 5
        self.server.start()
        self.assertTrue(self.node(self.SEND)["closed"])
        self.assertEqual(self.numbers(), list(range(2000)))
        self.assertEqual(len(self.server.hellos), 5)

    def test_a_full_buffer_never_blocks_and_is_waited_for_as_told(self):
        told = self.node("""
            const producer = new SluiceProducer(process.argv[2], "n", { bufferBytes: 1000 });
            let taken = 0;
            while (producer.emit({ n: taken })) ++taken;
            const begun = performance.now();
            const room = await producer.room(200);
            const waited = performance.now() - begun;
            const closed = await producer.close(100);
            console.log(JSON.stringify({ taken, room, waited, closed, dropped: producer.dropped }));
        """)
        self.assertGreater(told["taken"], 10)
        self.assertFalse(told["room"])
        self.assertFalse(told["closed"])
        self.assertGreaterEqual(told["waited"], 199)
        self.assertLess(told["waited"], 200 + 500 * SLOWNESS)
        self.assertEqual(told["dropped"], 1)

    def test_refused_events_are_told_once_with_their_code(self):
        self.server.refuse = {b'"n":[13]}': "syntax"}
        self.server.lose_after = [2]
        self.server.acked_late = 3
        self.server.start()
        told = self.node("""
            const told = [];
            const onRefused = (line, code) => told.push([JSON.parse(line).data.n, code]);
            const producer = new SluiceProducer(process.argv[2], "n", { onRefused });
            for (let n = 0; n < 5; ++n) producer.emit({ data: { n } });
            await producer.close();
            console.log(JSON.stringify({ told, acked: producer.acked, refused: producer.refused }));
        """)
        self.assertEqual(told, {"told": [[1, "syntax"], [3, "syntax"]], "acked": 3, "refused": 2})
        self.assertEqual(self.numbers(), [0, 2, 4])

    def test_what_found_no_room_is_sent_again_and_stored_once(self):
        self.server.full_at = [1, 3, 1, 2]
        self.server.start()
        told = self.node("""
            const producer = new SluiceProducer(process.argv[2], "n");
            for (let n = 0; n < 5; ++n) producer.emit({ data: { n } });
            const closed = await producer.close();
            console.log(JSON.stringify({ closed, acked: producer.acked }));
        """)
        self.assertEqual(told, {"closed": True, "acked": 5})
        self.assertEqual(self.numbers(), [0, 1, 2, 3, 4])

    def test_the_file_runs_by_itself(self):
        self.server.start()
        done = subprocess.run(
            ["/usr/bin/node", os.path.join(EXAMPLES, "sluice-producer.mjs"), self.socket_path],
            capture_output=True, text=True, timeout=30 * SLOWNESS)
        self.assertEqual(done.stdout, "3 events stored, 0 not\n", done.stderr)


    def test_a_callback_that_throws_is_reported_and_the_connection_stays(self):
        self.server.refuse = {b'"n":[13]}': "syntax"}
        self.server.start()
        told = self.node("""
            const warnings = [];
            process.on("warning", (warning) => warnings.push(warning.message));
            const onRefused = (line, code) => { throw new Error(code); };
            const producer = new SluiceProducer(process.argv[2], "n", { onRefused });
            for (let n = 0; n < 5; ++n) producer.emit({ data: { n } });
            const closed = await producer.close();
            console.log(JSON.stringify({ warnings, closed, acked: producer.acked }));
        """)
        self.assertEqual(told, {"warnings": ["syntax"] * 2, "closed": True, "acked": 3})
        self.assertEqual(len(self.server.hellos), 1)

    def test_a_long_name_is_cut_between_two_characters(self):
        self.server.start()
        self.node("""
            for (const name of ["\\u00e9".repeat(200), "\\u{1f600}x".repeat(200)]) {
              const producer = new SluiceProducer(process.argv[2], name);
              producer.emit({ data: 1 });
              await producer.close();
            }
            console.log("null");
        """)
        names = [hello["producer"] for hello in self.server.hellos]
        self.assertEqual([name.split(":")[0] for name in names],
                         ["\u00e9" * 75, "\U0001f600x" * 30])


class Bash(FakeServerCase):
    def file(self, content):
        path = os.path.join(self.directory, "lines")
        with open(path, "wb") as file:
            file.write(content)
        return path

    def test_a_file_is_stored_once_however_often_it_is_sent(self):
        self.server.start()
        path = self.file(numbered("b", 0, 100)[:-1])
        for _ in range(2):
            sent = self.bash("b", path)
            self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual(self.server.stored, numbered("b", 0, 100).splitlines())
        self.assertEqual(self.server.duplicates, 0)

    def test_standard_input(self):
        self.server.start()
        sent = self.bash("b", input=numbered("b", 0, 10).decode())
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual(self.numbers(), list(range(10)))

    def test_lost_connections_lose_and_double_nothing(self):
        # Each try asks first how far the daemon is, over a connection of its own.
        self.server.lose_after = [None, 10, None, 1000]
        self.server.start()
        sent = self.bash("b", self.file(numbered("b", 0, 5000, "x" * 200)))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual(self.numbers(), list(range(5000)))

    def test_what_found_no_room_is_sent_again_and_stored_once(self):
        # Every second connection asks how far the daemon is.
        self.server.full_at = [None, 1, None, 3]
        self.server.refuse = {b"secret": "syntax"}
        self.server.start()
        path = self.file(b'{"data":{"n":0}}\n{"secret":1}\n' + numbered("b", 1, 4))
        sent = self.bash("b", path)
        self.assertEqual(sent.returncode, 65, sent.stderr)
        self.assertEqual(sent.stderr, f"{path}:2: refused: syntax\n")
        self.assertEqual(self.numbers(), [0, 1, 2, 3, 4])

    def test_a_daemon_without_room_ends_with_69(self):
        self.server.full = True
        self.server.start()
        sent = self.bash("b", self.file(numbered("b", 0, 2)), env={"SLUICE_PATIENCE": "0"})
        self.assertEqual(sent.returncode, 69, sent.stderr)
        self.assertEqual(self.server.stored, [])

    def test_a_daemon_that_hangs_ends_with_69(self):
        for where in ("hello", "lines"):
            with self.subTest(where=where):
                self.server.hangs_at = where
                self.server.start()
                sent = self.bash("b", self.file(numbered("b", 0, 2)), env={"SLUICE_PATIENCE": "1"})
                self.server.stop()
                self.assertEqual(sent.returncode, 69, sent.stderr)
                self.assertIn("of 2 lines are done with", sent.stderr)

    def test_refused_lines_are_named_without_their_text_and_end_with_65(self):
        self.server.refuse = {b"secret": "syntax"}
        self.server.start()
        path = self.file(b'{"data":{"n":1}}\n{"secret":1}\n{"data":{"n":2}}\n')
        sent = self.bash("b", path)
        self.assertEqual(sent.returncode, 65, sent.stderr)
        self.assertEqual(sent.stderr, f"{path}:2: refused: syntax\n")
        self.assertEqual(self.numbers(), [1, 2])

    def test_bytes_that_are_no_text_come_as_they_are(self):
        self.server.start()
        lines = [b'{"a":"\xff\xfe\xc3"}', b"  ", b'{"b":"' + b"x" * 300_000 + b'"}\r']
        sent = self.bash("b", self.file(b"\n".join(lines)))
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual(self.server.stored, [lines[0], lines[2]])

    def test_fewer_lines_than_the_daemon_has_are_other_lines(self):
        self.server.start()
        self.bash("b", self.file(numbered("b", 0, 10)))
        sent = self.bash("b", self.file(numbered("b", 0, 5)))
        self.assertEqual(sent.returncode, 65, sent.stderr)
        self.assertIn("another NAME", sent.stderr)

    def test_nobody_there_ends_with_69(self):
        sent = self.bash("b", self.file(b"{}\n"), env={"SLUICE_PATIENCE": "0"})
        self.assertEqual(sent.returncode, 69, sent.stderr)


class KilledDaemon(SluiceTest):
    """Producers of all three languages beside a daemon that is killed again and again."""

    KILLS = 4

    def setUp(self):
        super().setUp()
        self.drop_primary_key()
        self.daemon = self.start_daemon()
        self.path = self.daemon.socket_path

    def rows_stored(self):
        return self.query("SELECT count(*) FROM events")[0][0]

    def kill_while_it_works(self, is_working):
        for _ in range(self.KILLS):
            before = self.rows_stored()
            wait_until(lambda: self.rows_stored() >= before + 500, 60, "more rows")
            self.assertTrue(is_working())
            self.daemon.signal(signal.SIGKILL)
            self.daemon.wait()
            self.daemon.start()

    def assert_rows_exactly_once(self, source, count):
        wait_until(lambda: self.rows_stored() >= count, 60, f"{count} rows")
        self.assert_each_once({source: count})

    def test_python(self):
        producer = SluiceProducer(self.path, "p", timeout=60)
        self.addCleanup(producer.close, 0)
        enough = threading.Event()
        taken = []

        def work():
            while not enough.wait(0.001):
                for _ in range(10):
                    taken.append(producer.emit(event("p", len(taken))))

        worker = threading.Thread(target=work)
        worker.start()
        self.addCleanup(enough.set)
        self.kill_while_it_works(worker.is_alive)
        enough.set()
        worker.join()
        self.assertTrue(producer.close(60 * SLOWNESS))
        self.assertTrue(all(taken))
        self.assertEqual(producer.acked, len(taken))
        self.assert_rows_exactly_once("p", len(taken))

    def test_node(self):
        path = os.path.join(self.daemon.directory, "load.mjs")
        with open(path, "w") as file:
            file.write("""
                import { setTimeout } from "node:timers/promises";
                import { SluiceProducer } from "%s/sluice-producer.mjs";
                const producer = new SluiceProducer(process.argv[2], "n");
                let enough = false;
                process.stdin.on("end", () => (enough = true)).resume();
                let n = 0;
                for (; !enough; ++n) {
                  const event = { type: "load", source: "n", data: { n } };
                  while (!producer.emit(event)) await producer.room();
                  if (n %% 10 === 0) await setTimeout(1);
                }
                const closed = await producer.close(60000);
                console.log(JSON.stringify({ n, closed, acked: producer.acked }));
            """ % EXAMPLES)
        process = subprocess.Popen(["/usr/bin/node", path, self.path], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.kill_while_it_works(lambda: process.poll() is None)
        told = json.loads(process.communicate(timeout=120 * SLOWNESS)[0])
        self.assertEqual(told, {"n": told["n"], "closed": True, "acked": told["n"]})
        self.assert_rows_exactly_once("n", told["n"])

    def test_bash(self):
        # The queue is small, so that the daemon is never far ahead of the rows.
        self.daemon.write_config(self.dsn(), {
            "ingest": {"queue_bytes_max": "4MiB"}, "postgres": {"lanes": 1}})
        self.daemon.stop()
        self.daemon.start()
        path = os.path.join(self.daemon.directory, "lines")
        count = 40_000
        with open(path, "wb") as file:
            file.write(b"".join(
                b'{"type":"load","source":"b","data":{"n":%d,"padding":"%s"}}\n' % (n, b"x" * 3000)
                for n in range(count)))
        process = subprocess.Popen([BASH_PRODUCER, self.path, "b", path], stderr=subprocess.PIPE,
                                   text=True)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.kill_while_it_works(lambda: process.poll() is None)
        told = process.communicate(timeout=120 * SLOWNESS)[1]
        self.assertEqual(process.returncode, 0, told)
        self.assert_rows_exactly_once("b", count)


if __name__ == "__main__":
    unittest.main()
