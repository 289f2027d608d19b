"""Makes segment files by the book (docs/spool_format.md), independently of the daemon's own writer."""

import os
import struct
import uuid

HEADER_BYTES = 128
BLOCK_HEADER_BYTES = 64
EVENTS, IDLE, SEAL, HEAD = 1, 2, 3, 4
_TYPE_FIELD = 0
_STRING_KIND = 0
_NO_ROUTE = 0


def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC_TABLE = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283


def record(line, uid=1000, received_us=1_700_000_000_000_000, event_type=None, event_id=None):
    """One event; `event_type`: a text that stands in the line, in quotes."""
    fields = b""
    if event_type is not None:
        quoted = b'"%s"' % event_type
        begin = line.index(b'"type":' + quoted) + len(b'"type":')
        fields = struct.pack("<II", begin | _TYPE_FIELD << 24, len(quoted) | _STRING_KIND << 24)
    text_bytes = (72 + len(fields) + len(line) + 7) // 8 * 8
    header = struct.pack("<IIIIqq16sQQHHB3s", text_bytes, len(line), 0, uid, received_us, received_us,
                         (event_id or uuid.uuid4()).bytes, 0, 0, _NO_ROUTE, len(fields) // 8, 0,
                         b"\0\0\0")
    return (header + fields + line).ljust(text_bytes, b"\0")


class SegmentFile:
    """A segment that grows in memory until write()."""

    def __init__(self, ordinal, supersedes=None, version=1, refs=()):
        """`supersedes`: (segment, from index). `refs`: (segment, synced bytes, end index)."""
        self.id = uuid.uuid4()
        self.ordinal = ordinal
        self.name = f"seg-{ordinal:016x}-{self.id}.log"
        self.events = 0
        other, from_index = supersedes or (None, 0)
        head = struct.pack("<8sII16sQqQ16sQ", b"SLUICESG", version, HEADER_BYTES, self.id.bytes,
                           ordinal, 1_700_000_000_000_000, 7,
                           other.id.bytes if other else bytes(16), from_index).ljust(124, b"\0")
        self.bytes = bytearray(head + struct.pack("<I", crc32c(head)))
        self.synced = 0
        self.block(HEAD, payload=b"".join(
            struct.pack("<16sQQQQ", ref.id.bytes, ref.ordinal, synced, end, 0)
            for ref, synced, end in refs), refs=len(refs))

    def block(self, kind, payload=b"", count=0, refs=0, synced=True):
        """Appends a block; `synced`: whether everything before it is said to be durable."""
        if synced:
            self.synced = len(self.bytes)
        payload_crc = crc32c(self.id.bytes + struct.pack("<QIQ", self.events, count, self.synced)
                             + payload)
        head = struct.pack("<4sB3sIIQQqII8sI", b"SBLK", kind, b"\0\0\0", len(payload), count,
                           self.events, self.synced, 1_700_000_000_000_000, 0, refs, bytes(8),
                           payload_crc)
        begin = len(self.bytes)
        self.bytes += head + struct.pack("<I", crc32c(self.id.bytes + head)) + payload
        self.events += count
        return begin

    def append(self, *records, synced=True):
        """A block of events; returns where it begins."""
        return self.block(EVENTS, b"".join(records), len(records), synced=synced)

    def seal(self):
        self.block(SEAL)
        return self

    def write(self, directory):
        with open(os.path.join(directory, self.name), "wb") as file:
            file.write(self.bytes)
        return self
