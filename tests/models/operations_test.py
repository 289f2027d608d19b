#!/usr/bin/python3
"""The model operations: usage and its daily totals, jobs, notes, memory, audit, and one organisation for each
role that asks."""

import datetime
import decimal
import itertools
import random
import unittest
import uuid

import psycopg

from support.model_test import ModelTest
from support.sample_shipper import SampleShipper, samples_of
from support.waiting import wait_until

EVENT_TABLES = ("token_usage", "user_events", "audit_log")
STATE_TABLES = ("planning_notes", "agent_memory", "job_queue")
INSERT_USAGE = ("INSERT INTO token_usage (id, organization_id, operation, tokens, cost, created_at)"
                " SELECT gen_random_uuid(), org, operation, tokens, cost, at FROM"
                " unnest(%s::text[], %s::text[], %s::bigint[], %s::numeric[], %s::timestamptz[])"
                " AS usage (org, operation, tokens, cost, at)")
NOON = "2026-01-05T12:00:00Z"


class OperationsTest(ModelTest):
    model = "operations"
    apply_options = ("--role", "shipper")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.query("CREATE ROLE shipper LOGIN; CREATE ROLE worker LOGIN")

    def shipper(self):
        return SampleShipper(self.connection(user="shipper"), self.model)

    def add_usage(self, *rows, connection=None):
        """rows: (organisation, operation, tokens, cost, created_at), in one statement."""
        columns = [list(column) for column in zip(*rows)]
        (connection or self.connection()).execute(INSERT_USAGE, columns)

    def daily(self):
        return self.query("SELECT organization_id, date::text, total_tokens, total_cost, event_count,"
                          " operation_breakdown FROM token_usage_daily ORDER BY 1, 2")

    def totals_of_events(self):
        """What daily() must say, from the events alone."""
        days = {}
        for org, date, operation, tokens, cost, count in self.query(
                "SELECT organization_id, (created_at AT TIME ZONE 'UTC')::date::text, operation,"
                " sum(tokens), coalesce(sum(cost), 0), count(*) FROM token_usage GROUP BY 1, 2, 3"):
            days.setdefault((org, date), {})[operation] = (tokens, cost, count)
        return [(*key, sum(part[0] for part in parts.values()), sum(part[1] for part in parts.values()),
                 sum(part[2] for part in parts.values()),
                 {name: {"tokens": int(part[0]), "cost": float(part[1]), "count": part[2]}
                  for name, part in parts.items()})
                for key, parts in sorted(days.items())]

    def acting_for(self, org, **more):
        """A connection of the role `worker`, in a transaction that says whom it works for."""
        with self.cluster.connect(self.dbname) as owner:
            owner.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO worker")
        connection = self.connection(user="worker", **more)
        connection.execute("BEGIN")
        if org is not None:
            connection.execute("SELECT set_config('app.current_org_id', %s, true)", (org,))
        return connection


