#!/usr/bin/python3
"""Models made by an ordinary role that owns the database, in a schema whose name needs its quotes, beside
others, and filled by the shipping role."""

import os
import unittest

from support.model_test import ModelTest
from support.sample_shipper import MODELS as MODEL_FILES, SampleShipper, samples_of
from support.sluice_daemon import run_sluice

MODELS = {"conversations": 8, "operations": 10, "spirits": 4}  # and how many rows their samples become
SCHEMA = """it's "this" :schema"""


class OwnershipTest(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.query("CREATE ROLE deployer LOGIN; CREATE ROLE \"ship's\" LOGIN")

    def setUp(self):
        self.dbname = self.new_database()
        self.query(f"ALTER DATABASE {self.dbname} OWNER TO deployer")
        # What a careful administrator takes away.
        self.query(f"REVOKE ALL ON DATABASE {self.dbname} FROM PUBLIC;"
                   f"GRANT CONNECT ON DATABASE {self.dbname} TO \"ship's\"")
        for role in ("deployer", "ship's"):
            quoted = SCHEMA.replace('"', '""')
            self.query(f'ALTER ROLE "{role}" IN DATABASE {self.dbname} SET search_path = "{quoted}"')

    def apply(self, model):
        applied = run_sluice("schema", "apply", "--model", model, "--schema", SCHEMA, "--role", "ship's",
                             env={"SLUICE_POSTGRES_DSN": self.cluster.dsn(self.dbname, user="deployer")})
        self.assertEqual(applied.returncode, 0, applied.stderr)

    def ship(self, model):
        shipper = SampleShipper(self.connection(user="ship's"), model)
        self.assertEqual(shipper.ship(samples_of(model)), MODELS[model])
        return shipper


class Ownership(OwnershipTest):
    def test_each_model_is_made_and_filled(self):
        for model in MODELS:
            with self.subTest(model=model):
                self.setUp()
                self.apply(model)
                self.apply(model)
                self.ship(model)

    def test_models_live_beside_each_other(self):
        for model in MODELS:
            self.apply(model)
        for model in MODELS:
            with self.subTest(model=model):
                self.ship(model)

    def test_the_owner_keeps_the_totals_and_answers_questions(self):
        self.apply("operations")
        self.ship("operations")
        owner = self.connection(user="deployer")
        self.assertEqual(owner.execute("SELECT organization_id, event_count FROM token_usage_daily"
                                       " ORDER BY 1").fetchall(), [("org_acme", 3), ("org_birch", 1)])
        self.assertEqual(owner.execute("SELECT kind FROM claim_jobs(5)").fetchall(),
                         [("report",), ("invoice",)])

    def test_the_routes_are_a_configuration(self):
        for model in MODELS:
            read = run_sluice("schema", "print", "--config", os.path.join(MODEL_FILES, f"{model}.toml"))
            self.assertEqual(read.returncode, 0, read.stderr)

    def test_two_models_with_a_table_of_the_same_name_need_two_schemas(self):
        self.apply("spirits")
        applied = run_sluice("schema", "apply", "--model", "agent_log", "--schema", SCHEMA,
                             env={"SLUICE_POSTGRES_DSN": self.cluster.dsn(self.dbname, user="deployer")})
        self.assertNotEqual(applied.returncode, 0)
        self.assertIn("choose another schema", applied.stderr)


if __name__ == "__main__":
    unittest.main()
