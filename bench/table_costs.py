"""What is paid for what tables and routes ask for: refused rows, merging, several routes at once, computed
dedupe keys. Each against the same events without it (merging: against the same done by hand), rounds
interleaved."""

import random
import re

from bench_parts import ChangedLines, measured_process, median
from shipping import COLUMNS, Target, measure, medians, ship_by_sluice, sluice_send

POISON_EVERY = 10_000
LANES = 2
TYPES = ("tool.call", "tool.result", "llm.prompt", "llm.answer", "ci.run")
COLUMN_SOURCES = {"id": "$id", "occurred_at": "time", "type": "type", "source": "source",
                  "session_id": "session_id", "parent_id": "parent_id", "data": "data",
                  "extra": "$extra", "received_at": "$received_at", "producer_uid": "$uid",
                  "dedupe_key": "$dedupe_key"}


def route(match="*", table="events", without=(), **more):
    """A [[route]] as the default one is, as TOML; `more`: further keys."""
    columns = ", ".join(f'{{ name = "{name}", from = "{source}" }}'
                        for name, source in COLUMN_SOURCES.items() if name not in without)
    keys = "".join(f"{key} = {value}\n" for key, value in more.items())
    return f'[[route]]\nmatch = "{match}"\ntable = "{table}"\n{keys}columns = [ {columns} ]\n'


def by_sluice(lanes=LANES, routes=""):
    settings = {"postgres": {"lanes": lanes}, "toml": routes}
    return lambda cluster, files: ship_by_sluice(cluster, files, sluice_send, settings)


def in_turn(cluster, cases, rounds):
    """The medians of {name: (files, runner, target)}, each measured once in each round."""
    results = {name: [] for name in cases}
    for number in range(1, rounds + 1):
        for name, (files, runner, target) in cases.items():
            result = measure(cluster, files, runner, target)
            results[name].append(result)
            print(f"round {number} {name:25}{result['rows_per_s']:>9,.0f} rows/s, CPU"
                  f" {result['client_cpu_s']:.2f} s and Postgres {result['postgres_cpu_s']:.2f} s",
                  flush=True)
    return {name: {"median": medians(each), "rounds": each} for name, each in results.items()}


def ratio(report, name, against):
    """The median over the rounds, so that a load beside one round does not look like a cost."""
    pairs = zip(report[name]["rounds"], report[against]["rounds"])
    return median(one["rows_per_s"] / other["rows_per_s"] for one, other in pairs)


def poison(cluster, files, rounds):
    """One row in each 10,000, anywhere among them, is refused by a CHECK constraint."""
    chance = random.Random(1)
    poisoned = {start + chance.randrange(POISON_EVERY)
                for start in range(0, files.events, POISON_EVERY)}
    poisoned = {number for number in poisoned if number < files.events}

    def change(number, line):
        if number not in poisoned:
            return line
        return re.sub('"source":"[^"]*"', '"source":"poison"', line, count=1)

    bad = files.changed("poisoned.ndjson", change, rows=files.events - len(poisoned))
    target = Target("ALTER TABLE events ADD CHECK (source <> 'poison')")
    cases = {}
    for lanes in (1, 2):
        cases[f"clean, lanes {lanes}"] = (files, by_sluice(lanes), target)
        cases[f"poisoned, lanes {lanes}"] = (bad, by_sluice(lanes), target)
    report = in_turn(cluster, cases, rounds)
    report["poisoned_rows"] = len(poisoned)
    for lanes in (1, 2):
        kept = report[f"ratio_lanes_{lanes}"] = ratio(report, f"poisoned, lanes {lanes}",
                                                      f"clean, lanes {lanes}")
        print(f"{len(poisoned)} refused rows among {files.events:,}, lanes {lanes}: {kept:.2f} of the rate "
              f"without")
    return report


def merge_by_hand(files, key):
    """One transaction on each of as many connections as sluice has lanes."""
    def run(cluster, _):
        finishes = []
        for half in range(1, LANES + 1):
            path = files.path(f"events-{half}.bin")
            finishes.append(measured_process(
                "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", cluster.dsn(), "-c", "BEGIN",
                "-c", "CREATE TEMPORARY TABLE incoming (LIKE events) ON COMMIT DROP",
                "-c", f"\\copy incoming ({COLUMNS}) FROM '{path}' (FORMAT binary)",
                "-c", f"INSERT INTO events ({COLUMNS}) SELECT {COLUMNS} FROM incoming"
                      f" ON CONFLICT ({key}) DO NOTHING",
                "-c", "COMMIT"))
        return {"client_cpu_s": sum(finish() for finish in finishes)}
    return run