class Samples(OperationsTest):
    def test_each_sample_becomes_a_row(self):
        self.assertEqual(self.shipper().ship(samples_of(self.model)), 10)
        counts = {table: self.query(f"SELECT count(*) FROM {table}")[0][0]
                  for table in EVENT_TABLES + STATE_TABLES}
        self.assertEqual(counts, {"token_usage": 4, "user_events": 1, "audit_log": 1,
                                  "planning_notes": 1, "agent_memory": 1, "job_queue": 2})
        self.assertEqual(self.daily(), [
            ("org_acme", "2026-01-05", 2100, decimal.Decimal("0.0147"), 3,
             {"chat": {"cost": 0.0143, "count": 2, "tokens": 1300},
              "summary": {"cost": 0.0004, "count": 1, "tokens": 800}}),
            ("org_birch", "2026-01-06", 5000, 0, 1,
             {"embed": {"cost": 0, "count": 1, "tokens": 5000}})])

    def test_every_column_has_what_was_sent(self):
        self.shipper().ship(samples_of(self.model))
        self.assertEqual(
            self.query("SELECT user_id, organization_id, action, resource_id, old_value, new_value,"
                       " created_at FROM audit_log"),
            [("ada", "org_acme", "role.grant", "user:bo", None, {"role": "admin"},
              datetime.datetime(2026, 1, 5, 9, 5, tzinfo=datetime.timezone.utc))])
        self.assertEqual(
            self.query("SELECT user_id, event_type, event_data, extra->>'browser' FROM user_events"),
            [("ada", "page.opened", {"page": "/billing"}, "firefox")])
        self.assertEqual(self.query("SELECT content, status, metadata FROM planning_notes"),
                         [("Move invoices to the new provider", "pending", {"sprint": 14})])
        self.assertEqual(
            self.query("SELECT memory_type, content, importance, expires_at > created_at FROM agent_memory"),
            [("preference", "Wants short answers", decimal.Decimal("0.8"), True)])
        self.assertEqual(
            self.query("SELECT kind, payload, status, attempt_count, scheduled_for - created_at"
                       " FROM job_queue ORDER BY created_at"),
            [("invoice", {"month": "2025-12"}, "pending", 0, datetime.timedelta(0)),
             ("report", {"year": 2025}, "pending", 0, datetime.timedelta(minutes=-20, seconds=-1))])

    def test_sent_again_it_counts_nothing_twice(self):
        shipper = self.shipper()
        shipper.ship(samples_of(self.model))
        before = self.daily()
        self.query("SELECT claim_jobs(2); UPDATE planning_notes SET status = 'archived'")
        self.assertEqual(shipper.ship(samples_of(self.model)), 0)
        self.assertEqual((shipper.duplicates, shipper.dead), (10, 0))
        self.assertEqual(self.daily(), before)
        self.assertEqual(self.query("SELECT DISTINCT status FROM job_queue"), [("processing",)])

    def test_copy_is_not_allowed_under_row_level_security(self):
        """Why the routes merge."""
        with self.cluster.connect(self.dbname, user="shipper") as connection:
            with self.assertRaises(psycopg.errors.FeatureNotSupported):
                with connection.cursor().copy("COPY token_usage (id) FROM STDIN") as copy:
                    copy.write_row((str(uuid.uuid4()),))


