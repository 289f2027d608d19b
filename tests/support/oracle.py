"""Judges what became of the events of acking producers: each that was acked must be in the table or
among the valid set-aside records exactly once, every other at most once."""

import collections
import glob
import json
import os

from support.acking_producer import ACKED, OFFERED, REFUSED

_SHOWN = 10


class Judgement:
    """What was found of one producer's events. `wrong` is empty when all is well."""

    def __init__(self):
        self.made = self.acked = self.rows = self.set_aside = 0
        self.wrong = []


def set_aside_records(spool_directories, watermarks):
    """The records in aside/ that count: those below their segment's watermark; of several for one event,
    the last. A segment that the database does not know has delivered nothing, so that its records are
    void."""
    counting = {}
    for spool in spool_directories:
        for path in sorted(glob.glob(os.path.join(spool, "aside", "*.ndjson"))):
            with open(path, "rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        continue  # cut short by a crash, so never promised
                    record = json.loads(line)
                    if record["index"] < watermarks.get(record["segment"], 0):
                        counting[record["segment"], record["index"]] = record
    return list(counting.values())


class Oracle:
    """`query(sql, parameters)`: rows of the database that the daemons deliver to."""

    def __init__(self, query, spool_directories=()):
        self._query = query
        self._spools = list(spool_directories)

    def judge(self, producer):
        seen = self._rows(producer.name)
        aside = self._set_aside(producer.name)
        found = Judgement()
        found.made, found.acked = len(producer.states), producer.states.count(ACKED)
        found.rows, found.set_aside = sum(seen.values()), sum(aside.values())
        seen.update(aside)
        lost = [n for n, state in enumerate(producer.states) if state == ACKED and not seen[n]]
        twice = [n for n, count in seen.items() if count > 1]
        refused = [n for n, state in enumerate(producer.states) if state == REFUSED and seen[n]]
        unknown = [n for n in seen if n >= len(producer.states)]
        for numbers, verdict in ((lost, "acked and lost"), (twice, "stored more than once"),
                                 (refused, "refused and stored"), (unknown, "never sent")):
            if numbers:
                found.wrong.append(f"producer {producer.name} ({producer.kind}): {len(numbers)} events "
                                   f"{verdict}, such as {sorted(numbers)[:_SHOWN]}")
        return found

    def check(self, producers):
        """The sums over all producers; raises AssertionError when any event is not where it must be."""
        total = collections.Counter()
        wrong = []
        for producer in producers:
            found = self.judge(producer)
            wrong += found.wrong
            total.update(made=found.made, acked=found.acked, rows=found.rows,
                         set_aside=found.set_aside)
        if wrong:
            raise AssertionError("\n".join(wrong))
        return total

    def _rows(self, name):
        """{event number: rows}"""
        return collections.Counter(n for (n,) in self._query(
            "SELECT (data->>'n')::bigint FROM events WHERE type = 'load' AND source = %s", (name,)))

    def _set_aside(self, name):
        counts = collections.Counter()
        if any(os.path.isdir(os.path.join(spool, "aside")) for spool in self._spools):
            watermarks = dict(self._query(
                "SELECT segment_id::text, upto FROM sluice.watermark", None))
            for record in set_aside_records(self._spools, watermarks):
                event = json.loads(record["line"])
                if event.get("source") == name:
                    counts[event["data"]["n"]] += 1
        return counts


__all__ = ["Judgement", "Oracle", "set_aside_records", "ACKED", "OFFERED", "REFUSED"]
