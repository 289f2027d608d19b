"""The daemon's side of the socket protocol, without what lies behind it: producers are tested against its
refusals, its losses and its silence."""

import contextlib
import json
import os
import re
import select
import socket
import threading

from support.waiting import wait_until


class FakeAckServer:
    """Keeps every line that it takes, each number of a name once, as the daemon does.

    Threads: one for each connection; the lists may be looked at at any time.
    """

    def __init__(self, path, durability="power", line_bytes_max=1 << 20):
        self.path = path
        self.stored = []       # lines that became events, in order, as bytes
        self.hellos = []       # as they came, parsed
        self.duplicates = 0
        self.have = {}         # name -> the last of its lines that is stored
        self.refuse = {}       # pattern (bytes) -> code of the lines that contain it
        self.full = False      # every line is refused for want of room
        self.full_at = []      # [n, ...]: the first connection has no room for its n-th line, the next ...
        self.acks = True       # otherwise nothing is ever acked
        self.hangs_at = None   # "hello", "lines": from there on nothing is read or said until stop()
        self.hello_error = None
        self.lose_after = []   # [n, ...]: the first connection ends when it has stored n lines, the next ...
        self.acked_late = 0    # a connection that is lost has not acked so many of its last lines
        self._durability = durability
        self._line_bytes_max = line_bytes_max
        self._lock = threading.Lock()
        self._connections = set()
        self._listening = None
        self._stopped = threading.Event()

    # Life.

    def start(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._stopped.clear()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen(64)
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()
        return self

    def stop(self):
        """As a daemon that is killed: connections end, the path stays and refuses."""
        self._stopped.set()
        listening, self._listening = self._listening, None
        if listening:
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    __enter__ = start

    def __exit__(self, *_):
        self.stop()

    def wait_stored(self, count):
        wait_until(lambda: len(self.stored) >= count, 30, f"{count} lines to be stored")

    # One connection.

    def _accept(self, listening):
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            with connection, connection.makefile("rb") as lines:
                self._converse(connection, lines)
        except OSError:
            pass
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _converse(self, connection, lines):
        hello = json.loads(lines.readline() or b"{}")
        if hello.get("sluice") != 1:
            return
        self.hellos.append(hello)
        if self.hangs_at == "hello":
            self._stopped.wait()
            return
        if self.hello_error:
            self._tell(connection, {"sluice": 1, "error": self.hello_error})
            return
        name = hello.get("producer")
        with self._lock:
            have = self.have.get(name, 0)
            lose_after = self.lose_after.pop(0) if self.lose_after else None
            full_at = self.full_at.pop(0) if self.full_at else None
        self._tell(connection, {
            "sluice": 1, "durability": self._durability, "line_bytes_max": self._line_bytes_max,
            "dedupe_window_s": 600, "instance": "fake", "have": have,
            "ack": "committed" if self._durability == "memory" else hello["ack"]})
        if self.hangs_at == "lines":
            self._stopped.wait()
            return
        self._take(connection, lines, name, hello.get("first", 1), lose_after, full_at)

    def _take(self, connection, lines, name, first, lose_after, full_at):
        no_room = False
        counts = {"stored": 0, "duplicate": 0, "rejected": 0}
        taken = 0
        for taken, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                taken -= 1
                break
            fate, code = self._fate(line[:-1], name, first + taken - 1,
                                    no_room or taken == full_at)
            if code == "full" and name is not None:
                no_room = True  # behind that line nothing of this connection is taken
            if fate in counts:
                counts[fate] += 1
            if code:
                self._tell(connection, {"nack": taken, "code": code, "retry": code == "full"})
            if lose_after is not None and counts["stored"] >= lose_after:
                if taken > self.acked_late:
                    self._tell(connection, {"ack": taken - self.acked_late})
                return
            if self.acks and (taken % 100 == 0 or not _readable(connection)):
                self._tell(connection, {"ack": taken})
        if self.acks:
            self._tell(connection, {"ack": taken})
            self._tell(connection, {"done": taken, **counts})
        else:
            while connection.recv(1):
                pass

    def _fate(self, line, name, number, no_room):
        with self._lock:
            if not line.strip():
                return "blank", None
            if self.full or no_room:
                return "rejected", "full"
            if len(line) > self._line_bytes_max:
                return "rejected", "too_long"
            for pattern, code in self.refuse.items():
                if re.search(pattern, line):
                    return "rejected", code
            if name is not None and number <= self.have.get(name, 0):
                self.duplicates += 1
                return "duplicate", None
            self.stored.append(line)
            if name is not None:
                self.have[name] = number
            return "stored", None

    @staticmethod
    def _tell(connection, answer):
        connection.sendall(json.dumps(answer, separators=(",", ":")).encode() + b"\n")


def _readable(connection):
    return bool(select.select([connection], [], [], 0)[0])