class DailyTotals(OperationsTest):
    def test_one_statement_with_many_organisations_days_and_operations(self):
        source = random.Random(1)
        rows = [(f"o{source.randrange(5)}", source.choice(("chat", "embed", "summary")),
                 source.randrange(1000), decimal.Decimal(source.randrange(100)) / 64,
                 f"2026-01-{source.randrange(1, 4):02}T{source.randrange(24):02}:00:00Z")
                for _ in range(500)]
        self.add_usage(*rows)
        self.assertEqual(self.daily(), self.totals_of_events())
        self.add_usage(*rows)
        self.assertEqual(self.daily(), self.totals_of_events())
        self.assertEqual(sum(day[4] for day in self.daily()), 1000)

    def test_a_days_end_is_that_of_utc_wherever_the_session_is(self):
        connection = self.connection()
        connection.execute("SET timezone = 'Asia/Kathmandu'")
        self.add_usage(("o", "chat", 1, 1, "2026-01-05T23:59:59.999999Z"),
                       ("o", "chat", 1, 1, "2026-01-06T00:00:00Z"), connection=connection)
        self.assertEqual([day[1] for day in self.daily()], ["2026-01-05", "2026-01-06"])

    def test_costs_keep_their_digits_and_an_unknown_one_counts_nothing(self):
        self.add_usage(("o", "chat", 1, "0.0000000000000000001", NOON), ("o", "chat", 1, "1e20", NOON),
                       ("o", "chat", 1, None, NOON))
        self.assertEqual(self.daily()[0][3], decimal.Decimal("100000000000000000000.0000000000000000001"))
        self.assertEqual(self.daily()[0][4], 3)

    def test_a_correction_is_a_row(self):
        self.add_usage(("o", "chat", 100, 2, NOON))
        self.add_usage(("o", "chat", -40, -1, NOON))
        self.assertEqual(self.daily()[0][2:5], (60, 1, 2))

    def test_totals_of_any_size(self):
        greatest = 2**63 - 1
        self.add_usage(("o", "chat", greatest, 1, NOON), ("o", "chat", greatest, 1, NOON))
        self.add_usage(("o", "chat", greatest, 1, NOON))
        self.assertEqual(self.daily()[0][2], 3 * greatest)

    def test_a_batch_that_is_taken_back_counts_nothing(self):
        self.add_usage(("o", "chat", 1, 1, NOON))
        connection = self.connection()
        connection.execute("BEGIN")
        self.add_usage(("o", "chat", 1, 1, NOON), connection=connection)
        connection.execute("ROLLBACK")
        self.assertEqual(self.daily()[0][4], 1)

    def test_a_cost_that_is_no_number_is_refused(self):
        for cost in ("NaN", "Infinity", "-Infinity"):
            self.assert_refused("23514", "INSERT INTO token_usage (id, organization_id, operation, tokens,"
                                " cost) VALUES (gen_random_uuid(), 'o', 'chat', 1, %s)", (cost,))
        self.assertEqual(self.daily(), [])

    def test_parallel_batches_lose_nothing_and_never_wait_in_a_circle(self):
        """Each batch names the organisations in an order of its own."""
        def lane(seed):
            def work(connection):
                source = random.Random(seed)
                for _ in range(25):
                    orgs = [f"o{n}" for n in range(12)]
                    source.shuffle(orgs)
                    self.add_usage(*((org, source.choice(("a", "b")), 1, 0.5, NOON) for org in orgs),
                                   connection=connection)
            return work

        self.in_parallel(*map(lane, range(4)))
        self.assertEqual([day[4] for day in self.daily()], [100] * 12)
        self.assertEqual(self.daily(), self.totals_of_events())

    def test_a_batch_that_waited_adds_to_what_the_other_committed(self):
        first, second = self.connection(), self.connection()
        first.execute("BEGIN")
        self.add_usage(("o", "chat", 1, 1, NOON), connection=first)

        def commit_when_it_waits(_):
            wait_until(lambda: self.waits_for(second), 30, "the second batch to wait")
            first.execute("COMMIT")

        self.in_parallel(
            lambda _: self.add_usage(("o", "embed", 10, 10, NOON), connection=second),
            commit_when_it_waits)
        self.assertEqual(self.daily(), self.totals_of_events())
        self.assertEqual(self.daily()[0][2:5], (11, 11, 2))

    def test_the_order_of_batches_makes_no_difference(self):
        batches = [[("o", "a", 1, 1, NOON), ("p", "a", 2, 2, NOON)], [("o", "b", 4, 4, NOON)],
                   [("p", "a", 8, 8, "2026-01-04T12:00:00Z")]]
        seen = set()
        for order in itertools.permutations(batches):
            self.dbname = self.new_database()
            self.apply_schema("--model", self.model)
            for batch in order:
                self.add_usage(*batch)
            seen.add(str(self.daily()))
        self.assertEqual(len(seen), 1, seen)

    def test_over_limit(self):
        self.add_usage(("o", "chat", 1, 10, NOON))

        def over(org, day, limit):
            return self.query("SELECT over_limit(%s, %s, %s)", (org, day, limit))[0][0]

        self.assertTrue(over("o", "2026-01-05", 9.99))
        self.assertTrue(over("o", "2026-01-05", decimal.Decimal("9.99")))
        self.assertFalse(over("o", "2026-01-05", 10))
        self.assertFalse(over("o", "2026-01-06", 0))
        self.assertFalse(over("p", "2026-01-05", 0))
        self.add_usage(("o", "chat", 1, "0.01", NOON))
        self.assertTrue(over("o", "2026-01-05", 10))


