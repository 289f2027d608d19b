#!/usr/bin/python3
"""Rows that are merged: a key that is taken is a late duplicate, or sets the row aside, as the route says;
also in tables with row-level security, with partitions, with triggers, and through pgbouncer."""

import json
import unittest
import uuid

from support import producer
from support.fault_test import FaultTest
from support.oracle import set_aside_records
from support.pgbouncer import Pgbouncer
from support.sluice_daemon import SluiceDaemon, run_sluice
from support.waiting import wait_until

COLUMNS = {"id": "$id", "occurred_at": "time", "type": "type", "source": "source", "data": "data",
           "received_at": "$received_at", "dedupe_key": "dedupe_key"}
TABLE = """CREATE TABLE notes (id uuid NOT NULL, occurred_at timestamptz NOT NULL, type text, source text,
           data jsonb, received_at timestamptz, dedupe_key text"""
# The dedupe window would know what is sent twice.
NO_WINDOW = {"dedupe": {"keys_max": 0}}


def route(table, mode, columns=None, match="*", **more):
    lines = [f"{key} = {json.dumps(value)}"
             for key, value in {"match": match, "table": table, "mode": mode, **more}.items()]
    columns = [f"{{ name = {json.dumps(name)}, from = {json.dumps(source)} }}"
               for name, source in (columns or COLUMNS).items()]
    return "\n".join(["[[route]]", *lines, "columns = [" + ",\n".join(columns) + "]", ""])


def note(number, **more):
    return {"id": str(uuid.UUID(int=number)), "type": "note", "source": "p",
            "time": "2026-01-01T00:00:00Z", "data": {"n": number}, **more}


