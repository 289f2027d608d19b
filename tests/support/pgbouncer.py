"""A pgbouncer in transaction mode in front of a test's cluster, run as a user that it accepts."""

import os
import shutil
import signal
import subprocess
import tempfile

import psycopg

from support.postgres_cluster import (die_with_parent, own_by_unprivileged_user, unprivileged_user)
from support.waiting import wait_until


class Pgbouncer:
    def __init__(self, cluster, **settings):
        self.directory = tempfile.mkdtemp(prefix="sluice-pb-", dir="/tmp")
        os.chmod(self.directory, 0o755)
        own_by_unprivileged_user(self.directory)
        self.log_path = os.path.join(self.directory, "log")
        self._config_path = os.path.join(self.directory, "pgbouncer.ini")
        values = {
            "pool_mode": "transaction", "auth_type": "any", "listen_addr": "",
            "unix_socket_dir": self.directory, "listen_port": 6432, "default_pool_size": 4,
            "logfile": self.log_path, **settings,
        }
        with open(self._config_path, "w") as file:
            file.write(f"[databases]\n* = host={cluster.socket_directory} port={cluster.port}"
                       " user=postgres\n[pgbouncer]\n")
            for name, value in values.items():
                file.write(f"{name} = {value}\n")
        os.chmod(self._config_path, 0o644)
        self._process = None

    def start(self):
        self._process = subprocess.Popen(
            ["/usr/sbin/pgbouncer", "-q", self._config_path], cwd="/", stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent(signal.SIGKILL), **unprivileged_user())
        wait_until(self._answers, 20, "pgbouncer to answer")
        return self

    def _answers(self):
        try:
            psycopg.connect(self.dsn("postgres")).close()
            return True
        except psycopg.OperationalError:
            return False

    def dsn(self, dbname):
        return f"host={self.directory} port=6432 dbname={dbname} user=postgres"

    def connect(self, dbname):
        """A psycopg connection that uses the simple query protocol only, as pgbouncer's own console
        `pgbouncer` demands; in autocommit mode."""
        return psycopg.connect(self.dsn(dbname), autocommit=True, prepare_threshold=None,
                               cursor_factory=psycopg.ClientCursor)

    def kill(self):
        self._process.kill()
        self._process.wait()

    def close(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()
