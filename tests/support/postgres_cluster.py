"""A private Postgres cluster in a temporary directory: made, started, stopped, restarted and killed by
tests and benches, as root (then it runs as the user `postgres`) or as an ordinary user."""

import ctypes
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile

import psycopg

from support.waiting import wait_until

SUPERUSER = "postgres"
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def postgres_binaries():
    """The directory of the newest Postgres on this machine."""
    found = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    if found:
        newest = max(found, key=lambda path: float(path.split("/")[4]))
        return os.path.dirname(newest)
    on_path = shutil.which("initdb")
    if on_path:
        return os.path.dirname(os.path.realpath(on_path))
    raise RuntimeError("no Postgres server found: install the package postgresql")


def unprivileged_user():
    """What subprocess needs to run as a user that Postgres accepts: nothing unless we are root."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("postgres")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": [account.pw_gid]}


def own_by_unprivileged_user(path):
    user = unprivileged_user()
    if user:
        os.chown(path, user["user"], user["group"])


def die_with_parent(sig):
    """A preexec_fn: the child gets `sig` when the thread that started it ends."""

    def ask_kernel():
        _libc.prctl(_PR_SET_PDEATHSIG, sig)

    return ask_kernel


def free_port():
    """A loopback TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds_of(pid, with_children=True):
    """User and system CPU seconds of a process, with those of children that it has waited for."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    ticks = [int(value) for value in fields[11:15]]
    return sum(ticks if with_children else ticks[:2]) / os.sysconf("SC_CLK_TCK")


class PostgresCluster:
    """Start it from a thread that lives as long as the cluster is needed (usually the main one)."""

    def __init__(self, settings=None, tcp=False, hba=None):
        """`settings`: of postgresql.conf; `hba`: lines of pg_hba.conf in place of trust for all."""
        self.binaries = postgres_binaries()
        self.directory = tempfile.mkdtemp(prefix="sluice-pg-", dir="/tmp")
        os.chmod(self.directory, 0o755)
        own_by_unprivileged_user(self.directory)
        self.socket_directory = self.directory
        self.data_directory = os.path.join(self.directory, "data")
        self.log_path = os.path.join(self.directory, "log")
        self.port = free_port() if tcp else 5432
        self._process = None
        self._initialise(settings or {}, tcp, hba)

    def _run(self, *command):
        subprocess.run(command, check=True, capture_output=True, text=True, cwd="/",
                       **unprivileged_user())

    def _initialise(self, settings, tcp, hba):
        self._run(os.path.join(self.binaries, "initdb"), "-D", self.data_directory, "-U", SUPERUSER,
                  "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        values = {
            "listen_addresses": "127.0.0.1" if tcp else "",
            "port": self.port,
            "unix_socket_directories": self.socket_directory,
            "fsync": "off",
            "max_connections": 60,
            "shared_buffers": "64MB",
            "autovacuum_naptime": "10min",
            "log_line_prefix": "%m [%p] %q%a ",
        }
        values.update(settings)
        with open(os.path.join(self.data_directory, "postgresql.conf"), "a") as conf:
            for name, value in values.items():
                conf.write(f"{name} = '{value}'\n")
        if hba is not None:
            self.write_hba(hba)

    def write_hba(self, lines):
        with open(os.path.join(self.data_directory, "pg_hba.conf"), "w") as file:
            file.write("\n".join(lines) + "\n")

    def set(self, **settings):
        """Appends settings to postgresql.conf; reload() or restart() makes them count."""
        with open(os.path.join(self.data_directory, "postgresql.conf"), "a") as conf:
            for name, value in settings.items():
                conf.write(f"{name} = '{value}'\n")

    # Life.

    @property
    def pid(self):
        return self._process.pid

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    def start(self):
        wait_until(self._try_start, 30, "Postgres to start", every=0.05)
        return self

    def _try_start(self):
        """After a kill -9 the old backends need a moment to go: the first tries may fail."""
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                [os.path.join(self.binaries, "postgres"), "-D", self.data_directory],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                preexec_fn=die_with_parent(signal.SIGINT), **unprivileged_user())
        return wait_until(lambda: self._answers() or not self.running, 60,
                          "Postgres to answer or to end", every=0.02) and self.running

    def _answers(self):
        try:
            self.connect(connect_timeout=5).close()
            return True
        except psycopg.OperationalError:
            return False

    def stop(self, mode="fast"):
        """mode: fast (backends are ended) or immediate (as a crash: recovery at the next start)."""
        if self.running:
            self._process.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
            self._process.wait(60)

    def kill(self):
        """kill -9 of the postmaster."""
        self._process.kill()
        self._process.wait(60)

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def reload(self):
        self._process.send_signal(signal.SIGHUP)

    def close(self):
        self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    # Use.

    def dsn(self, dbname="postgres", user=SUPERUSER, **more):
        parts = {"host": self.socket_directory, "port": self.port, "dbname": dbname, "user": user}
        parts.update(more)
        return " ".join(f"{key}={value}" for key, value in parts.items())

    def connect(self, dbname="postgres", **more):
        """A psycopg connection in autocommit mode."""
        return psycopg.connect(self.dsn(dbname, **more), autocommit=True)

    def query(self, sql, parameters=None, dbname="postgres"):
        """All rows of one query over a connection of its own."""
        with self.connect(dbname) as connection:
            cursor = connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def log_text(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    # Measuring.

    def cpu_seconds(self):
        """Of the whole cluster since it started: the postmaster, its children, and those that ended."""
        total = cpu_seconds_of(self.pid)
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as children:
            for child in children.read().split():
                try:
                    total += cpu_seconds_of(child, with_children=False)
                except FileNotFoundError:
                    pass  # it has just ended, and the postmaster counts it
        return total
