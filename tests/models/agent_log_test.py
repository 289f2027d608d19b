#!/usr/bin/python3
"""The model agent_log: events, nodes and edges, what is asked about them, and partitions by time."""

import unittest

from support.model_test import ModelTest
from support.sample_shipper import SampleShipper, samples_of

INSERT_EVENT = ("INSERT INTO events (id, occurred_at, type, source, session_id, parent_id, data, received_at)"
                " VALUES (coalesce(%(id)s::uuid, gen_random_uuid()), coalesce(%(at)s::timestamptz, now()),"
                " coalesce(%(type)s, 'step'), %(source)s, %(session_id)s, %(parent_id)s, %(data)s::jsonb, now())"
                " RETURNING id")


class AgentLogTest(ModelTest):
    model = "agent_log"

    def add_event(self, **fields):
        given = dict.fromkeys(("id", "at", "type", "source", "session_id", "parent_id", "data"))
        given.update(fields)
        return str(self.query(INSERT_EVENT, given)[0][0])


    def add_node(self, kind, name=None, data=None, at=None):
        return str(self.query(
            "INSERT INTO nodes (id, kind, name, created_at, data)"
            " VALUES (gen_random_uuid(), %s, %s, coalesce(%s::timestamptz, now()), %s::jsonb) RETURNING id",
            (kind, name, at, data))[0][0])

    def add_edge(self, from_id, kind, to_id, data=None):
        self.query("INSERT INTO edges (from_id, to_id, kind, created_at, data)"
                   " VALUES (%s, %s, %s, now(), %s::jsonb)", (from_id, to_id, kind, data))

    def about(self, some_id):
        return self.query("SELECT everything_about(%s)", (some_id,))[0][0]


