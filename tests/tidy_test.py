#!/usr/bin/python3
"""The tree's own rules: who may include whom, each library's one home, no words of unfinished work."""

import os
import re
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDERS = ("config", "spool", "ingest", "sink", "daemon")

# What each folder may include of ours, beside itself.
MAY_INCLUDE = {
    "config": set(),
    "spool": set(),
    "ingest": {"spool"},
    "sink": {"spool"},
    "daemon": {"config", "spool", "ingest", "sink"},
}

# Include pattern -> the files (as path prefixes) that may have it.
HOMES = {
    r"boost/asio": ("ingest/listener", "ingest/connection", "daemon/"),
    r"boost/beast": ("daemon/http_server",),
    r"rapidjson/|simdjson": ("ingest/event_parser", "ingest/line_scan", "ingest/document"),
    r"concurrentqueue|moodycamel": ("ingest/event_queue",),
    r"libpq-fe|libpq/": ("sink/postgres_session",),
    r"openssl/": ("spool/sha256",),
    r"prometheus/": ("daemon/metric", "daemon/lane_metrics", "daemon/spool_metrics"),
    r"systemd/": ("daemon/sd_notify",),
    r"toml": ("config/loader",),
    r"CLI/|CLI11": ("daemon/main", "daemon/command_"),
    r"spdlog/": ("daemon/log",),
}

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|not implemented|for now\b|placeholder",
                        re.IGNORECASE)


def sources_of(folder):
    for directory, _, names in os.walk(os.path.join(ROOT, folder)):
        for name in sorted(names):
            if name.endswith((".hpp", ".cpp")):
                yield os.path.relpath(os.path.join(directory, name), ROOT)


def includes_of(path):
    with open(os.path.join(ROOT, path)) as file:
        for number, line in enumerate(file, 1):
            match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)', line)
            if match:
                yield number, match[1] == '"', match[2]


def tracked_files():
    listed = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True)
    if listed.returncode == 0:
        return listed.stdout.split()
    found = []
    for folder in FOLDERS + ("tests", "bench", "docs", "systemd"):
        found += [os.path.relpath(os.path.join(directory, name), ROOT)
                  for directory, _, names in os.walk(os.path.join(ROOT, folder)) for name in names]
    return found


class Tidy(unittest.TestCase):
    def test_includes_go_one_way(self):
        wrong = []
        for folder in FOLDERS:
            for path in sources_of(folder):
                for number, _, target in includes_of(path):
                    first = target.split("/")[0]
                    if first in FOLDERS and first != folder and first not in MAY_INCLUDE[folder]:
                        wrong.append(f"{path}:{number} includes {target}")
        self.assertEqual(wrong, [])

    def test_our_own_files_are_included_by_their_path_from_the_root(self):
        wrong = []
        for folder in FOLDERS:
            for path in sources_of(folder):
                wrong += [f"{path}:{number} includes \"{target}\""
                          for number, quoted, target in includes_of(path)
                          if quoted and not os.path.exists(os.path.join(ROOT, target))
                          and not target.startswith("generated/")]
        self.assertEqual(wrong, [])

    def test_each_library_has_one_home(self):
        wrong = []
        for folder in FOLDERS:
            for path in sources_of(folder):
                for number, _, target in includes_of(path):
                    for pattern, homes in HOMES.items():
                        if re.match(pattern, target) and not path.startswith(homes):
                            wrong.append(f"{path}:{number} includes {target}")
        self.assertEqual(wrong, [])

    def test_only_the_daemon_starts_threads_or_sleeps(self):
        wrong = []
        for folder in ("config", "spool", "ingest", "sink"):
            for path in sources_of(folder):
                with open(os.path.join(ROOT, path)) as file:
                    for number, line in enumerate(file, 1):
                        if re.search(r"std::j?thread\b|sleep_for|sleep_until|\busleep\(", line):
                            wrong.append(f"{path}:{number} {line.strip()}")
        self.assertEqual(wrong, [])

    def test_each_header_begins_by_saying_what_it_is(self):
        wrong = []
        for folder in FOLDERS:
            for path in sources_of(folder):
                if not path.endswith(".hpp"):
                    continue
                with open(os.path.join(ROOT, path)) as file:
                    if not file.readline().startswith("// "):
                        wrong.append(path)
        self.assertEqual(wrong, [])

    def test_no_words_of_unfinished_work(self):
        wrong = []
        for path in tracked_files():
            if path == "tests/tidy_test.py":
                continue
            with open(os.path.join(ROOT, path), errors="replace") as file:
                wrong += [f"{path}:{number} {line.strip()}"
                          for number, line in enumerate(file, 1) if UNFINISHED.search(line)]
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
