"""Producers for tests: connections to the daemon's socket and events to send over them."""

import json
import socket
import threading

from support.waiting import SLOWNESS


def connect(path):
    producer = socket.socket(socket.AF_UNIX)
    producer.connect(path)
    return producer


def send(path, *lines):
    """Sends the lines (bytes, text, or values to write as JSON) over one connection and closes it."""
    with connect(path) as producer:
        producer.sendall(b"".join(as_line(line) for line in lines))


def as_line(event):
    if isinstance(event, bytes):
        return event + b"\n"
    if isinstance(event, str):
        return event.encode() + b"\n"
    return json.dumps(event).encode() + b"\n"


def numbered(producer, first, count, padding=""):
    """`count` lines of one producer, numbered from `first` in data.n, each with a key of its own."""
    return b"".join(
        b'{"type":"load","source":"%s","dedupe_key":"%s-%d","data":{"n":%d,"padding":"%s"}}\n'
        % (producer.encode(), producer.encode(), n, n, padding.encode())
        for n in range(first, first + count))


class Load(threading.Thread):
    """Sends numbered events over one connection until it is told to finish, or all of `total`."""

    def __init__(self, path, name, total=None, padding="", rate=None, lines_per_write=100):
        """`rate`: events per second at most, none: as fast as the daemon reads."""
        super().__init__(daemon=True)
        self._path = path
        self._name = name
        self._total = total
        self._padding = padding
        self._pause = lines_per_write / rate if rate else 0
        self._lines_per_write = lines_per_write
        self._finish = threading.Event()
        self.sent = 0  # events handed to the kernel whole
        self.error = None

    def run(self):
        try:
            with connect(self._path) as producer:
                while not self._finish.wait(self._pause) and self.sent != self._total:
                    count = self._lines_per_write
                    if self._total is not None:
                        count = min(count, self._total - self.sent)
                    producer.sendall(numbered(self._name, self.sent, count, self._padding))
                    self.sent += count
        except OSError as error:
            self.error = error

    def finish(self):
        """Stops after the write under way and returns how many events were sent."""
        self._finish.set()
        self.join(120 * SLOWNESS)
        if self.is_alive():
            raise AssertionError(f"producer {self._name} is still blocked after {self.sent} events")
        if self.error:
            raise AssertionError(f"producer {self._name} failed: {self.error}")
        return self.sent
