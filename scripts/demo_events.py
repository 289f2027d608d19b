#!/usr/bin/python3
"""Writes this repository's git history and the machine's package log to stdout as events."""

import glob
import json
import os
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FIELD, COMMIT = "\x1f", "\x1e"


def git_events():
    """One event a commit, oldest first; none, and a word about it, where there is no history."""
    log = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", ROOT, "log", "--reverse",
         f"--format=%H%x1f%aI%x1f%an%x1f%s%x1f%b%x1e"],
        capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    if log.returncode != 0:
        print("no git history here (a tarball?): only the package log is sent", file=sys.stderr)
    for entry in log.stdout.split(COMMIT):
        if entry.strip():
            commit, when, author, subject, body = entry.strip("\n").split(FIELD)
            yield {"type": "git.commit", "time": when, "source": author,
                   "dedupe_key": "git:" + commit,
                   "data": {"commit": commit, "subject": subject, "body": body.strip()}}


def package_events():
    """One event a line of dpkg's log, whose times are local."""
    logs = sorted(glob.glob("/var/log/dpkg.log")) or sorted(glob.glob("/var/log/dpkg.log.1"))
    if not logs:
        print("no /var/log/dpkg.log on this machine", file=sys.stderr)
    for path in logs:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                words = line.split()
                if len(words) < 3:
                    continue
                moment = time.mktime(time.strptime(" ".join(words[:2]), "%Y-%m-%d %H:%M:%S"))
                yield {"type": "package." + words[2], "time": int(moment), "source": "dpkg",
                       "data": {"words": words[3:]}, "host": os.uname().nodename}


def main():
    number = 0
    for events in (git_events(), package_events()):
        for event in events:
            number += 1
            event["data"]["n"] = number
            print(json.dumps(event, ensure_ascii=False))


main()
