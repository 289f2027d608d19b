"""A producer for sluice in one file, with Python's standard library alone: copy it beside your program.

    from sluice_producer import SluiceProducer

    with SluiceProducer("/run/sluice/events.sock", "planner") as producer:
        producer.emit({"type": "tool.call", "data": {"tool": "grep", "ms": 12}})

    import logging
    from sluice_producer import SluiceHandler
    logging.getLogger().addHandler(SluiceHandler("/run/sluice/events.sock", "planner"))

An event that was emitted is sent until the daemon says that it is stored: a daemon that restarts, crashes or
is killed loses none of them and stores none twice. What is not stored yet is kept in memory, up to
`buffer_bytes`, and ends with this process.
"""

import collections
import datetime
import json
import logging
import os
import select
import socket
import threading

_PAUSE_MIN, _PAUSE_MAX = 0.05, 1.0  # seconds between tries to connect
_WRITE_BYTES = 256 * 1024
_NO_EVENT = b"\n"                   # an empty line has a number and is nothing else


def _cut(name, size):
    """As much of the name as fits into so many bytes, which is what the daemon counts."""
    return name.encode(errors="replace")[:size].decode(errors="ignore")


class SluiceProducer:
    """Sends events from a thread of its own. All methods may be called from any thread.

    Make it after a fork, not before: threads do not follow into the child.
    """

    def __init__(self, path, name, *, timeout=1.0, buffer_bytes=8 << 20, on_refused=None):
        """`timeout`: the seconds that emit() waits at most when the buffer is full; 0: not at all.

        `on_refused(line, code)` is called on the sending thread for each event that the daemon refused for
        good, with its JSON as bytes. What it raises goes to threading.excepthook, and the sending goes on.
        """
        self.acked = 0       # events that are stored
        self.refused = 0     # events that the daemon refused for good
        self.dropped = 0     # events that emit() did not take, or that close() gave up
        self.error = None    # why the daemon cannot be talked to just now
        self._path = path
        self._timeout = timeout
        self._buffer_bytes = buffer_bytes
        self._on_refused = on_refused
        # The numbers of this name begin at 1, so it must be no other run's.
        self._name = f"{_cut(name, 150)}:{os.getpid()}:{os.urandom(6).hex()}"
        self._changed = threading.Condition()
        self._unsent = collections.deque()   # lines that were not written to this connection
        self._unacked = collections.deque()  # lines that were, numbered from _acked_line + 1
        self._acked_line = 0
        self._bytes = 0                      # of all lines kept
        self._closing = False
        self._abandoned = False
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="sluice", daemon=True)
        self._thread.start()

    def emit(self, event, timeout=None):
        """Takes the event (a dict) to be sent. False if there was no room for it in time: it is dropped."""
        line = json.dumps(event, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        patience = self._timeout if timeout is None else timeout
        with self._changed:
            if not self._changed.wait_for(lambda: self._closing or self._has_room(line), patience) \
                    or self._closing:
                self.dropped += 1
                return False
            self._bytes += len(line)
            self._unsent.append(line)
            if len(self._unsent) > 1:  # the thread is not waiting
                return True
            self._changed.notify_all()
        self._wake()
        return True

    def flush(self, timeout=10.0):
        """Waits until the daemon is done with every event. False if that took longer."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes == 0 or self._abandoned, timeout)
            return self._bytes == 0

    def close(self, timeout=10.0):
        """As flush(), then ends. False: so many seconds were not enough; what is left is given up, though
        the daemon may have it already."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._wake()
        done = self.flush(timeout)
        with self._changed:
            if not self._abandoned:
                self.dropped += sum(line != _NO_EVENT for line in (*self._unsent, *self._unacked))
            self._abandoned = True
            self._changed.notify_all()
        self._wake()
        if done:
            self._thread.join(_PAUSE_MAX)
        return done

    @property
    def pending(self):
        """Events that were taken and are not stored yet."""
        with self._changed:
            return len(self._unsent) + len(self._unacked)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # The sending thread.

    def _has_room(self, line):
        return self._bytes == 0 or self._bytes + len(line) <= self._buffer_bytes

    def _wake(self):
        try:
            self._wake_write.send(b"x")
        except OSError:
            pass  # it has not looked at the last ones yet, or has ended

    def _run(self):
        with self._wake_read, self._wake_write:
            self._send_all()

    def _send_all(self):
        pause = _PAUSE_MIN
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._bytes > 0 or self._closing)
                if self._abandoned or (self._closing and self._bytes == 0):
                    return
                acked_before = self._acked_line
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(5)
                    connection.connect(self._path)
                    self._converse(connection)
            except (OSError, ValueError) as error:
                self.error = str(error)
            with self._changed:
                pause = _PAUSE_MIN if self._acked_line > acked_before else min(pause * 2, _PAUSE_MAX)
                self._changed.wait_for(lambda: self._abandoned, pause)

    def _converse(self, connection):
        """Until all is done or the connection is lost. Nothing that is not acked is forgotten."""
        with self._changed:
            # The daemon knows the numbers that it has: sending them again stores nothing twice.
            self._unsent.extendleft(reversed(self._unacked))
            self._unacked.clear()
            offset = self._acked_line
        hello = {"sluice": 1, "ack": "durable", "producer": self._name, "first": offset + 1}
        connection.sendall(json.dumps(hello).encode() + b"\n")
        received = b""
        while b"\n" not in received:
            received += self._receive(connection)
        answer, received = received.split(b"\n", 1)
        answer = json.loads(answer)
        if "error" in answer:
            raise ValueError(answer["error"])
        self.error = None
        connection.setblocking(False)
        unwritten = b""
        while not self._is_over():
            unwritten = unwritten or self._next_lines()
            ready = self._wait(connection, unwritten)
            if ready & select.POLLOUT:
                unwritten = unwritten[connection.send(unwritten):]
            if ready & ~select.POLLOUT:
                received = self._handle(received + self._receive(connection), offset)

    def _wait(self, connection, unwritten):
        """What the connection is ready for, when it is or when there is something new to send."""
        poll = select.poll()
        poll.register(connection, select.POLLIN | (select.POLLOUT if unwritten else 0))
        poll.register(self._wake_read, select.POLLIN)
        ready = dict(poll.poll())
        if self._wake_read.fileno() in ready:
            self._wake_read.recv(4096)
        return ready.get(connection.fileno(), 0)

    @staticmethod
    def _receive(connection):
        received = connection.recv(65536)
        if not received:
            raise ConnectionResetError("the daemon closed the connection")
        return received

    def _is_over(self):
        with self._changed:
            return self._abandoned or (self._closing and self._bytes == 0)

    def _next_lines(self):
        with self._changed:
            lines, size = [], 0
            while self._unsent and size < _WRITE_BYTES:
                line = self._unsent.popleft()
                lines.append(line)
                size += len(line)
            self._unacked.extend(lines)
            return b"".join(lines)

    def _handle(self, received, offset):
        """Handles the whole answers and returns what is left."""
        *answers, rest = received.split(b"\n")
        for answer in map(json.loads, answers):
            if "nack" in answer:
                if answer.get("retry"):  # no room: nothing behind that line is taken on this connection
                    raise ConnectionAbortedError(f"the daemon gave up a line: {answer.get('code')}")
                self._handle_nack(offset + answer["nack"], answer.get("code", ""))
            if "nacks_unsent" in answer:  # it does not know any more which
                with self._changed:
                    self.refused += answer["nacks_unsent"]
                    self.acked -= answer["nacks_unsent"]
            for key in ("ack", "done"):
                if key in answer:
                    self._handle_ack(offset + answer[key])
        return rest

    def _handle_ack(self, line):
        with self._changed:
            if self._abandoned:
                return  # close() has counted what is left
            while self._acked_line < line and self._unacked:
                text = self._unacked.popleft()
                self._bytes -= len(text)
                self._acked_line += 1
                self.acked += text != _NO_EVENT
            self._changed.notify_all()

    def _handle_nack(self, line, code):
        with self._changed:
            at = line - self._acked_line - 1
            if self._abandoned or not 0 <= at < len(self._unacked) or self._unacked[at] == _NO_EVENT:
                return
            text = self._unacked[at]
            self._unacked[at] = _NO_EVENT  # if it is sent again, it only keeps its number
            self._bytes += len(_NO_EVENT) - len(text)
            self.refused += 1
        if self._on_refused:
            try:
                self._on_refused(text.rstrip(b"\n"), code)
            except (Exception, SystemExit) as error:
                # Not to logging: its handler may be this producer's, and would wait for this thread.
                threading.excepthook(threading.ExceptHookArgs(
                    (type(error), error, error.__traceback__, threading.current_thread())))


