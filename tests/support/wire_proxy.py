"""A proxy for Postgres' wire protocol on a Unix socket: it follows each connection's phase of the
delivery protocol and cuts, freezes, stalls or dices the conversation at a chosen message.

A fault is a callable `fault(connection, direction, kind, message)`, called for each message before it
goes on, that returns FORWARD, DROP (the message is swallowed), CUT (both sides are closed at once), or
other bytes, which go on in its place.
It may block: that holds this direction of this connection only. `direction` is "client" or "server",
`kind` the message's type as one byte, `message` all its bytes.
"""

import os
import random
import shutil
import socket
import struct
import tempfile
import threading

FORWARD, DROP, CUT = "forward", "drop", "cut"
PHASES = ("connect", "idle", "describe", "resolve", "copy", "finish", "commit")

_SSL_REQUEST = 80877103
_GSS_REQUEST = 80877104
_READ_BYTES = 256 * 1024


class Connection:
    """One proxied connection. `phase` is one of PHASES, `backend_pid` None until the server said it."""

    def __init__(self, proxy, client, number):
        self._proxy = proxy
        self._client = client
        self._server = None
        self.number = number
        self.phase = "connect"
        self.backend_pid = None
        self.copied_bytes = 0  # of CopyData in the COPY under way
        self.commits = 0       # answers "COMMIT" that ended a batch
        self._in_transaction = False
        self._closed = False
        self._lock = threading.Lock()

    def run(self):
        try:
            startup = self._read_startup()
            if startup is None:
                return
            self._server = socket.socket(socket.AF_UNIX)
            self._server.connect(self._proxy.upstream)
            self._server.sendall(startup)
            back = threading.Thread(target=self._pump, args=(self._server, self._client, "server"),
                                    daemon=True)
            back.start()
            self._pump(self._client, self._server, "client")
            back.join()
        except OSError:
            pass  # one side went away: so does the other
        finally:
            self.cut()
            self._proxy.forget(self)

    def _read_startup(self):
        """The startup message. Encryption is declined on the server's behalf."""
        while True:
            head = self._receive_exactly(8)
            if head is None:
                return None
            length, code = struct.unpack("!II", head)
            body = self._receive_exactly(length - 8)
            if code not in (_SSL_REQUEST, _GSS_REQUEST):
                return head + body
            self._client.sendall(b"N")

    def _receive_exactly(self, size):
        received = b""
        while len(received) < size:
            piece = self._client.recv(size - len(received))
            if not piece:
                return None
            received += piece
        return received

    def _pump(self, source, target, direction):
        try:
            buffer = b""
            while True:
                piece = source.recv(_READ_BYTES)
                if not piece:
                    break
                buffer = buffer + piece if buffer else piece
                buffer = self._pass_messages(buffer, target, direction)
        except OSError:
            pass
        finally:
            self.cut()

    def _pass_messages(self, buffer, target, direction):
        """Forwards the whole messages at the front of `buffer` and returns the rest."""
        at = 0
        run = 0  # buffer[run:at] is to be forwarded
        while len(buffer) - at >= 5:
            end = at + 1 + struct.unpack_from("!I", buffer, at + 1)[0]
            if end > len(buffer):
                break
            kind = buffer[at:at + 1]
            message = buffer[at:end]
            if direction == "client":
                self._follow_client(kind, message)
            verdict = self._proxy.judge(self, direction, kind, message)
            if verdict != FORWARD:
                self._send(target, buffer[run:at])
                run = end
            if isinstance(verdict, bytes):
                self._send(target, verdict)
            if verdict == CUT:
                self.cut()
                raise ConnectionAbortedError
            if direction == "server":
                self._follow_server(kind, message)
            at = end
        self._send(target, buffer[run:at])
        return buffer[at:]

    def _send(self, target, data):
        piece_bytes_max = self._proxy.piece_bytes_max
        if not piece_bytes_max:
            target.sendall(data)
            return
        at = 0
        while at < len(data):
            size = self._proxy.random.randint(1, piece_bytes_max)
            target.sendall(data[at:at + size])
            at += size

    # The phase, as the messages tell it.

    def _follow_client(self, kind, message):
        if kind == b"Q":
            sql = message[5:-1].upper()
            if self._in_transaction and b"COMMIT" in sql:
                self.enter("commit")
            elif b"COPY " in sql:
                self.copied_bytes = 0
                self.enter("copy")
            elif b"FOR UPDATE" in sql:
                self.enter("resolve")
            else:
                self.enter("describe")
        elif kind == b"d":
            self.copied_bytes += len(message) - 5
        elif kind == b"c":
            self.enter("finish")

    def _follow_server(self, kind, message):
        if kind == b"K":
            self.backend_pid = struct.unpack_from("!I", message, 5)[0]
            self.enter("connect")  # told once more: now the backend is known
        elif kind == b"C" and self.phase == "commit" and message[5:].startswith(b"COMMIT"):
            self.commits += 1
        elif kind == b"Z":
            self._in_transaction = message[5:6] != b"I"
            if not self._in_transaction:
                self.enter("idle")

    def enter(self, phase):
        self.phase = phase
        self._proxy.entered(self, phase)

    def cut(self):
        """Closes both sides at once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for side in (self._client, self._server):
            if side is not None:
                try:
                    side.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                side.close()


class WireProxy:
    """Listens as a Postgres server would in a directory of its own: connect with host=directory."""

    def __init__(self, cluster, seed=0):
        self.upstream = self._socket_of(cluster)
        self.directory = tempfile.mkdtemp(prefix="sluice-wp-", dir="/tmp")
        os.chmod(self.directory, 0o755)
        self.random = random.Random(seed)
        self.piece_bytes_max = 0  # above 0: what is sent is cut into pieces of at most so many bytes
        self.fault = None
        self.on_phase = None  # called as on_phase(connection, phase) whenever one is entered
        self._connections = set()
        self._opened = 0
        self._lock = threading.Lock()
        path = os.path.join(self.directory, ".s.PGSQL.5432")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        os.chmod(path, 0o777)
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._opened += 1
                connection = Connection(self, client, self._opened)
                self._connections.add(connection)
            threading.Thread(target=connection.run, daemon=True).start()

    @staticmethod
    def _socket_of(cluster):
        return os.path.join(cluster.socket_directory, f".s.PGSQL.{cluster.port}")

    def switch_to(self, cluster):
        """From now on connections lead to another cluster; those that are open are cut."""
        self.upstream = self._socket_of(cluster)
        self.cut_all()

    def dsn(self, dbname="postgres", user="postgres"):
        return f"host={self.directory} port=5432 dbname={dbname} user={user}"

    @property
    def opened(self):
        """How many connections were ever accepted."""
        return self._opened

    def connections(self):
        with self._lock:
            return list(self._connections)

    def cut_all(self):
        for connection in self.connections():
            connection.cut()

    # Called by connections.

    def judge(self, connection, direction, kind, message):
        fault = self.fault
        return fault(connection, direction, kind, message) if fault else FORWARD

    def entered(self, connection, phase):
        on_phase = self.on_phase
        if on_phase:
            on_phase(connection, phase)

    def forget(self, connection):
        with self._lock:
            self._connections.discard(connection)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()
        self._thread.join()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _CountedFault:
    """Strikes at the n-th (from 1) message that fits, `times` times in a row; thread-safe."""

    def __init__(self, nth=1, times=1):
        self._skip = nth - 1
        self._left = times
        self._lock = threading.Lock()
        self.struck = 0

    def _strikes(self):
        with self._lock:
            if self._skip > 0:
                self._skip -= 1
                return False
            if self._left == 0:
                return False
            self._left -= 1
            self.struck += 1
            return True


class CutBeforeCommit(_CountedFault):
    """The message that holds COMMIT never reaches the server."""

    def __call__(self, connection, direction, kind, message):
        hit = direction == "client" and kind == b"Q" and connection.phase == "commit"
        return CUT if hit and self._strikes() else FORWARD


def _is_commit_answer(connection, direction, kind, message):
    return (direction == "server" and kind == b"C" and connection.phase == "commit"
            and message[5:].startswith(b"COMMIT"))


class CutAfterCommit(_CountedFault):
    """The server has committed and said so, but its answer never reaches the client."""

    def __call__(self, connection, direction, kind, message):
        hit = _is_commit_answer(connection, direction, kind, message)
        return CUT if hit and self._strikes() else FORWARD


class FreezeCommitAnswer(_CountedFault):
    """The answer to COMMIT stays in the proxy until thaw(), and with it the rest of the conversation;
    then the connection is cut."""

    def __init__(self, nth=1, times=1):
        super().__init__(nth, times)
        self.frozen = threading.Event()
        self._thawed = threading.Event()

    def thaw(self):
        self._thawed.set()

    def __call__(self, connection, direction, kind, message):
        if _is_commit_answer(connection, direction, kind, message) and self._strikes():
            self.frozen.set()
            self._thawed.wait()
            return CUT
        return FORWARD


class RollbackForCommit(_CountedFault):
    """The message that ends a batch says ROLLBACK where it said COMMIT: the server's answer is a
    success, and its tag is the truth."""

    def __call__(self, connection, direction, kind, message):
        hit = direction == "client" and kind == b"Q" and connection.phase == "commit"
        if not hit or not self._strikes():
            return FORWARD
        sql = message[5:].replace(b"COMMIT", b"ROLLBACK")
        return b"Q" + struct.pack("!I", 4 + len(sql)) + sql


class CutInCopy(_CountedFault):
    """The connection ends when `after_bytes` of a COPY's data have passed."""

    def __init__(self, after_bytes, nth=1, times=1):
        super().__init__(nth, times)
        self._after_bytes = after_bytes

    def __call__(self, connection, direction, kind, message):
        hit = direction == "client" and kind == b"d" and connection.copied_bytes > self._after_bytes
        return CUT if hit and self._strikes() else FORWARD


class Stall:
    """While it is on, nothing passes in either direction."""

    def __init__(self):
        self._open = threading.Event()

    def end(self):
        self._open.set()

    def __call__(self, connection, direction, kind, message):
        self._open.wait()
        return FORWARD
