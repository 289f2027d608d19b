"""A producer that asks for acks, driven line by line by a test."""

import json
import socket

from support.producer import as_line, connect
from support.waiting import SLOWNESS

HELLO = {"sluice": 1, "ack": "durable"}


class Asking:
    """A connection whose first line asked for acks."""

    def __init__(self, path, hello=None):
        self.socket = connect(path)
        self.socket.settimeout(30 * SLOWNESS)
        self._answers = self.socket.makefile("rb")
        self.write(hello or HELLO)
        self.hello = self.answer()

    def write(self, *lines):
        self.socket.sendall(b"".join(as_line(line) for line in lines))

    def answer(self):
        """The daemon's next line; none at its end."""
        line = self._answers.readline()
        return json.loads(line) if line else None

    def until_ack(self, lines):
        """All answers up to the ack of so many lines."""
        answers = [self.answer()]
        while answers[-1].get("ack") != lines:
            answers.append(self.answer())
        return answers

    def finish(self):
        """The answers from the half-close to the end."""
        self.socket.shutdown(socket.SHUT_WR)
        return list(iter(self.answer, None))

    def close(self):
        self._answers.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
