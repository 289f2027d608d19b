"""What the benches share: the cluster they measure on, the generated events, the table, the reports."""

import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(_ROOT, "tests"))

from support.postgres_cluster import PostgresCluster, own_by_unprivileged_user  # noqa: E402
from support.sluice_daemon import SluiceDaemon, build_directory, run_sluice  # noqa: E402

__all__ = ["BenchCluster", "EventFiles", "SluiceDaemon", "describe_machine", "median",
           "measured_process", "write_json"]

# As a machine that is set up for its load has it; the same for everybody who is measured.
_CLUSTER_SETTINGS = {
    "fsync": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "autovacuum": "off",
    "track_commit_timestamp": "on",
}

median = statistics.median


class BenchCluster(PostgresCluster):
    """A cluster with fsync on, and the events table of `sluice schema apply`, made anew on demand."""

    def __init__(self, **settings):
        super().__init__({**_CLUSTER_SETTINGS, **settings})

    def fresh_table(self, prepare=""):
        """The append-only table refuses TRUNCATE, so it is dropped and made again. `prepare`: SQL that
        follows."""
        self.query("DROP TABLE IF EXISTS events CASCADE; DROP SCHEMA IF EXISTS sluice CASCADE")
        applied = run_sluice("schema", "apply", env={"SLUICE_POSTGRES_DSN": self.dsn()})
        if applied.returncode != 0:
            raise RuntimeError(f"sluice schema apply failed: {applied.stderr}")
        if prepare:
            self.query(prepare)
        self.query("CHECKPOINT")

    def rows(self, table="events"):
        return self.query(f"SELECT count(*) FROM {table}")[0][0]


class EventFiles:
    """The generated events in a temporary directory: JSON lines, text COPY, two halves of binary COPY."""

    def __init__(self, events, seed):
        self.events = self.rows = events
        self._directory = tempfile.TemporaryDirectory(prefix="sluice-bench-", dir="/tmp")
        os.chmod(self._directory.name, 0o755)
        subprocess.run([os.path.join(build_directory(), "sluice_event_generator"),
                        self._directory.name, str(events), str(seed)], check=True)
        for name in os.listdir(self._directory.name):
            own_by_unprivileged_user(os.path.join(self._directory.name, name))

    def path(self, name):
        return os.path.join(self._directory.name, name)

    @property
    def lines(self):
        return self.path("events.ndjson")

    def changed(self, name, change, rows=None):
        """The same lines, each by `change(number, line)`; `rows`: how many of them become rows."""
        path = self.path(name)
        with open(self.lines) as lines, open(path, "w") as out:
            out.writelines(change(number, line) for number, line in enumerate(lines))
        own_by_unprivileged_user(path)
        return ChangedLines(path, self.events, self.events if rows is None else rows)

    @property
    def line_bytes(self):
        return os.path.getsize(self.lines) / self.events

    def close(self):
        self._directory.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@dataclasses.dataclass(frozen=True)
class ChangedLines:
    lines: str  # the file's path
    events: int
    rows: int


def measured_process(*command, **more):
    """Starts a process; the function that is returned waits for it and gives its CPU seconds."""
    process = subprocess.Popen(command, **more)

    def finish():
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}")
        return usage.ru_utime + usage.ru_stime

    return finish


def describe_machine(cluster):
    with open("/proc/cpuinfo") as cpuinfo:
        models = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    return {
        "cpus": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "kernel": platform.release(),
        "postgres": cluster.query("SHOW server_version")[0][0],
        "postgres_settings": _CLUSTER_SETTINGS,
    }


def write_json(path, report):
    with open(path, "w") as file:
        json.dump(report, file, indent=2)
        file.write("\n")
