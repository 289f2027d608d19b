#!/usr/bin/python3
"""The model agent_log: events, nodes and edges, what is asked about them, and partitions by time."""

import unittest

from support.model_test import ModelTest

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