class Jobs(OperationsTest):
    def add_job(self, org="o", due="now()", kind="k", status="pending"):
        return self.query(
            "INSERT INTO job_queue (id, organization_id, kind, scheduled_for, status) VALUES"
            f" (gen_random_uuid(), %s, %s, {due}, %s) RETURNING id", (org, kind, status))[0][0]

    def claim(self, n, connection=None):
        return [row[0] for row in
                (connection or self.connection()).execute("SELECT id FROM claim_jobs(%s)", (n,))]

    def job(self, job):
        return self.query("SELECT status, attempt_count, last_error, result_id,"
                          " picked_up_at IS NOT NULL, completed_at IS NOT NULL,"
                          " last_attempt_at IS NOT NULL FROM job_queue WHERE id = %s", (job,))[0]

    def test_the_longest_due_first_and_none_before_its_time(self):
        later = self.add_job(due="now() + interval '1 h'")
        second = self.add_job(due="now() - interval '1 min'")
        first = self.add_job(due="now() - interval '1 h'")
        self.assertEqual(self.claim(1), [first])
        self.assertEqual(self.claim(5), [second])
        self.assertEqual(self.claim(5), [])
        self.assertEqual(self.job(first), ("processing", 1, None, None, True, False, True))
        self.assertEqual(self.job(later), ("pending", 0, None, None, False, False, False))

    def test_only_what_is_pending(self):
        for status in ("processing", "completed", "failed", "cancelled", "blocked"):
            self.add_job(status=status)
        self.assertEqual(self.claim(10), [])

    def test_without_a_time_it_is_due_when_it_was_made(self):
        job = self.add_job(due="NULL")
        self.assertEqual(self.claim(1), [job])

    def test_two_workers_never_get_the_same_job_nor_wait(self):
        jobs = [self.add_job() for _ in range(4)]
        first = self.connection()
        first.execute("BEGIN")
        mine = self.claim(2, first)
        other = self.connection()
        other.execute("SET lock_timeout = '1ms'")
        theirs = self.claim(4, other)
        first.execute("COMMIT")
        self.assertEqual(sorted(mine + theirs), sorted(jobs))

    def test_parallel_workers_share_all_jobs_once(self):
        jobs = [self.add_job() for _ in range(120)]
        taken = []

        def worker(connection):
            while claimed := self.claim(7, connection):
                self.assertLessEqual(len(claimed), 7)
                taken.extend(claimed)
                for job in claimed:
                    connection.execute("SELECT finish_job(%s, 'done')", (job,))

        self.in_parallel(*[worker] * 4)
        self.assertEqual(sorted(taken), sorted(jobs))
        self.assertEqual(self.query("SELECT DISTINCT status, attempt_count, result_id FROM job_queue"),
                         [("completed", 1, "done")])

    def test_a_worker_that_dies_leaves_its_jobs(self):
        job = self.add_job()
        dying = self.connection()
        dying.execute("BEGIN")
        self.assertEqual(self.claim(1, dying), [job])
        dying.close()
        wait_until(lambda: self.claim(1) == [job], 30, "the job to be free again")

    def test_a_worker_that_dies_after_its_claim_is_made_up_for(self):
        """As docs/models.md says."""
        left, working = self.add_job(), self.add_job(due="now() + interval '1 ms'")
        self.assertEqual(self.claim(1), [left])
        self.query("UPDATE job_queue SET picked_up_at = now() - interval '11 min' WHERE id = %s", (left,))
        wait_until(lambda: self.claim(1) == [working], 30, "the other job to be claimed")
        self.assertEqual(self.query("SELECT fail_job(id, 'the worker is gone') FROM job_queue WHERE"
                                    " status = 'processing' AND picked_up_at < now() - interval '10 min'"),
                         [("pending",)])
        self.assertEqual([self.job(job)[:3] for job in (left, working)],
                         [("pending", 1, "the worker is gone"), ("processing", 1, None)])

    def test_finishing(self):
        job = self.add_job()
        self.assert_refused("55000", "SELECT finish_job(%s)", (job,))
        self.claim(1)
        self.query("SELECT finish_job(%s, 'report-7')", (job,))
        self.assertEqual(self.job(job), ("completed", 1, None, "report-7", True, True, True))
        self.assert_refused("55000", "SELECT finish_job(%s)", (job,))
        self.assert_refused("55000", "SELECT fail_job(%s, 'late')", (job,))
        self.assert_refused("55000", "SELECT finish_job(gen_random_uuid())")

    def fail(self, job, *more):
        """The job's status then, and in how many seconds it is due."""
        values = ", ".join(["%s"] * (2 + len(more)))
        connection = self.connection()
        connection.execute("BEGIN")
        status = connection.execute(f"SELECT fail_job({values})", (job, "broken", *more)).fetchone()[0]
        wait = connection.execute("SELECT extract(epoch FROM scheduled_for - now()) FROM job_queue"
                                  " WHERE id = %s", (job,)).fetchone()[0]
        connection.execute("COMMIT")
        return status, wait

    def make_due(self, job):
        self.query("UPDATE job_queue SET scheduled_for = now() - interval '1 s' WHERE id = %s", (job,))

    def test_a_job_that_fails_is_tried_three_times_and_later_each_time(self):
        job = self.add_job()
        for wait in (2, 4):
            self.assertEqual(self.claim(1), [job])
            self.assertEqual(self.fail(job), ("pending", wait))
            self.assertEqual(self.claim(1), [])
            self.make_due(job)
        self.assertEqual(self.claim(1), [job])
        self.assertEqual(self.fail(job)[0], "failed")
        self.assertEqual(self.job(job), ("failed", 3, "broken", None, True, True, True))
        self.assertEqual(self.claim(1), [])

    def test_it_never_waits_longer_than_five_minutes(self):
        job = self.add_job()
        waits = []
        for attempt in (8, 9, 30, 1000):
            self.query("UPDATE job_queue SET status = 'processing', attempt_count = %s WHERE id = %s",
                       (attempt, job))
            waits.append(self.fail(job, 10000)[1])
        self.assertEqual(waits, [256, 300, 300, 300])

    def test_what_is_no_number_of_jobs_or_no_status(self):
        self.assert_refused("2201W", "SELECT claim_jobs(-1)")
        self.assertEqual(self.claim(0), [])
        self.assert_refused("23514", "INSERT INTO job_queue (id, organization_id, kind, status)"
                            " VALUES (gen_random_uuid(), 'o', 'k', 'lost')")

    def test_workers_of_an_organisation_get_its_jobs(self):
        self.add_job(org="other")
        mine = self.add_job(org="mine")
        worker = self.acting_for("mine")
        self.assertEqual(self.claim(10, worker), [mine])
        worker.execute("SELECT finish_job(%s)", (mine,))
        worker.execute("COMMIT")
        self.assertEqual(self.query("SELECT organization_id, status FROM job_queue ORDER BY 1"),
                         [("mine", "completed"), ("other", "pending")])