class Tables(AgentLogTest):
    def test_applying_again_keeps_what_is_there(self):
        event, node = self.add_event(), self.add_node("goal")
        self.add_edge(event, "fulfils", node)
        self.apply_schema("--model", self.model)
        self.apply_schema("--model", self.model, "--index", "full")
        self.apply_schema("--model", self.model)
        for table in ("events", "nodes", "edges"):
            self.assertEqual(self.query(f"SELECT count(*) FROM {table}"), [(1,)])

    def test_no_table_of_it_ever_changes(self):
        self.add_event()
        self.add_edge(self.add_node("goal"), "fulfils", self.add_node("plan"))
        for table in ("events", "nodes", "edges"):
            for statement in (f"UPDATE {table} SET data = '1'", f"DELETE FROM {table}", f"TRUNCATE {table}"):
                with self.subTest(statement):
                    self.assert_refused("42501", statement)

    def test_a_table_of_that_name_that_is_another_one_is_refused(self):
        for table, definition, needle in (("nodes", "(id int)", "nodes is there already and lacks"),
                                          ("edges", "AS SELECT 1", "edges is there already and lacks")):
            with self.subTest(table):
                name = self.new_database()
                self.query(f"CREATE TABLE {table} {definition}", dbname=name)
                with self.assertRaisesRegex(AssertionError, needle):
                    self.apply_schema("--model", self.model, dbname=name)

    def test_full_indexes_are_made_only_where_asked_for(self):
        def indexes():
            return {name for name, in self.query(
                "SELECT indexname FROM pg_indexes WHERE tablename = 'events'")}
        basic = {"events_pkey", "events_occurred_at_brin", "events_received_at_brin"}
        self.assertEqual(indexes(), basic)
        self.apply_schema("--model", self.model, "--index", "full")
        self.assertEqual(indexes(), basic | {"events_type", "events_session_id"})

    def test_every_table_column_view_and_function_says_what_it_is(self):
        self.assertEqual(self.query(
            "SELECT attrelid::regclass, attname FROM pg_attribute"
            " WHERE attrelid IN ('events'::regclass, 'nodes'::regclass, 'edges'::regclass) AND attnum > 0"
            " AND col_description(attrelid, attnum) IS NULL"), [])
        self.assertEqual(self.query(
            "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p', 'v') AND obj_description(oid, 'pg_class') IS NULL"), [])
        self.assertEqual(self.query(
            "SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            " AND obj_description(oid, 'pg_proc') IS NULL"), [])

    def test_the_shipping_role_appends_and_reads_and_no_more(self):
        self.query("CREATE ROLE log_shipper LOGIN")
        self.query("REVOKE TEMPORARY ON DATABASE " + self.dbname + " FROM PUBLIC")
        self.apply_schema("--model", self.model, "--role", "log_shipper")
        self.apply_schema("--model", self.model, "--role", "log_shipper")
        rights = self.query(
            "SELECT tables, array_agg(rights) FROM unnest(ARRAY['events', 'nodes', 'edges']) tables,"
            " unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) rights"
            " WHERE has_table_privilege('log_shipper', tables, rights) GROUP BY 1 ORDER BY 1")
        self.assertEqual(rights, [(table, ["SELECT", "INSERT"]) for table in ("edges", "events", "nodes")])
        self.assertEqual(self.query("SELECT has_database_privilege('log_shipper', current_database(), 'TEMP')"),
                         [(True,)])
        with self.cluster.connect(self.dbname, user="log_shipper") as shipper, shipper.transaction():
            shipper.execute("CREATE TEMP TABLE came (LIKE edges INCLUDING DEFAULTS) ON COMMIT DROP")
            shipper.execute("INSERT INTO came VALUES (gen_random_uuid(), gen_random_uuid(), 'k', now())")
            shipper.execute("INSERT INTO edges SELECT * FROM came ON CONFLICT (from_id, to_id, kind) DO NOTHING")

    def test_an_edge_may_come_before_what_it_joins_and_is_there_once(self):
        edge = ("00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b", "refines")
        insert = "INSERT INTO edges (from_id, to_id, kind, created_at) VALUES (%s, %s, %s, now())"
        self.query(insert, edge)
        self.assert_refused("23505", insert, edge)
        self.query(insert, edge[:2] + ("tests",))
        self.assertEqual(self.about(edge[0])["edges_out"][0]["to"], None)

    def test_what_must_be_there_is_missed(self):
        self.assert_refused("23502", "INSERT INTO nodes (id, created_at) VALUES (gen_random_uuid(), now())")
        self.assert_refused("23502", "INSERT INTO edges (from_id, kind, created_at)"
                                     " VALUES (gen_random_uuid(), 'k', now())")
        self.assert_refused("23502", "INSERT INTO events (id, occurred_at, received_at)"
                                     " VALUES (gen_random_uuid(), now(), now())")


class Samples(AgentLogTest):
    apply_options = ("--role", "log_sample_shipper")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.query("CREATE ROLE log_sample_shipper LOGIN")

    def test_they_tell_a_session_of_work_and_are_there_once_if_sent_twice(self):
        shipper = SampleShipper(self.connection(user="log_sample_shipper"), self.model)
        self.assertEqual(shipper.ship(samples_of(self.model)), 17)
        self.assertEqual(shipper.ship(samples_of(self.model)), 0)
        self.assertEqual((shipper.duplicates, shipper.dead), (17, 0))
        self.assertEqual(self.query("SELECT session_id, name, count, failures FROM sessions"),
                         [("s-1", "Mend the login", 7, 2)])
        self.assertEqual(self.query("SELECT type, message, retried FROM failures ORDER BY started"),
                         [("test", "expected 200, got 401", True),
                          ("ci.run", "no answer for 30 minutes", False)])
        about = self.about("00000000-0000-4000-8000-000000000015")
        self.assertEqual([a["status"] for a in about["attempts"]], ["failure", "success"])
        self.assertEqual([e["type"] for e in about["sessions"][0]["before"]],
                         ["prompt", "answer", "shell.command", "format", "test"])
        self.assertEqual(self.query("SELECT extra FROM events WHERE type = 'ci.run'"),
                         [({"branch": "mend-login"},)])


class Times(AgentLogTest):
    def time_of(self, json_text):
        return self.query("SELECT extract(epoch FROM sluice.time_of(%s::jsonb))::text", (json_text,))[0][0]

    def test_what_the_daemon_takes_for_a_time_is_one(self):
        for text, seconds in (('"2026-01-05T09:00:39.25Z"', "1767603639.250000"),
                              ('"2026-01-05t09:00:39z"', "1767603639.000000"),
                              ('"2026-01-05 11:00:39+02:00"', "1767603639.000000"),
                              ('"2026-01-05T09:00:60Z"', "1767603660.000000"),
                              ('"2024-02-29T00:00:00Z"', "1709164800.000000"),
                              ('1767603639', "1767603639.000000"),
                              ('1767603639250', "1767603639.250000"),
                              ('1767603639250000', "1767603639.250000"),
                              ('1767603639250000000', "1767603639.250000")):
            with self.subTest(text):
                self.assertEqual(self.time_of(text), seconds)

    def test_what_is_none_is_null_and_no_error(self):
        for text in ('"now"', '"infinity"', '"yesterday"', '"2026-02-30T00:00:00Z"', '"2023-02-29T00:00:00Z"',
                     '"2026-13-01T00:00:00Z"', '"2026-01-05T25:00:00Z"', '"2026-01-05T09:00:00"', '""',
                     '"2026-01-05T09:00:00+99:99"', '"300000-01-01T00:00:00Z"', '"0000-01-01T00:00:00Z"',
                     '"2026-01-05T09:00:00Z\\n"', "-1", "1e300", "1e19", "true", "null", "{}", "[]"):
            with self.subTest(text):
                self.assertIsNone(self.time_of(text))
        self.assertIsNone(self.query("SELECT sluice.time_of(NULL)")[0][0])


class Outcomes(AgentLogTest):
    def test_each_event_has_one(self):
        at = "2026-01-05T09:00:00Z"
        for data, expected in (
                ('{"status":"success","ended_at":"2026-01-05T09:00:01.5Z"}', ("success", 1.5, None)),
                ('{"status":"failure","ended_at":"2026-01-05T09:01:00Z","error":{"m":1}}',
                 ("failure", 60, {"m": 1})),
                ('{"status":"timeout","error":"slow"}', ("timeout", None, "slow")),
                ('{"status":"cancelled"}', ("cancelled", None, None)),
                ('{"status":null}', (None, None, None)),
                ('{"status":"done"}', (None, None, None)),
                ('{"status":7,"ended_at":"soon"}', (None, None, None)),
                ('"text"', (None, None, None)), ("[1]", (None, None, None)), (None, (None, None, None))):
            with self.subTest(data):
                event = self.add_event(at=at, data=data)
                self.assertEqual(self.query(
                    "SELECT status, extract(epoch FROM duration)::float8, error, started = occurred_at"
                    " FROM outcomes JOIN events USING (id) WHERE id = %s", (event,)), [expected + (True,)])

    def test_failures_are_what_failed_or_timed_out(self):
        failed = self.add_event(data='{"status":"failure","error":{"message":"no such file","code":2}}')
        slow = self.add_event(data='{"status":"timeout","error":"30 s"}')
        odd = self.add_event(data='{"status":"failure","error":{"code":2}}')
        bare = self.add_event(data='{"status":"failure"}')
        for status in ("success", "cancelled", "other"):
            self.add_event(data=f'{{"status":"{status}","error":"x"}}')
        again = self.add_event(data='{"status":"success"}')
        self.add_edge(again, "retries", failed)
        self.add_edge(again, "refines", slow)
        self.assertEqual({str(row[0]): row[1:] for row in self.query(
            "SELECT id, status, message, retried FROM failures")},
            {failed: ("failure", "no such file", True), slow: ("timeout", "30 s", False),
             odd: ("failure", '{"code": 2}', False), bare: ("failure", None, False)})


class Sessions(AgentLogTest):
    def sessions(self):
        return {row[0]: row[1:] for row in self.query(
            "SELECT session_id, name, extract(epoch FROM first)::int, extract(epoch FROM last)::int,"
            " count, failures FROM sessions")}

    def at(self, seconds, **fields):
        return self.add_event(at=f"1970-01-02 00:00:{seconds:02}Z", **fields)

    def test_by_session_id_alone(self):
        self.at(1, session_id="s-1")
        self.at(5, session_id="s-1", data='{"status":"failure"}')
        self.at(3, session_id="s-2", data='{"status":"timeout"}')
        self.at(4)
        self.assertEqual(self.sessions(), {"s-1": (None, 86401, 86405, 2, 1),
                                           "s-2": (None, 86403, 86403, 1, 1)})

    def test_by_edges_over_phases_and_each_event_once(self):
        session = self.add_node("session", "Mend", '{"session_id":"s-1"}')
        unnamed = self.add_node("session")
        phase = self.add_node("phase")
        both = self.at(1, session_id="s-1")
        linked = self.at(2, data='{"status":"failure"}')
        other = self.at(9, session_id="s-2")
        for from_id, to_id in ((both, session), (linked, phase), (linked, session), (phase, session),
                               (other, phase), (linked, unnamed), (session, phase)):
            self.add_edge(from_id, "belongs_to", to_id)
        self.add_edge(self.at(30), "depends_on", session)
        empty = self.add_node("session", "Nothing yet")
        self.assertEqual(self.sessions(), {
            "s-1": ("Mend", 86401, 86409, 3, 1), "s-2": (None, 86409, 86409, 1, 0),
            unnamed: (None, 86402, 86402, 1, 1), empty: ("Nothing yet", None, None, 0, 0)})
        self.assertEqual({str(i) for i, in self.query("SELECT id FROM session_events('s-1')")},
                         {both, linked, other})
        self.assertEqual([str(i) for i, in self.query(
            "SELECT id FROM session_events('s-1', '1970-01-02 00:00:02Z')")], [linked, other])
        self.assertEqual(self.query("SELECT id FROM memberships WHERE node_id = %s ORDER BY id::text", (phase,)),
                         self.query("SELECT m FROM members_of(%s) m ORDER BY m::text", (phase,)))


class EverythingAbout(AgentLogTest):
    def test_nothing_is_known(self):
        self.assertIsNone(self.about("00000000-0000-4000-8000-00000000000a"))

    def test_an_event_with_edges_relatives_attempts_and_neighbours(self):
        def at(second):
            return f"2026-01-05T09:00:{second:02}Z"
        parent = self.add_event(at=at(0), session_id="s-1", type="plan")
        first = self.add_event(at=at(1), session_id="s-1", type="test", parent_id=parent,
                               data='{"status":"failure","ended_at":"2026-01-05T09:00:03Z","error":"no"}')
        second = self.add_event(at=at(10), type="test", data='{"status":"timeout"}')
        third = self.add_event(at=at(20), type="test", data='{"status":"success"}')
        child = self.add_event(at=at(2), session_id="s-1", parent_id=first, type="log")
        goal = self.add_node("goal", "Green")
        self.add_edge(second, "retries", first)
        self.add_edge(third, "retries", second)
        self.add_edge(first, "fulfils", goal, '{"sure":0.5}')
        self.add_event(at=at(2), session_id="s-9")
        about = self.about(first)
        self.assertEqual(about["id"], first)
        self.assertEqual(about["event"]["data"]["error"], "no")
        self.assertIsNone(about["node"])
        self.assertEqual([(e["kind"], e["from_id"], e["from"]["status"]) for e in about["edges_in"]],
                         [("retries", second, "timeout")])
        self.assertEqual([(e["kind"], e["to_id"], e["to"], e["data"]) for e in about["edges_out"]],
                         [("fulfils", goal, {"is": "node", "id": goal, "kind": "goal", "name": "Green"},
                           {"sure": 0.5})])
        self.assertEqual((about["outcome"]["status"], about["outcome"]["duration"], about["outcome"]["error"]),
                         ("failure", "00:00:02", "no"))
        attempts = [(first, "failure"), (second, "timeout"), (third, "success")]
        self.assertEqual([(a["id"], a["status"]) for a in about["attempts"]], attempts)
        self.assertEqual([(a["id"], a["status"]) for a in self.about(third)["attempts"]], attempts)
        self.assertEqual(about["parent"]["id"], parent)
        self.assertEqual([c["id"] for c in about["children"]], [child])
        [session] = about["sessions"]
        self.assertEqual((session["session_id"], [e["id"] for e in session["before"]],
                          [e["id"] for e in session["after"]]), ("s-1", [parent], [child]))

    def test_neighbours_are_the_ten_nearest_and_come_by_edges_too(self):
        session = self.add_node("session", "Long")
        events = [self.add_event(at=f"2026-01-05T09:00:{n:02}Z") for n in range(30)]
        for event in events:
            self.add_edge(event, "belongs_to", session)
        [neighbours] = self.about(events[15])["sessions"]
        self.assertEqual(neighbours["session_id"], session)
        self.assertEqual([e["id"] for e in neighbours["before"]], events[5:15])
        self.assertEqual([e["id"] for e in neighbours["after"]], events[16:26])

    def test_a_node_and_what_belongs_to_it(self):
        session = self.add_node("session", "Mend", '{"session_id":"s-1"}')
        phase = self.add_node("phase", "Test")
        self.add_edge(phase, "belongs_to", session)
        self.add_edge(self.add_event(at="2026-01-05T09:00:01Z", data='{"status":"failure"}'),
                      "belongs_to", phase)
        self.add_event(at="2026-01-05T09:00:02Z", session_id="s-1")
        about = self.about(session)
        self.assertIsNone(about["event"])
        self.assertEqual(about["node"]["name"], "Mend")
        self.assertEqual((about["summary"]["count"], about["summary"]["failures"]), (2, 1))
        self.assertEqual((self.about(phase)["summary"]["count"], self.about(phase)["summary"]["failures"]),
                         (1, 1))

    def test_the_same_in_partitions(self):
        self.dbname = self.new_database()
        self.apply_schema("--partition", "month")
        parent = self.add_event(session_id="s")
        self.add_event(parent_id=parent, session_id="s", data='{"status":"failure"}')
        self.assertEqual(len(self.about(parent)["children"]), 1)
        self.assertEqual(self.query("SELECT count, failures FROM sessions"), [(2, 1)])

    def test_a_role_that_may_only_read_may_ask(self):
        event = self.add_event(session_id="s", data='{"status":"failure","ended_at":1767603639}')
        self.query("CREATE ROLE log_reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO log_reader;"
                   " GRANT USAGE ON SCHEMA sluice TO log_reader")
        with self.cluster.connect(self.dbname, user="log_reader") as reader:
            for sql in (f"SELECT everything_about('{event}')", "SELECT * FROM outcomes",
                        "SELECT * FROM sessions", "SELECT * FROM failures", "SELECT * FROM memberships"):
                self.assertEqual(len(reader.execute(sql).fetchall()), sql != "SELECT * FROM memberships")


class Partitions(AgentLogTest):
    apply_options = ("--partition", "day")

    def partitions(self):
        return self.query("SELECT part::text, from_time, to_time, is_default"
                          " FROM sluice.partitions_of('events')")

    def maintain(self, *detach_after):
        return self.query("SELECT parent, action, part, moved FROM sluice.maintain_partitions"
                          f"({', '.join(['%s::interval'] * len(detach_after))})", detach_after)

    def place_of(self, event_id):
        return self.query("SELECT tableoid::regclass::text FROM events WHERE id = %s", (event_id,))[0][0]

    def today_plus(self, days, form="YYYYMMDD"):
        return self.query("SELECT to_char(date_trunc('day', now() AT TIME ZONE 'UTC')"
                          " + %s * interval '1 day', %s)", (days, form))[0][0]

    def test_yesterday_today_and_a_week_ahead_have_one_and_the_rest_has_default(self):
        names = [name for name, *_ in self.partitions()]
        self.assertEqual(names, [f"events_p{self.today_plus(n)}" for n in range(-1, 8)]
                         + ["events_default"])
        for _, start, end, is_default in self.partitions():
            self.assertTrue(is_default or (end - start).total_seconds() == 86400)

    def test_periods_are_of_utc_wherever_the_session_is(self):
        with self.cluster.connect(self.dbname) as connection:
            connection.execute("SET timezone = 'Asia/Kathmandu'; SET datestyle = 'German'")
            connection.execute("UPDATE sluice.partitioned SET ahead = 9")
            made = connection.execute("SELECT part FROM sluice.maintain_partitions()").fetchall()
        self.assertEqual(made, [(f"events_p{self.today_plus(n)}",) for n in (8, 9)])
        for _, start, _, is_default in self.partitions():
            self.assertTrue(is_default or start.timestamp() % 86400 == 0)

    def test_maintaining_with_nothing_to_do_does_nothing(self):
        self.assertEqual(self.maintain(), [])

    def test_the_next_partition_takes_what_lay_in_default(self):
        ahead = self.add_event(at=self.today_plus(9, "YYYY-MM-DD 12:00+00"))
        beyond = self.add_event(at="2150-01-01Z")
        self.assertEqual(self.place_of(ahead), "events_default")
        self.query("UPDATE sluice.partitioned SET ahead = 9")
        self.assertEqual(self.maintain(),
                         [("public.events", "made", f"events_p{self.today_plus(8)}", 0),
                          ("public.events", "made", f"events_p{self.today_plus(9)}", 1)])
        self.assertEqual(self.place_of(ahead), f"events_p{self.today_plus(9)}")
        self.assertEqual(self.place_of(beyond), "events_default")
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(2,)])

    def test_late_events_get_partitions_of_their_own_unless_these_would_be_detached(self):
        late = self.add_event(at=self.today_plus(-20, "YYYY-MM-DD 12:00+00"))
        old = self.add_event(at=self.today_plus(-60, "YYYY-MM-DD 12:00+00"))
        ancient = self.add_event(at="1999-01-01Z")
        self.query("UPDATE sluice.partitioned SET keep = '30 days'")
        self.assertEqual([row[1:] for row in self.maintain()],
                         [("made", f"events_p{self.today_plus(-20)}", 1)])
        self.assertEqual(self.place_of(late), f"events_p{self.today_plus(-20)}")
        self.assertEqual([self.place_of(old), self.place_of(ancient)], ["events_default"] * 2)

    def test_old_partitions_are_detached_and_stay_as_append_only_tables(self):
        old = self.add_event(at=self.today_plus(-20, "YYYY-MM-DD 12:00+00"))
        self.maintain()
        place = self.place_of(old)
        self.assertEqual(self.maintain("15 days"), [("public.events", "detached", place, 0)])
        self.assertEqual(self.query("SELECT id::text FROM events"), [])
        self.assertEqual(self.query(f"SELECT id::text FROM {place}"), [(old,)])
        self.assert_refused("42501", f"DELETE FROM {place}")
        late = self.add_event(at=self.today_plus(-20, "YYYY-MM-DD 13:00+00"))
        self.assertEqual(self.place_of(late), "events_default")
        self.assertEqual(self.maintain("15 days"), [])
        self.assert_refused("22023", "SELECT sluice.maintain_partitions('0 days')")

    def test_events_that_come_while_a_partition_is_made_are_all_there(self):
        at = self.today_plus(9, "YYYY-MM-DD 12:00+00")

        def lane(connection):
            for _ in range(60):
                connection.execute("INSERT INTO events (id, occurred_at, type, received_at)"
                                   " SELECT gen_random_uuid(), %s, 't', now() FROM generate_series(1, 20)", (at,))

        def maintain(connection):
            connection.execute("UPDATE sluice.partitioned SET ahead = 9")
            connection.execute("SELECT * FROM sluice.maintain_partitions()")
        self.in_parallel(lane, lane, maintain)
        self.assertEqual(self.query("SELECT count(*) FROM events"), [(2400,)])
        self.assertEqual(self.query(f"SELECT count(*) FROM events_p{self.today_plus(9)}"), [(2400,)])

    def test_every_partition_refuses_changes_by_its_own_name_too(self):
        self.query("UPDATE sluice.partitioned SET ahead = 8")
        self.maintain()
        self.add_event(at="2150-01-01Z")
        for name, *_ in self.partitions():
            for statement in (f"UPDATE {name} SET type = 'x'", f"DELETE FROM {name}", f"TRUNCATE {name}"):
                with self.subTest(statement):
                    self.assert_refused("42501", statement)

    def test_a_period_that_is_another_one_is_refused(self):
        with self.assertRaisesRegex(AssertionError, "by another period"):
            self.apply_schema("--partition", "month")

    def test_months(self):
        name = self.new_database()
        self.apply_schema("--partition", "month", dbname=name)
        self.apply_schema("--partition", "month", dbname=name)
        self.assertEqual(
            self.query("SELECT part::text, to_time = from_time + interval '1 month'"
                       " FROM sluice.partitions_of('events') WHERE NOT is_default", dbname=name),
            self.query("SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC')"
                       " + n * interval '1 month', '\"events_p\"YYYYMM'), true"
                       " FROM generate_series(-1, 2) n", dbname=name))


if __name__ == "__main__":
    unittest.main()