class SluiceHandler(logging.Handler):
    """Sends log records as events; what was given as `extra` becomes their data.

    A record for which there is no room within `timeout` seconds is dropped and counted in `dropped`. At the
    end of the program, what is not stored yet has `close_timeout` seconds.
    """

    _OF_EVERY_RECORD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def __init__(self, path, name, level=logging.NOTSET, *, close_timeout=5.0, **options):
        super().__init__(level)
        self._source = name
        self._close_timeout = close_timeout
        self.producer = SluiceProducer(path, name, **options)

    @property
    def dropped(self):
        return self.producer.dropped

    def emit(self, record):
        try:
            self.producer.emit(self.event_of(record))
        except Exception:  # a record must not stop the program that logs it
            self.handleError(record)

    def event_of(self, record):
        when = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        event = {"type": "log", "time": when.isoformat(), "source": self._source,
                 "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            event["exception"] = logging.Formatter().formatException(record.exc_info)
        extra = {key: value for key, value in vars(record).items()
                 if key not in self._OF_EVERY_RECORD}
        if extra:
            event["data"] = {key: self._as_json(value) for key, value in extra.items()}
        return event

    @staticmethod
    def _as_json(value):
        try:
            return json.loads(json.dumps(value, default=str, allow_nan=False))
        except (TypeError, ValueError, RecursionError):  # NaN, a key that is no text, a circle
            return repr(value)

    def close(self):
        self.producer.close(self._close_timeout)
        super().close()


if __name__ == "__main__":
    import sys
    with SluiceProducer(sys.argv[1] if len(sys.argv) > 1 else "/run/sluice/events.sock",
                        "sluice_producer.py") as example:
        for number in range(3):
            example.emit({"type": "example", "data": {"n": number}})
    print(f"{example.acked} events stored, {example.pending} not")