class Merge(FaultTest):
    def start_routed(self, *routes, dsn=None, settings=None):
        settings = {"postgres": {"lanes": 1}, **NO_WINDOW, **(settings or {}),
                    "spool": self.spool_settings()}
        daemon = SluiceDaemon(dsn or self.dsn(), settings)
        with open(daemon.config_path, "a") as file:
            file.write("\n".join(routes))
        self.addCleanup(daemon.close)
        daemon.start()
        self.addCleanup(self.check_books, daemon)
        return daemon

    def send(self, daemon, *events):
        before = daemon.events("received")
        producer.send(daemon.socket_path, b"\n".join(json.dumps(event).encode() for event in events))
        self.wait_quiet(daemon, before + len(events))

    def numbers(self, table="notes"):
        return [n for (n,) in self.query(f"SELECT (data->>'n')::int FROM {table} ORDER BY 1")]

    def dead(self):
        watermarks = dict(self.query("SELECT segment_id::text, upto FROM sluice.watermark"))
        records = set_aside_records(self.spools, watermarks)
        return sorted((json.loads(record["line"])["data"]["n"], record["sqlstate"])
                      for record in records)

    def in_table(self, daemon):
        series = 'sluice_events_total{reason="in_table",stage="duplicate"}'
        metrics = daemon.metrics()
        return int(metrics.get(series, metrics.get(
            'sluice_events_total{stage="duplicate",reason="in_table"}', 0)))

    def test_the_same_again_is_a_duplicate_and_other_content_is_set_aside(self):
        self.query(TABLE + ", PRIMARY KEY (id))")
        daemon = self.start_routed(route("notes", "merge"))
        events = [note(n) for n in range(50)]
        self.send(daemon, *events)
        self.send(daemon, *events, note(50))
        self.send(daemon, note(7), {**note(8), "data": {"n": 1008}}, note(51), note(51))
        self.assertEqual(self.numbers(), list(range(52)))
        self.assertEqual(self.dead(), [(1008, "23505")])
        self.assertEqual(self.in_table(daemon), 52)

    def test_what_a_plain_copy_meets_after_many_batches_of_new_keys(self):
        """Also what it meets before the key: indexes are looked at in the order in which they were made."""
        self.query(TABLE + ", EXCLUDE USING hash ((data->>'n') WITH =))")
        self.query("ALTER TABLE notes ADD PRIMARY KEY (id)")
        daemon = self.start_routed(route("notes", "merge"))
        for n in range(12):
            self.send(daemon, note(n, dedupe_key=str(n)))
        self.send(daemon, note(3, dedupe_key="3"), note(12), {**note(13), "data": {"n": 4}}, note(14))
        self.send(daemon, note(3, dedupe_key="5"), note(15))
        self.assertEqual(self.numbers(), [*range(13), 14, 15])
        self.assertEqual(self.dead(), [(3, "23505"), (4, "23P01")])
        self.assertEqual(self.in_table(daemon), 1)

    def test_what_the_daemon_adds_is_not_compared(self):
        """An event without a time has that of its receipt, and one without an id a new one each time."""
        self.query(TABLE + ", PRIMARY KEY (id), UNIQUE (dedupe_key))")
        daemon = self.start_routed(route("notes", "merge", key=["dedupe_key"]))
        event = {"type": "note", "data": {"n": 1}, "dedupe_key": "k"}
        self.send(daemon, event)
        self.send(daemon, event)
        self.assertEqual((self.numbers(), self.dead(), self.in_table(daemon)), ([1], [], 1))
        self.send(daemon, {**event, "time": "2026-01-01T00:00:00Z"})
        self.assertEqual(self.dead(), [(1, "23505")])

    def test_with_skip_the_key_decides_also_by_a_partial_index(self):
        self.query(TABLE + ")")
        self.query("CREATE UNIQUE INDEX ON notes (dedupe_key) WHERE dedupe_key IS NOT NULL")
        daemon = self.start_routed(route("notes", "merge", key=["dedupe_key"], on_conflict="skip"))
        self.send(daemon, note(1, dedupe_key="a"), note(2, dedupe_key="a"), note(3), note(3))
        self.send(daemon, note(4, dedupe_key="a"), note(5, dedupe_key="b"), note(3))
        self.assertEqual((self.numbers(), self.dead()), ([1, 3, 3, 3, 5], []))
        self.assertEqual(self.in_table(daemon), 2)

    def test_a_partial_index_compares_only_its_rows(self):
        self.query(TABLE + ")")
        self.query("CREATE UNIQUE INDEX ON notes (dedupe_key) WHERE dedupe_key IS NOT NULL")
        daemon = self.start_routed(route("notes", "merge", key=["dedupe_key"]))
        self.send(daemon, note(1, dedupe_key="a"), note(3), note(3))
        self.send(daemon, note(1, dedupe_key="a"), note(4, dedupe_key="a"), note(3))
        self.assertEqual((self.numbers(), self.dead()), ([1, 3, 3, 3], [(4, "23505")]))

    def test_a_key_of_which_one_row_may_be_null(self):
        self.query(TABLE + ", UNIQUE NULLS NOT DISTINCT (dedupe_key))")
        daemon = self.start_routed(route("notes", "merge", key=["dedupe_key"]))
        self.send(daemon, note(1), note(2, dedupe_key="a"))
        self.send(daemon, note(1), note(2, dedupe_key="a"), note(3), note(4, dedupe_key="b"))
        self.assertEqual((self.numbers(), self.dead()), ([1, 2, 4], [(3, "23505")]))
        self.assertEqual(self.in_table(daemon), 2)

    def test_what_is_compared_is_found_by_the_index(self):
        """Of a table that is much larger than a batch a comparison reads no more than of a small one."""
        self.query(TABLE + ", PRIMARY KEY (id))")
        self.query("INSERT INTO notes SELECT lpad(to_hex(n), 32, '0')::uuid, '2026-01-01Z', 'note', 'p',"
                   " jsonb_build_object('n', n) FROM generate_series(1, 20000) AS n")
        daemon = self.start_routed(route("notes", "merge"))
        read = ("SELECT seq_tup_read + idx_tup_fetch, n_tup_ins FROM pg_stat_user_tables"
                " WHERE relname = 'notes'")
        wait_until(lambda: self.query(read)[0][1] == 20_000, 30, "the server to count what was loaded")
        before = self.query(read)[0][0]
        self.send(daemon, *(note(n) for n in range(19_900, 20_100)))
        self.assertEqual(self.in_table(daemon), 101)
        wait_until(lambda: self.query(read)[0][1] == 20_099, 30, "the server to count what was merged")
        self.assertLess(self.query(read)[0][0] - before, 1_000)

    def test_with_dead_each_row_whose_key_is_taken_is_set_aside(self):
        self.query(TABLE + ", PRIMARY KEY (id))")
        daemon = self.start_routed(route("notes", "merge", on_conflict="dead"))
        self.send(daemon, note(1), note(2), note(2), note(3))
        self.send(daemon, note(3), note(4))
        self.assertEqual((self.numbers(), self.dead()),
                         ([1, 2, 3, 4], [(2, "23505"), (3, "23505")]))

    def test_an_appended_log_that_is_sent_again_costs_no_data_and_no_alarm(self):
        self.query("ALTER TABLE events ADD PRIMARY KEY (id)")
        daemon = self.start_daemon({**NO_WINDOW, "spool": self.spool_settings()})
        events = [note(n) for n in range(3_000)]
        self.send(daemon, *events)
        self.send(daemon, *events)
        self.send(daemon, *[note(n) for n in range(3_000, 3_010)])
        self.assertEqual(self.numbers("events"), list(range(3_010)))
        self.assertEqual((self.dead(), self.in_table(daemon)), ([], 3_000))
        self.assertNotIn("held", daemon.log_text())

    def test_another_constraint_than_the_key_sets_only_its_row_aside(self):
        self.query(TABLE + ", PRIMARY KEY (id), UNIQUE (source, dedupe_key))")
        for mode in ("merge", "append"):
            with self.subTest(mode):
                self.query("TRUNCATE notes")
                daemon = self.start_routed(route("notes", mode))
                self.send(daemon, *(note(n) for n in range(20)))
                self.send(daemon, note(5), note(31, dedupe_key="x"), note(32, dedupe_key="x"), note(33))
                self.assertEqual(self.numbers(), [*range(20), 31, 33])
                self.assertEqual(self.dead(), [(32, "23505")])
                self.assertEqual(self.in_table(daemon), 1)
                self.spools.clear()
                self.assertEqual(daemon.stop(), 0)

    def test_a_partitioned_table_and_keys_in_several_partitions(self):
        self.query(TABLE + ", PRIMARY KEY (id, occurred_at)) PARTITION BY RANGE (occurred_at)")
        self.query("CREATE TABLE notes_old PARTITION OF notes FOR VALUES FROM (MINVALUE) TO ('2026-01-01')")
        self.query("CREATE TABLE notes_default PARTITION OF notes DEFAULT")
        for mode in ("merge", "append"):
            with self.subTest(mode):
                self.query("TRUNCATE notes")
                daemon = self.start_routed(route("notes", mode))
                events = [note(n, time=f"20{20 + n % 10}-06-01T00:00:00Z") for n in range(20)]
                self.send(daemon, *events)
                self.send(daemon, *events)
                self.assertEqual((self.numbers(), self.dead()), (list(range(20)), []))
                self.assertEqual(self.in_table(daemon), 20)
                self.assertEqual(daemon.stop(), 0)

    def test_a_trigger_that_changes_rows_makes_no_conflict_of_those_that_are_added(self):
        self.query(TABLE + ", PRIMARY KEY (id))")
        self.query("CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS"
                   " $$ BEGIN new.source := upper(new.source); RETURN new; END $$")
        self.query("CREATE TRIGGER mark BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION mark()")
        daemon = self.start_routed(route("notes", "merge"))
        self.send(daemon, note(1), note(2))
        self.send(daemon, note(2, source="P"), note(3))
        self.assertEqual((self.numbers(), self.dead()), ([1, 2, 3], []))

    def test_rows_that_a_trigger_drops_hold_the_route_unless_it_may(self):
        self.query(TABLE + ", PRIMARY KEY (id))")
        self.query("CREATE FUNCTION drop_odd() RETURNS trigger LANGUAGE plpgsql AS"
                   " $$ BEGIN RETURN CASE WHEN (new.data->>'n')::int % 2 = 0 THEN new END; END $$")
        self.query("CREATE TRIGGER drop_odd BEFORE INSERT ON notes"
                   " FOR EACH ROW EXECUTE FUNCTION drop_odd()")
        for mode in ("merge", "append"):
            with self.subTest(mode):
                daemon = self.start_routed(route("notes", mode))
                producer.send(daemon.socket_path,
                              b"\n".join(json.dumps(note(n)).encode() for n in range(10, 16)))
                wait_until(lambda: daemon.lanes("held") == 1, 60, "the lane to be held")
                self.assertIn("drop_odd", daemon.log_text())
                daemon.close()
                daemon = self.start_routed(route("notes", mode, trigger_may_skip=True))
                self.send(daemon, *(note(n) for n in range(6)))
                self.assertEqual((self.numbers(), self.dead()), ([0, 2, 4], []))
                self.query("TRUNCATE notes")

    def restricted_role(self):
        role = f"shipper_{self.dbname}"
        self.query(f"CREATE ROLE {role} LOGIN")
        self.query(f"GRANT USAGE ON SCHEMA sluice TO {role}")
        self.query(f"GRANT SELECT, INSERT, UPDATE ON sluice.watermark TO {role}")
        self.query(f"GRANT INSERT ON notes TO {role}")
        return role

    def test_row_level_security_and_no_more_rights_than_needed(self):
        self.query(TABLE + ", PRIMARY KEY (id))")
        role = self.restricted_role()
        self.query("ALTER TABLE notes ENABLE ROW LEVEL SECURITY")
        self.query(f"CREATE POLICY adds ON notes FOR INSERT TO {role} WITH CHECK (source = 'p')")
        self.query(f"CREATE POLICY compares ON notes FOR SELECT TO {role} USING (true)")
        dsn = self.dsn() + f" user={role}"
        daemon = self.start_routed(route("notes", "merge"), dsn=dsn)
        producer.send(daemon.socket_path, json.dumps(note(1)).encode())
        wait_until(lambda: "may not SELECT" in daemon.log_text(), 60, "the missing right in the log")
        self.query(f"GRANT SELECT (id, occurred_at, type, source, data, dedupe_key) ON notes TO {role}")
        self.wait_quiet(daemon, 1, timeout=90)
        self.send(daemon, note(1), note(2), note(3, source="q"), {**note(2), "data": {"n": 9}})
        self.assertEqual((self.numbers(), self.dead()), ([1, 2], [(3, "42501"), (9, "23505")]))
        self.query(f"REVOKE TEMPORARY ON DATABASE {self.dbname} FROM PUBLIC")
        again = self.start_routed(route("notes", "merge"), dsn=dsn)
        producer.send(again.socket_path, json.dumps(note(4)).encode())
        wait_until(lambda: "temporary tables" in again.log_text(), 60, "the missing right in the log")

    def test_lanes_with_the_same_keys_in_opposite_order_do_not_deadlock(self):
        """Both are held up until each has its whole batch in its temporary table."""
        self.query(TABLE + ", PRIMARY KEY (id))")
        self.query("CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$")
        trigger = "CREATE TRIGGER leave BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION leave()"
        for prepare in ("SELECT 1", trigger):  # the two ways to find out what was in conflict
            with self.subTest(prepare):
                self.query("TRUNCATE notes")
                self.query(prepare)
                self.meet_in_opposite_order(2_000)

    def test_a_batch_is_sorted_in_memory(self):
        self.query(f"ALTER DATABASE {self.dbname} SET work_mem = '64kB'")
        self.query(TABLE + ", PRIMARY KEY (id))")
        daemon = self.start_routed(route("notes", "merge"), settings={"postgres": {"batch_delay": "1s"}})
        self.send(daemon, *[note(n, source="p" * 250) for n in range(9_000)])
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(self.query("SELECT count(*) FROM notes"), [(9_000,)])
        self.wait_for_counts()
        self.assertEqual(self.query("SELECT temp_files FROM pg_stat_database WHERE datname ="
                                    " current_database()"), [(0,)])

    def test_rows_that_the_database_counts_are_counted_as_they_came(self):
        self.query(TABLE + ", PRIMARY KEY (id), nth bigint GENERATED ALWAYS AS IDENTITY, serial bigserial)")
        daemon = self.start_routed(route("notes", "merge"))
        self.send(daemon, *[note(n) for n in reversed(range(500))])
        self.assertEqual([n for (n,) in self.query("SELECT (data->>'n')::int FROM notes ORDER BY nth")],
                         list(reversed(range(500))))
        self.query("ALTER TABLE notes DROP nth")
        again = self.start_routed(route("notes", "merge"))
        self.send(again, *[note(n) for n in reversed(range(500, 1_000))])
        self.assertEqual([n for (n,) in self.query("SELECT (data->>'n')::int FROM notes ORDER BY serial"
                                                   " LIMIT 500 OFFSET 500")],
                         list(reversed(range(500, 1_000))))

    def test_an_identity_that_the_database_always_gives_may_come_from_the_route(self):
        self.query(TABLE + ", PRIMARY KEY (id), nth bigint GENERATED ALWAYS AS IDENTITY)")
        for mode in ("merge", "append"):
            daemon = self.start_routed(route("notes", mode, {**COLUMNS, "nth": "/data/n"}))
            checked = run_sluice("check", "--config", daemon.config_path)
            self.assertIn("takes every column", checked.stdout)
            self.send(daemon, note(1), note(7))
            self.send(daemon, note(7), note(8))
        self.assertEqual(self.query("SELECT nth FROM notes ORDER BY 1"), [(1,), (7,), (8,)])
        self.assertEqual(self.dead(), [])

    def meet_in_opposite_order(self, count):
        lanes = [self.start_routed(route("notes", "merge"), settings={"postgres": {"batch_delay": "500ms"}})
                 for _ in range(2)]
        events = [json.dumps(note(n)).encode() for n in range(count)]
        with self.cluster.connect(self.dbname) as holder, holder.transaction():
            holder.execute("LOCK TABLE notes IN SHARE MODE")
            for lane, lines in zip(lanes, (events, events[::-1])):
                producer.send(lane.socket_path, b"\n".join(lines))
            wait_until(lambda: self.query("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation ="
                                          " 'notes'::regclass") == [(2,)], 60, "both to be held up")
        for lane in lanes:
            self.wait_quiet(lane, count)
            self.assertEqual(lane.stop(), 0)
            self.assertNotIn("40P01", lane.log_text())
        self.assertEqual((self.numbers(), self.dead()), (list(range(count)), []))
        self.wait_for_counts()
        self.assertEqual(self.query("SELECT deadlocks FROM pg_stat_database WHERE datname ="
                                    " current_database()"), [(0,)])

    def wait_for_counts(self):
        """A connection tells pg_stat_database what it counted when it ends."""
        wait_until(lambda: self.query("SELECT count(*) FROM pg_stat_activity WHERE datname ="
                                      " current_database() AND pid <> pg_backend_pid()") == [(0,)],
                   20, "the connections to end")

    def test_through_pgbouncer_and_killed_backends(self):
        self.query(TABLE + ", PRIMARY KEY (id))")
        with Pgbouncer(self.cluster) as pooler:
            daemon = self.start_routed(route("notes", "merge"), dsn=pooler.dsn(self.dbname),
                                       settings={"postgres": {"lanes": 2}})
            for turn in range(10):
                before = daemon.events("received")
                events = [note(n) for n in range(turn * 500, turn * 500 + 1_000)]
                producer.send(daemon.socket_path,
                              b"\n".join(json.dumps(event).encode() for event in events))
                self.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                           " WHERE query LIKE '%%sluice_merge%%' AND pid <> pg_backend_pid()")
                self.wait_quiet(daemon, before + 1_000)
            self.assertEqual((self.numbers(), self.dead()), (list(range(5_500)), []))


if __name__ == "__main__":
    unittest.main()