class Isolation(OperationsTest):
    def setUp(self):
        super().setUp()
        for org in ("one", "two"):
            events = samples_of(self.model)
            for event in events:
                event.update(id=str(uuid.uuid4()), organization_id=org)
            self.assertEqual(self.shipper().ship(events), 10)

    def test_every_other_role_sees_one_organisation(self):
        worker = self.acting_for("one")
        for table in EVENT_TABLES + STATE_TABLES + ("token_usage_daily",):
            self.assertEqual(worker.execute(f"SELECT DISTINCT organization_id FROM {table}").fetchall(),
                             [("one",)], table)
        self.assertTrue(worker.execute("SELECT over_limit('one', '2026-01-05', 0)").fetchone()[0])
        self.assertFalse(worker.execute("SELECT over_limit('two', '2026-01-05', 0)").fetchone()[0])

    def test_and_none_if_it_names_none(self):
        worker = self.acting_for(None)
        tables = EVENT_TABLES + STATE_TABLES + ("token_usage_daily",)
        for table in tables:
            self.assertEqual(worker.execute(f"SELECT count(*) FROM {table}").fetchone(), (0,), table)
        worker.execute("COMMIT")
        # As SET LOCAL leaves it behind: empty, not unset.
        worker.execute("BEGIN")
        worker.execute("SET LOCAL app.current_org_id = 'one'")
        worker.execute("COMMIT")
        for table in tables:
            self.assertEqual(worker.execute(f"SELECT count(*) FROM {table}").fetchone(), (0,), table)

    def test_it_writes_for_one_organisation_only(self):
        worker = self.acting_for("one")
        self.assertEqual(worker.execute("UPDATE planning_notes SET status = 'archived'").rowcount, 1)
        self.assertEqual(worker.execute("DELETE FROM agent_memory").rowcount, 1)
        worker.execute("COMMIT")
        for wish in ("INSERT INTO user_events (id, organization_id, event_type)"
                     " VALUES (gen_random_uuid(), 'two', 'x')",
                     "UPDATE planning_notes SET organization_id = 'two'"):
            worker = self.acting_for("one")
            with self.assertRaises(psycopg.errors.InsufficientPrivilege, msg=wish):
                worker.execute(wish)
        self.assertEqual(self.query("SELECT organization_id, status FROM planning_notes ORDER BY 1"),
                         [("one", "archived"), ("two", "pending")])

    def test_a_row_belongs_to_somebody(self):
        for org in ("", None):
            self.assert_refused("23502" if org is None else "23514", "INSERT INTO user_events"
                                " (id, organization_id, event_type) VALUES (gen_random_uuid(), %s, 'x')",
                                (org,))

    def test_the_shipping_role_adds_for_every_organisation_and_changes_nothing(self):
        for table in EVENT_TABLES + STATE_TABLES + ("token_usage_daily",):
            for wish in (f"UPDATE {table} SET organization_id = 'x'", f"DELETE FROM {table}",
                         f"TRUNCATE {table}"):
                self.assert_refused("42501", wish, user="shipper")
        for wish in ("SELECT payload FROM job_queue", "SELECT content FROM agent_memory",
                     "SELECT content FROM planning_notes", "SELECT * FROM token_usage_daily",
                     "INSERT INTO token_usage_daily VALUES ('x', now(), 1, 1, 1, '{}', now())"):
            self.assert_refused("42501", wish, user="shipper")

    def test_nobody_forges_totals_by_the_function_that_keeps_them(self):
        self.query("GRANT CREATE ON SCHEMA public TO worker")
        with self.cluster.connect(self.dbname, user="worker") as worker:
            worker.execute("CREATE TABLE mine (organization_id text)")
        error = self.assert_refused(
            "42501", "CREATE TRIGGER forge AFTER INSERT ON mine REFERENCING NEW TABLE AS added"
            " FOR EACH STATEMENT EXECUTE FUNCTION add_token_usage()", user="worker")
        self.assertIn("function add_token_usage", str(error))

    def test_functions_with_the_owners_rights_have_a_fixed_search_path(self):
        found = self.query("SELECT proname, proconfig FROM pg_proc WHERE prosecdef"
                           " AND pronamespace IN ('public'::regnamespace, 'sluice'::regnamespace)")
        self.assertGreaterEqual(len(found), 3)
        for name, config in found:
            self.assertTrue(config and any(item.startswith("search_path=pg_catalog") for item in config),
                            name)


