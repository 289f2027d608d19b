#!/usr/bin/python3
"""Runs a command with a private Postgres cluster, whose connection string is in SLUICE_TEST_DSN."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support.postgres_cluster import PostgresCluster  # noqa: E402


def main():
    with PostgresCluster() as cluster:
        env = dict(os.environ, SLUICE_TEST_DSN=cluster.dsn())
        return subprocess.run(sys.argv[1:], env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
