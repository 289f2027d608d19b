"""A producer that asks for acks and believes them: it knows of each of its events whether the daemon
promised to keep it, connects again whenever it must, and goes on where the promises end."""

import collections
import json
import random
import select
import socket
import threading
import time

from support.waiting import SLOWNESS

# What the producer knows of an event. OFFERED: it may or may not have arrived.
OFFERED, ACKED, REFUSED = 1, 2, 3
KEYED, NAMED, PLAIN = "keyed", "named", "plain"
_RECONNECT_S = 0.005
_HELLO_S = 10


class ProtocolBroken(AssertionError):
    """The daemon answered what the protocol does not allow."""


class AckingProducer(threading.Thread):
    """Sends numbered events (data.n counts from 0) until finish(), at most `total`.

    kind: `keyed` gives each event a dedupe key and offers it again until it is acked; `named` gives
    none, but its name, and numbers its lines; `plain` offers each event once and never again.

    Threads: its own; `states`, `acked` and the counters may be read by others at any time.
    """

    def __init__(self, path, name, kind=KEYED, total=None, rate=None, padding="", window=2000,
                 lines_per_write=50, stage="durable", hang_up_every=0, poison_every=0, seed=0):
        """`rate`: events per second at most. `window`: lines that may wait for their ack.
        `hang_up_every`: about once in so many writes the connection is reset by this side.
        `poison_every`: each so many-th event has data.poison, for tables that refuse it."""
        super().__init__(daemon=True)
        self.path = path
        self.name = name
        self.kind = kind
        self.states = bytearray()  # by event number
        self.acked = 0             # events that are ACKED
        self.connections = 0       # on which the hello was answered
        self.resent = 0            # events offered once more
        self.nacks = collections.Counter()  # by code
        self.hello = None          # the daemon's last
        self.summary = None        # of the last connection that was ended in order
        self.error = None
        self.ack_times = None      # set it to a list: monotonic time of each ack line
        self._total = total
        self._rate = rate
        self._padding = padding.encode()
        self._window = window
        self._lines_per_write = lines_per_write
        self._stage = stage
        self._hang_up_every = hang_up_every
        self._poison_every = poison_every
        self._random = random.Random(seed)
        self._finish = threading.Event()
        self._abandon = threading.Event()
        self._paused = threading.Event()
        # Lines of the connection that wait for their ack, oldest first: event numbers, None for a
        # line whose event was nacked.
        self._in_flight = collections.deque()
        self._again = collections.deque()  # events to offer in a line of their own
        self._next_line = 1                # named: the number of the next new line
        self._lines_done = 0               # of this connection, by the last ack
        self._lines_sent = 0
        self._unread = b""

    # Control, by other threads.

    def finish(self, timeout=60):
        """Makes no new events, waits until all are acked (plain: until its connection has gone), and
        closes in order. Returns how many events there were."""
        self._finish.set()
        self.join(timeout * SLOWNESS)
        if self.is_alive():
            self._abandon.set()
            self.join(10)
            raise AssertionError(f"producer {self.name}: {self.acked} of {len(self.states)} events"
                                 f" acked after {timeout} s, {len(self._in_flight)} wait")
        if self.error:
            raise AssertionError(f"producer {self.name}: {self.error!r}") from self.error
        return len(self.states)

    def abandon(self):
        """Ends at once, whatever is acked."""
        self._abandon.set()
        self.join(10 * SLOWNESS)

    def pause(self):
        """Makes no new events until resume()."""
        self._paused.set()

    def resume(self):
        self._paused.clear()

    @property
    def made(self):
        return len(self.states)

    # The thread.

    def run(self):
        try:
            while not self._abandon.is_set():
                try:
                    if self._one_connection():
                        return
                except OSError:
                    self._lost_connection()
                if self._finish.is_set() and not self._has_work():
                    return
                time.sleep(_RECONNECT_S)
        except BaseException as error:  # whatever it is, finish() tells it
            self.error = error

    def _has_work(self):
        return bool(self._in_flight or self._again)

    def _lost_connection(self):
        if self.kind == PLAIN:
            self._in_flight.clear()
        elif self.kind == KEYED:
            self._again.extendleft(reversed([n for n in self._in_flight if n is not None]))
            self._in_flight.clear()
        # Named: the lines keep their numbers, and so their places.

    def _one_connection(self):
        """True when everything is done and the connection was ended in order."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_HELLO_S * SLOWNESS)
            connection.connect(self.path() if callable(self.path) else self.path)
            self._unread = b""
            self._lines_done = self._lines_sent = 0
            self._greet(connection)
            connection.setblocking(False)
            return self._converse(connection)

    def _greet(self, connection):
        hello = {"sluice": 1, "ack": self._stage}
        if self.kind == NAMED:
            hello.update(producer=self.name, first=self._next_line - len(self._in_flight))
        connection.sendall(json.dumps(hello).encode() + b"\n")
        while b"\n" not in self._unread:
            piece = connection.recv(65536)
            if not piece:
                raise ConnectionResetError("no answer to the hello")
            self._unread += piece
        line, self._unread = self._unread.split(b"\n", 1)
        self.hello = json.loads(line)
        if self.hello.get("sluice") != 1 or "error" in self.hello:
            raise ProtocolBroken(f"the hello was answered by {line!r}")
        self.connections += 1
        if self.kind == NAMED:
            self._believe_have(self.hello["have"], hello["first"])

    def _believe_have(self, have, first):
        """The daemon keeps the lines up to `have`. They are forgotten here only when it says so of
        all that we ask about: the next line of this connection has the number `first` whatever the
        daemon has, so that those it has are offered again and recognised as duplicates."""
        if have >= self._next_line:
            raise ProtocolBroken(f"have {have}, but the last line was {self._next_line - 1}")
        for line in range(first, have + 1):
            self._settle(self._in_flight[line - first])

    def _converse(self, connection):
        outgoing = self._resend()
        deadline = time.monotonic()
        poll = select.poll()
        shut = False
        while not self._abandon.is_set():
            now = time.monotonic()
            if not outgoing and not shut:
                outgoing = self._next_lines(now >= deadline)
                if outgoing and self._rate:
                    deadline = max(deadline, now - 0.1) + self._lines_per_write / self._rate
                if not outgoing and self._finish.is_set() and not self._has_work():
                    connection.shutdown(socket.SHUT_WR)
                    shut = True
            poll.register(connection, select.POLLIN | (select.POLLOUT if outgoing else 0))
            wait = max(0, deadline - now) if self._rate and not outgoing else 0.02
            events = poll.poll(min(wait, 0.02) * 1000 + 1)
            for _, event in events:
                if event & select.POLLOUT and outgoing:
                    outgoing = outgoing[connection.send(outgoing):]
                    self._maybe_hang_up(connection)
                if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
                    if not self._read(connection):
                        if shut and self.summary:
                            return True
                        raise ConnectionResetError("closed by the daemon")
        return True

    def _maybe_hang_up(self, connection):
        if self._hang_up_every and self._random.randrange(self._hang_up_every) == 0:
            # With SO_LINGER 0 closing is a reset; a line may be cut in its middle.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            raise ConnectionResetError("hung up")

    # What goes out.

    def _resend(self):
        """What still waits from the connection before, under its old line numbers."""
        again = b"".join(b"\n" if n is None else self._line(n) for n in self._in_flight)
        self.resent += len(self._in_flight)
        self._lines_sent = len(self._in_flight)
        return again

    def _next_lines(self, may_make_new):
        numbers = []
        while (self._again and len(numbers) < self._lines_per_write
               and len(self._in_flight) + len(numbers) < self._window):
            numbers.append(self._again.popleft())
        self.resent += len(numbers)
        if may_make_new and not self._finish.is_set() and not self._paused.is_set():
            room = min(self._lines_per_write, self._window - len(self._in_flight)) - len(numbers)
            if self._total is not None:
                room = min(room, self._total - len(self.states))
            if room > 0:
                first = len(self.states)
                self.states.extend(bytes([OFFERED]) * room)
                numbers.extend(range(first, first + room))
        if not numbers:
            return b""
        self._in_flight.extend(numbers)
        self._lines_sent += len(numbers)
        self._next_line += len(numbers)
        return b"".join(map(self._line, numbers))

    def _line(self, n):
        name = self.name.encode()
        poison = b',"poison":1' if self._poison_every and n % self._poison_every == 0 else b""
        if self.kind == KEYED:
            return (b'{"type":"load","source":"%s","dedupe_key":"%s-%d","data":{"n":%d,"p":"%s"%s}}\n'
                    % (name, name, n, n, self._padding, poison))
        return (b'{"type":"load","source":"%s","data":{"n":%d,"p":"%s"%s}}\n'
                % (name, n, self._padding, poison))

    # What comes back.

    def _read(self, connection):
        """False at the end of what the daemon says."""
        piece = connection.recv(65536)
        if not piece:
            return False
        *lines, self._unread = (self._unread + piece).split(b"\n")
        for line in lines:
            self._understand(line)
        return True

    def _understand(self, line):
        try:
            said = json.loads(line)
        except ValueError:
            raise ProtocolBroken(f"no JSON: {line!r}") from None
        if "ack" in said:
            self._take_ack(said["ack"])
        elif "nack" in said:
            self._take_nack(said)
        elif "done" in said:
            if said["done"] != self._lines_sent:
                raise ProtocolBroken(f"{said} after {self._lines_sent} lines")
            self.summary = said
        else:  # "nacks_unsent" too: this producer reads
            raise ProtocolBroken(f"unknown: {line!r}")

    def _take_ack(self, upto):
        if not self._lines_done < upto <= self._lines_sent:
            raise ProtocolBroken(f"ack {upto} after {self._lines_done}, of {self._lines_sent} lines")
        if self.ack_times is not None:
            self.ack_times.append(time.monotonic())
        for _ in range(upto - self._lines_done):
            self._settle(self._in_flight.popleft())
        self._lines_done = upto

    def _take_nack(self, said):
        self.nacks[said["code"]] += 1
        at = said["nack"] - self._lines_done - 1
        if not 0 <= at < len(self._in_flight):
            raise ProtocolBroken(f"{said} after ack {self._lines_done}")
        n = self._in_flight[at]
        if said["retry"] and self.kind == NAMED:
            # Behind that line the daemon takes nothing more on this connection.
            raise ConnectionResetError("no room")
        self._in_flight[at] = None
        if n is None:
            raise ProtocolBroken(f"{said} twice")
        if said["retry"]:
            self._again.append(n)
        else:
            self.states[n] = REFUSED

    def _settle(self, n):
        if n is not None and self.states[n] == OFFERED:
            self.states[n] = ACKED
            self.acked += 1
