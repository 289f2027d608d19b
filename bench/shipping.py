"""Events on their way into tables, by psql or by a daemon, and what that takes."""

import contextlib
import dataclasses
import os
import subprocess
import time

from bench_parts import SluiceDaemon, measured_process, median
from support.sluice_daemon import build_directory, sluice_binary
from support.waiting import wait_until

COLUMNS = ("id, occurred_at, type, source, session_id, parent_id, data, extra, received_at,"
           " producer_uid, dedupe_key")
WAIT_S = 1200


def psql_copy(cluster, path, options=""):
    return measured_process("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", cluster.dsn(), "-c",
                            f"\\copy events ({COLUMNS}) FROM '{path}' {options}")


def load_generator(socket_path, files, connections=1):
    return measured_process(os.path.join(build_directory(), "sluice_loadgen"), "--socket",
                            socket_path, "--file", files.lines, "--connections", str(connections),
                            stdout=subprocess.DEVNULL)


def sluice_send(socket_path, files):
    return measured_process(sluice_binary(), "send", "--no-acks", "--socket", socket_path,
                            files.lines, stderr=subprocess.DEVNULL)


@dataclasses.dataclass(frozen=True)
class Target:
    """The tables that rows are to arrive in, SQL that makes them of the fresh ones, and how many rows are
    in them then."""
    prepare: str = ""
    tables: tuple = ("events",)
    rows_before: int = 0


@contextlib.contextmanager
def watched_commits(cluster):
    """A function that says how many rows the watermarks count, over one open connection."""
    with cluster.connect() as connection:
        yield lambda: connection.execute(
            "SELECT coalesce(sum(rows), 0)::bigint FROM sluice.watermark").fetchone()[0]


def ship_by_sluice(cluster, files, start_sender, settings=None):
    """`settings`: as SluiceDaemon has them; two lanes without any."""
    with SluiceDaemon(cluster.dsn(), settings or {"postgres": {"lanes": 2}}) as daemon:
        cpu_before = daemon.cpu_seconds()
        with watched_commits(cluster) as committed:
            started = time.monotonic()
            sender = start_sender(daemon.socket_path, files)
            wait_until(lambda: committed() >= files.rows, WAIT_S, "all events to be committed",
                       every=0.01)
            seconds = time.monotonic() - started
        metrics = daemon.metrics()
        batches = metrics["sluice_batches_total"]
        return {
            "seconds": seconds,
            "client_cpu_s": daemon.cpu_seconds() - cpu_before,
            "producer_cpu_s": sender(),
            "peak_rss_mib": daemon.memory_bytes(peak=True) / 2**20,
            "rows_per_batch": files.events / batches,
            "copy_ms_per_batch": metrics["sluice_copy_duration_seconds_sum"] / batches * 1e3,
            "commit_ms_per_batch": metrics["sluice_commit_duration_seconds_sum"] / batches * 1e3,
        }


def measure(cluster, files, runner, target=Target()):
    """One run into fresh tables; checks that every row is there."""
    cluster.fresh_table(target.prepare)
    cpu_before = cluster.cpu_seconds()
    started = time.monotonic()
    result = runner(cluster, files)
    result.setdefault("seconds", time.monotonic() - started)
    result["postgres_cpu_s"] = cluster.cpu_seconds() - cpu_before
    result["rows_per_s"] = files.events / result["seconds"]
    rows = sum(cluster.rows(table) for table in target.tables) - target.rows_before
    if rows != files.rows:
        raise RuntimeError(f"{rows} rows where {files.rows} had to be")
    return result


def medians(rounds):
    return {key: median([result[key] for result in rounds]) for key in rounds[0]}
