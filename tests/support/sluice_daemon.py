"""Runs the daemon under test: generated configuration, readiness, metrics, signals, memory and CPU."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request

from support.postgres_cluster import cpu_seconds_of, die_with_parent, free_port
from support.waiting import SLOWNESS, wait_until

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_SAMPLE = re.compile(r"^(?P<series>[a-zA-Z_:][^ ]*) (?P<value>\S+)")


def sluice_binary():
    return os.environ.get("SLUICE_BINARY", os.path.join(_ROOT, "build", "release", "sluice"))


def build_directory():
    return os.path.dirname(sluice_binary())


def run_sluice(*arguments, env=None, timeout=60, **more):
    """Runs a command of the binary to its end; stdout and stderr as text."""
    return subprocess.run([sluice_binary(), *arguments], capture_output=True, text=True,
                          env=clean_environment(env), timeout=timeout * SLOWNESS, **more)


def clean_environment(more=None):
    """Ours without what would change the daemon's settings or its connection behind a test's back."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("SLUICE_", "PG"))}
    kept.update(more or {})
    return kept


def toml(sections):
    """Settings {section: {key: value}} as TOML (JSON's strings, numbers and lists are TOML's too)."""
    lines = []
    for section, keys in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


class SluiceDaemon:
    """`sluice serve` with a directory of its own for socket, spool, configuration and log."""

    # The stages of sluice_events_total that the books are made of.
    CAME = ("received", "recovered", "rewound")
    WENT = ("committed", "found_committed", "set_aside", "duplicate", "rejected", "dropped",
            "quarantined")

    def __init__(self, dsn, settings=None, env=None):
        """`settings`: {section: {key: value}} over the tests' defaults; a list such as
        "listener": [{key: value}] for each table of [[listener]]; "toml": text that follows the
        rest, such as [[route]]s."""
        self.directory = tempfile.mkdtemp(prefix="sluice-d-", dir="/tmp")
        os.chmod(self.directory, 0o755)
        self.socket_path = os.path.join(self.directory, "events.sock")
        self.spool_dir = os.path.join(self.directory, "spool")
        self.config_path = os.path.join(self.directory, "sluice.toml")
        self.log_path = os.path.join(self.directory, "log")
        self.metrics_port = free_port()
        self._env = clean_environment(env)
        self._process = None
        self.write_config(dsn, settings or {})

    def write_config(self, dsn, settings):
        sections = {
            "ingest": {"socket": self.socket_path, "socket_mode": "0666"},
            "spool": {"dir": self.spool_dir},
            "postgres": {"dsn": dsn},
            "metrics": {"listen": f"127.0.0.1:{self.metrics_port}"},
        }
        text = settings.get("toml", "")
        tables = {section: keys for section, keys in settings.items() if isinstance(keys, list)}
        for section, keys in settings.items():
            if section not in tables and section != "toml":
                sections.setdefault(section, {}).update(keys)
        with open(self.config_path, "w") as file:
            file.write(toml(sections))
            for section, entries in tables.items():
                for entry in entries:
                    file.write(toml({f"[{section}]": entry}))
            file.write(text)

    # Life.

    def spawn(self):
        """Starts the process and returns at once."""
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                [sluice_binary(), "serve", "--config", self.config_path], env=self._env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=die_with_parent(signal.SIGKILL))
        return self

    def start(self):
        self.spawn()
        try:
            wait_until(self._is_up, 20, "the daemon to be ready")
        except AssertionError as error:
            raise AssertionError(f"{error}; its log:\n{self.log_text()}") from None
        return self

    def _is_up(self):
        if self._process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self._process.returncode}")
        return self.page("/readyz")[0] == 200

    @property
    def pid(self):
        return self._process.pid

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    def set_environment(self, more=None):
        """Of the processes that are started from now on."""
        self._env = clean_environment(more)

    def signal(self, sig):
        self._process.send_signal(sig)

    def wait(self, timeout=60):
        """The exit code, when it has ended."""
        return self._process.wait(timeout * SLOWNESS)

    def stop(self, timeout=60):
        """SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def close(self):
        if self.running:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_):
        self.close()

    def log_text(self):
        if not os.path.exists(self.log_path):
            return ""
        with open(self.log_path, errors="replace") as log:
            return log.read()

    # What it says about itself.

    def page(self, path):
        """(status, body) of one of its HTTP pages; (0, reason) when nobody answers."""
        try:
            url = f"http://127.0.0.1:{self.metrics_port}{path}"
            with urllib.request.urlopen(url, timeout=10 * SLOWNESS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metrics(self):
        """{series with its labels: value} of one scrape."""
        status, body = self.page("/metrics")
        if status != 200:
            raise AssertionError(f"/metrics answered {status}: {body}")
        return {match["series"]: float(match["value"])
                for match in map(_SAMPLE.match, body.splitlines()) if match}

    def events(self, stage, metrics=None):
        """sluice_events_total of a stage, over all reasons."""
        metrics = metrics or self.metrics()
        return int(sum(value for series, value in metrics.items()
                       if series.startswith("sluice_events_total{")
                       and f'stage="{stage}"' in series))

    def rejected(self, reason):
        return int(sum(value for series, value in self.metrics().items()
                       if series.startswith("sluice_events_total{")
                       and f'reason="{reason}"' in series))

    def lanes(self, state):
        return int(self.metrics().get(f'sluice_lanes{{state="{state}"}}', 0))

    def books(self):
        """What came in and where it is, each as {term: events}: two sums that must be equal."""
        metrics = self.metrics()
        came = {stage: self.events(stage, metrics) for stage in self.CAME}
        went = {stage: self.events(stage, metrics) for stage in self.WENT}
        went["in_memory"] = int(metrics["sluice_events_in_memory"])
        went["in_spool"] = int(metrics["sluice_spool_events"])
        return came, went

    def books_balance(self):
        came, went = self.books()
        return sum(came.values()) == sum(went.values())

    def is_quiet(self):
        """Everything that was read is committed, a duplicate or refused."""
        came, went = self.books()
        return went["in_memory"] + went["in_spool"] == 0 and sum(came.values()) == sum(went.values())

    # What it takes.

    def memory_bytes(self, peak=False):
        """Resident memory now, or the most it ever was."""
        name = "VmHWM:" if peak else "VmRSS:"
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith(name):
                    return int(line.split()[1]) * 1024
        raise AssertionError(f"no {name} of process {self.pid}")

    def cpu_seconds(self):
        return cpu_seconds_of(self.pid)

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))
