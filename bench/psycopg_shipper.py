#!/usr/bin/python3
"""The script that people write instead of sluice: reads JSON lines from a Unix socket and puts them
into the events table by psycopg's COPY, 10,000 rows to a transaction. One producer, then it ends."""

import datetime
import json
import os
import socket
import sys
import time
import uuid

import psycopg
from psycopg.types.json import Jsonb

BATCH_ROWS = 10_000
KNOWN = ("type", "time", "source", "session_id", "parent_id", "dedupe_key", "data")
COPY = ("COPY events (id, occurred_at, type, source, session_id, parent_id, data, extra, received_at,"
        " producer_uid, dedupe_key) FROM STDIN")


def uuid7():
    ms = time.time_ns() // 1_000_000
    return uuid.UUID(int=ms << 80 | 7 << 76 | 2 << 62 | int.from_bytes(os.urandom(8), "big") >> 2)


def as_row(line, uid):
    event = json.loads(line)
    now = datetime.datetime.now(datetime.timezone.utc)
    extra = {name: value for name, value in event.items() if name not in KNOWN}
    return (uuid7(), event.get("time", now), event.get("type", "log"), event.get("source"),
            event.get("session_id"), event.get("parent_id"),
            Jsonb(event["data"]) if "data" in event else None, Jsonb(extra) if extra else None,
            now, uid, event.get("dedupe_key"))


def ship(connection, lines, uid):
    batch = []
    for line in lines:
        batch.append(line)
        if len(batch) == BATCH_ROWS:
            commit(connection, batch, uid)
            batch = []
    if batch:
        commit(connection, batch, uid)


def commit(connection, batch, uid):
    with connection.transaction(), connection.cursor() as cursor:
        with cursor.copy(COPY) as copy:
            for line in batch:
                copy.write_row(as_row(line, uid))


def main():
    dsn, path = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as listener, psycopg.connect(dsn) as connection:
        listener.bind(path)
        listener.listen()
        producer, _ = listener.accept()
        with producer, producer.makefile("rb", buffering=1 << 20) as lines:
            ship(connection, lines, os.getuid())


if __name__ == "__main__":
    main()