def merge(cluster, files, rounds):
    """Into an empty table by its primary key; and by dedupe_key into one that has one row in 256 already,
    some of each batch."""
    with open(files.lines) as lines:
        rows_known = sum('"dedupe_key":"00' in line for line in lines)
    load = "".join(f"COPY known ({COLUMNS}) FROM '{files.path(f'events-{half}.bin')}' (FORMAT binary);"
                   for half in (1, 2))
    known = Target("ALTER TABLE events DROP CONSTRAINT events_pkey;"
                   "CREATE UNIQUE INDEX ON events (dedupe_key);"
                   f"CREATE TEMPORARY TABLE known (LIKE events); {load}"
                   "INSERT INTO events SELECT * FROM known WHERE dedupe_key LIKE '00%'",
                   rows_before=rows_known)
    the_rest = ChangedLines(files.lines, files.events, files.rows - rows_known)
    by_id = by_sluice(routes=route(mode='"merge"'))
    by_key = by_sluice(routes=route(mode='"merge"', key='["dedupe_key"]'))
    report = in_turn(cluster, {
        "all new, by hand": (files, merge_by_hand(files, "id"), Target()),
        "all new, by sluice": (files, by_id, Target()),
        "some known, by hand": (the_rest, merge_by_hand(files, "dedupe_key"), known),
        "some known, by sluice": (the_rest, by_key, known)}, rounds)
    for kind in ("all new", "some known"):
        found = report[f"ratio, {kind}"] = ratio(report, f"{kind}, by sluice", f"{kind}, by hand")
        print(f"keys {kind}: merge mode / temporary table and ON CONFLICT by psql, {LANES}"
              f" connections each = {found:.2f}")
    return report


def routes(cluster, files, rounds):
    tables = tuple(f"events_{number}" for number in range(1, len(TYPES) + 1))
    prepare = "".join(f"DROP TABLE IF EXISTS {table};"
                      f"CREATE TABLE {table} (LIKE events INCLUDING ALL);" for table in tables)
    five = "".join(route(match, table) for match, table in zip(TYPES, tables))
    cases = {"one route": (files, by_sluice(routes=route()), Target(prepare)),
             "five routes": (files, by_sluice(routes=five), Target(prepare, tables))}
    report = in_turn(cluster, cases, rounds)
    report["ratio"] = ratio(report, "five routes", "one route")
    print(f"five routes at once / one route = {report['ratio']:.2f}")
    return report


def computed(cluster, files, rounds):
    """The events have no keys of their own; the key is computed of their sessions and times."""
    keyless = files.changed("keyless.ndjson",
                            lambda _, line: re.sub('"dedupe_key":"[^"]*",', "", line, count=1))
    key = '["source", "session_id", "time"]'
    kinds = {"no key": route(), "key in the window": route(without=("dedupe_key",), dedupe=key),
             "key in window and column": route(dedupe=key)}
    report = in_turn(cluster, {name: (keyless, by_sluice(routes=each), Target())
                               for name, each in kinds.items()}, rounds)
    millions = files.events / 1e6
    for name in list(kinds)[1:]:
        more = median(one["client_cpu_s"] - none["client_cpu_s"] for one, none in
                      zip(report[name]["rounds"], report["no key"]["rounds"])) / millions
        report[name]["cpu_s_per_million"] = more
        print(f"{name}: {more:.2f} s of CPU per million events")
    return report


# By bench/run's option: what measures it and prints the figure, and in one line what that is.
TABLE_COSTS = {
    "poison": (poison, "one refused row in each 10,000 against none, with 1 and 2 lanes"),
    "merge": (merge, "merge mode against a temporary table and ON CONFLICT by psql"),
    "routes": (routes, "five routes at once against one"),
    "computed": (computed, "the daemon's CPU for computed dedupe keys"),
}
