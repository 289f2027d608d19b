"""A streaming replica of a test's cluster, made by pg_basebackup: stopped, started and promoted."""

import os

from support.postgres_cluster import SUPERUSER, PostgresCluster
from support.waiting import wait_until


class Replica(PostgresCluster):
    """Of a cluster that is running; asynchronous unless the primary's settings name it."""

    def __init__(self, primary):
        self._primary = primary
        super().__init__()

    def _initialise(self, settings, tcp, hba):
        self._run(os.path.join(self.binaries, "pg_basebackup"), "-D", self.data_directory, "-R",
                  "-X", "stream", "-c", "fast", "--no-sync", "-d",
                  f"host={self._primary.socket_directory} port={self._primary.port} user={SUPERUSER}"
                  " application_name=replica")
        self.set(port=self.port, unix_socket_directories=self.socket_directory, listen_addresses="")

    def wait_caught_up(self):
        """Until everything that the primary has written so far is replayed here."""
        position = self._primary.query("SELECT pg_current_wal_lsn()")[0][0]
        wait_until(lambda: self.query("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (position,))[0][0],
                   30, f"the replica to reach {position}")

    def promote(self):
        self.query("SELECT pg_promote(true, 60)")
        wait_until(lambda: not self.query("SELECT pg_is_in_recovery()")[0][0], 30, "promotion")