class Rules(OperationsTest):
    def test_facts_never_change(self):
        self.shipper().ship(samples_of(self.model))
        for table in EVENT_TABLES:
            self.assert_refused("42501", f"UPDATE {table} SET extra = NULL")
            self.assert_refused("42501", f"DELETE FROM {table}")
            self.assert_refused("42501", f"TRUNCATE {table}")

    def test_state_belongs_to_the_application(self):
        self.shipper().ship(samples_of(self.model))
        for status in ("incorporated", "archived", "pending"):
            self.query("UPDATE planning_notes SET status = %s", (status,))
        self.query("UPDATE agent_memory SET importance = 0.1")
        for table in ("planning_notes", "agent_memory"):
            self.assertEqual(self.query(f"SELECT updated_at > created_at FROM {table}"), [(True,)])

    def test_values_out_of_bounds(self):
        self.assert_refused("23514", "INSERT INTO planning_notes (id, organization_id, content, status)"
                            " VALUES (gen_random_uuid(), 'o', 'x', 'done')")
        for importance in ("-0.001", "1.001", "NaN"):
            self.assert_refused("23514", "INSERT INTO agent_memory (id, organization_id, memory_type,"
                                " content, importance) VALUES (gen_random_uuid(), 'o', 'fact', 'x', %s)",
                                (importance,))
        self.query("INSERT INTO agent_memory (id, organization_id, memory_type, content, importance)"
                   " SELECT gen_random_uuid(), 'o', 'fact', 'x', n FROM unnest('{0,1,NULL}'::numeric[]) n")

    def test_applied_twice_nothing_changes_and_a_second_role_may_ship_too(self):
        before = self.schema_text()
        self.apply_schema("--model", self.model, "--role", "shipper")
        self.assertEqual(self.schema_text(), before)
        self.apply_schema("--model", self.model, "--role", "worker")
        other = SampleShipper(self.connection(user="worker"), self.model)
        self.assertEqual(self.shipper().ship(samples_of(self.model)), 10)
        self.assertEqual((other.ship(samples_of(self.model)), other.dead), (0, 0))

    def test_everything_says_what_it_is(self):
        self.assertEqual(self.undescribed(), [])


if __name__ == "__main__":
    unittest.main()
