#!/usr/bin/python3
"""`sluice schema maintain`: partitions as time goes on, and rows of sluice's own tables that nobody needs."""

import os
import shutil
import socket
import tempfile
import threading
import unittest
import uuid

from support.segment_file import SegmentFile, crc32c
from support.sluice_daemon import run_sluice
from support.sluice_test import SluiceTest
from support.waiting import wait_until

NOTHING = "There was nothing to do.\n"


class MaintainTest(SluiceTest):
    def setUp(self):
        self.spool = tempfile.mkdtemp(prefix="sluice-m-", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.spool, ignore_errors=True)
        self.dbname = self.new_database()

    def maintain(self, *options, dsn=None, **settings):
        env = {"SLUICE_POSTGRES_DSN": dsn or self.dsn(), "SLUICE_SPOOL_DIR": self.spool}
        env.update({f"SLUICE_{name.upper()}": value for name, value in settings.items()})
        return run_sluice("schema", "maintain", *options, env=env, timeout=120)

    def assert_maintained(self, told, *options, **settings):
        done = self.maintain(*options, **settings)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, told, ""))


class Partitions(MaintainTest):
    def setUp(self):
        super().setUp()
        self.apply_schema("--partition", "day")

    def day(self, days):
        return self.query("SELECT to_char(now() AT TIME ZONE 'UTC' + %s * interval '1 day', 'YYYYMMDD')",
                          (days,))[0][0]

    def add_event(self, days):
        self.query("INSERT INTO events (id, occurred_at, type, received_at)"
                   " VALUES (gen_random_uuid(), now() + %s * interval '1 day', 't', now())", (days,))

    def partition_count(self):
        return self.query("SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass")[0][0]

    def test_what_is_due_is_made_moved_and_detached(self):
        self.assert_maintained(NOTHING)
        self.add_event(days=-20)
        self.query("UPDATE sluice.partitioned SET ahead = 8")
        self.assert_maintained(
            f"public.events: made events_p{self.day(-20)}; rows moved there from the DEFAULT partition: 1\n"
            f"public.events: made events_p{self.day(8)}\n")
        self.assert_maintained(NOTHING, "--detach-after", "30d")
        self.assert_maintained(f"public.events: detached events_p{self.day(-20)}\n", "--detach-after", "15d")
        self.assertEqual(self.query(f"SELECT count(*) FROM events_p{self.day(-20)}"), [(1,)])
        self.assert_maintained(NOTHING, "--detach-after", "15d")

    def test_detaching_goes_by_the_table_where_nothing_is_said(self):
        self.add_event(days=-20)
        self.maintain()
        self.query("UPDATE sluice.partitioned SET keep = '10 days'")
        self.assert_maintained(f"public.events: detached events_p{self.day(-20)}\n")

    def test_the_age_must_be_one(self):
        for age in ("0", "soon", "-1d"):
            refused = self.maintain(f"--detach-after={age}")
            self.assertEqual(refused.returncode, 64, age)
            self.assertIn("--detach-after", refused.stderr)

    def test_a_partition_that_cannot_be_made_is_said(self):
        self.query(f"UPDATE sluice.partitioned SET ahead = 9; CREATE TABLE events_p{self.day(8)} ()")
        done = self.maintain()
        self.assertEqual(done.returncode, 78)
        self.assertIn("warnings, which the server's log has: 1", done.stderr)
        self.assertEqual(done.stdout, f"public.events: made events_p{self.day(9)}\n")

    def test_a_long_transaction_is_waited_for_and_holds_nobody_up_meanwhile(self):
        self.query("UPDATE sluice.partitioned SET ahead = 8")
        writer = self.cluster.connect(self.dbname)
        self.addCleanup(writer.close)
        writer.execute("BEGIN")
        writer.execute("LOCK TABLE events IN ROW EXCLUSIVE MODE")
        done = []
        thread = threading.Thread(target=lambda: done.append(self.maintain()))
        thread.start()
        self.addCleanup(thread.join)
        wait_until(lambda: "canceling statement due to lock timeout" in self.cluster.log_text(), 60,
                   "the first try to give up")
        writer.execute("COMMIT")
        thread.join()
        self.assertEqual((done[0].returncode, done[0].stdout),
                         (0, f"public.events: made events_p{self.day(8)}\n"))

    def test_two_at_once_do_it_once(self):
        self.query("UPDATE sluice.partitioned SET ahead = 12")
        before = self.partition_count()
        done = []
        threads = [threading.Thread(target=lambda: done.append(self.maintain())) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([each.returncode for each in done], [0, 0, 0], [each.stderr for each in done])
        self.assertEqual(sum(each.stdout.count("made") for each in done), 5)
        self.assertEqual(self.partition_count(), before + 5)

    def test_only_the_owner_may(self):
        self.query("CREATE ROLE shipper LOGIN")
        self.apply_schema("--partition", "day", "--role", "shipper")
        refused = self.maintain(dsn=self.cluster.dsn(self.dbname, user="shipper"))
        self.assertEqual(refused.returncode, 78)
        self.assertIn("the owner of the tables may", refused.stderr)

    def test_without_a_server_or_a_schema(self):
        self.assertEqual(self.maintain(dsn="host=/tmp/no-such-directory").returncode, 69)
        refused = self.maintain(dsn=self.dsn(self.new_database()))
        self.assertEqual(refused.returncode, 78)
        self.assertIn("watermark", refused.stderr)


class Watermarks(MaintainTest):
    def setUp(self):
        super().setUp()
        self.apply_schema()

    def add_watermark(self, days, instance=None, segment=None):
        segment = segment or str(uuid.uuid4())
        self.query("INSERT INTO sluice.watermark (segment_id, upto, instance, updated_at)"
                   " VALUES (%s, 10, %s, now() - %s * interval '1 day')",
                   (segment, socket.gethostname() if instance is None else instance, days))
        return segment

    def watermarks(self):
        return {segment for segment, in self.query("SELECT segment_id::text FROM sluice.watermark")}

    def put(self, name, content=b""):
        path = os.path.join(self.spool, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "ab") as file:
            file.write(content)

    def test_those_of_segments_that_are_gone_go_after_30_days(self):
        young = self.add_watermark(days=29)
        for _ in range(3):
            self.add_watermark(days=31)
        self.assert_maintained("sluice: rows removed of segments that are done with: 3\n")
        self.assertEqual(self.watermarks(), {young})
        self.assert_maintained(NOTHING)

    def test_those_of_segments_that_are_in_the_spool_stay(self):
        lying, torn, aside = SegmentFile(1), SegmentFile(2), SegmentFile(3)
        lying.write(self.spool)
        os.makedirs(os.path.join(self.spool, "quarantine"))
        self.put(f"quarantine/{torn.name}-4096")
        rest = (f',"state":"dead","segment":"{aside.id}","index":3,"time":"2026-01-01T00:00:00.000000Z",'
                '"uid":null,"table":"t","sqlstate":"23514","message":"m","column":"","line":"{}"}').encode()
        self.put("aside/dead-1.ndjson", b'{"crc32c":"%08x"' % crc32c(rest) + rest + b"\n")
        kept = {self.add_watermark(days=1000, segment=str(segment.id)) for segment in (lying, torn, aside)}
        self.add_watermark(days=31)
        self.assert_maintained("sluice: rows removed of segments that are done with: 1\n")
        self.assertEqual(self.watermarks(), kept)

    def test_of_other_machines_only_those_that_are_a_year_old_go(self):
        kept = self.add_watermark(days=300, instance="elsewhere")
        self.add_watermark(days=370, instance="elsewhere")
        self.add_watermark(days=370, instance="")
        self.assert_maintained("sluice: rows removed of segments that are done with: 2\n")
        self.assertEqual(self.watermarks(), {kept})

    def test_where_the_spool_cannot_be_read_all_are_others(self):
        kept = self.add_watermark(days=300)
        self.add_watermark(days=370)
        self.assert_maintained("sluice: rows removed of segments that are done with: 1\n",
                               spool_dir="/tmp/no-such-directory")
        self.assertEqual(self.watermarks(), {kept})

    def test_a_daemon_that_was_idle_for_long_goes_on(self):
        daemon = self.start_daemon()
        self.ship(daemon, {"n": 1})
        self.query("UPDATE sluice.watermark SET updated_at = now() - interval '400 days'")
        self.assert_maintained(NOTHING, spool_dir=daemon.spool_dir)
        self.ship(daemon, {"n": 2})
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(2,)])

    def test_what_was_delivered_again_is_remembered_as_long_as_its_segment(self):
        self.query("CREATE TABLE IF NOT EXISTS sluice.redelivered (segment_id uuid NOT NULL, index bigint"
                   " NOT NULL, delivered_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (segment_id, index))")
        known, gone, young = self.add_watermark(days=1), str(uuid.uuid4()), str(uuid.uuid4())
        for segment, days in ((known, 40), (gone, 40), (young, 29)):
            self.query("INSERT INTO sluice.redelivered (segment_id, index, delivered_at)"
                       " VALUES (%s, 5, now() - %s * interval '1 day')", (segment, days))
        self.assert_maintained("sluice: rows removed of segments that are done with: 1\n")
        self.assertEqual({segment for segment, in self.query(
            "SELECT segment_id::text FROM sluice.redelivered")}, {known, young})

    def test_a_model_without_partitions(self):
        self.dbname = self.new_database()
        self.apply_schema("--model", "conversations")
        self.assert_maintained(NOTHING)
        self.add_watermark(days=31)
        self.assert_maintained("sluice: rows removed of segments that are done with: 1\n", "--detach-after", "1d")

    def test_a_schema_of_another_name(self):
        name = self.new_database()
        applied = run_sluice("schema", "apply", "--partition", "month",
                             env={"SLUICE_POSTGRES_DSN": self.dsn(name), "SLUICE_POSTGRES_SCHEMA": 'my "own"'})
        self.assertEqual(applied.returncode, 0, applied.stderr)
        self.query('UPDATE "my ""own""".partitioned SET ahead = 3;'
                   ' INSERT INTO "my ""own""".watermark (segment_id, updated_at)'
                   " VALUES (gen_random_uuid(), '2000-01-01')", dbname=name)
        done = self.maintain(dsn=self.dsn(name), postgres_schema='my "own"')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r'\Apublic.events: made events_p\d{6}\nmy "own": rows removed .*: 1\n\Z')


if __name__ == "__main__":
    unittest.main()
