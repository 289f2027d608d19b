"""The daemon under the fault shim (fault_shim.c): its environment, its counts, and from its log the
directory as a power cut at any moment could have left it."""

import os
import struct

from support.sluice_daemon import build_directory

SECTOR_BYTES = 512


def shim_path():
    return os.path.join(build_directory(), "libsluice_fault.so")


def shim_environment(directory, **faults):
    """Variables that preload the shim. `faults`: kill_at=3 is PF_KILL_AT=3, and so on."""
    variables = {"LD_PRELOAD": shim_path(), "PF_DIR": os.path.realpath(directory)}
    # A sanitizer's runtime wants to be the first library; it works as the second one too.
    variables["ASAN_OPTIONS"] = ":".join(
        filter(None, (os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0")))
    for name, value in faults.items():
        variables[f"PF_{name.upper()}"] = str(value)
    return variables


def counts(path):
    """(calls, syncs) so far of a process with PF_COUNT_FILE=path."""
    if not os.path.exists(path):
        return 0, 0
    with open(path, "rb") as file:
        content = file.read(16)
    return struct.unpack("<QQ", content) if len(content) == 16 else (0, 0)


class _File:
    """What the page cache has, what the medium has, and where they may differ."""

    def __init__(self):
        self.cache = bytearray()
        self.medium = bytearray()
        self.dirty = []  # (begin, end)

    def resize(self, size):
        if size < len(self.cache):
            self.dirty.append((size, len(self.cache)))
            del self.cache[size:]
        else:
            self.cache.extend(bytes(size - len(self.cache)))

    def write(self, offset, content):
        if offset > len(self.cache):
            self.resize(offset)
        self.cache[offset:offset + len(content)] = content
        self.dirty.append((offset, offset + len(content)))

    def sync(self):
        self.medium[:] = self.cache
        self.dirty.clear()

    def after_power_cut(self, source):
        """`source`: a random.Random. What was not synced is there, or not, or is something else."""
        fate = source.choice(("nothing", "all", "prefix", "sectors", "damaged"))
        if fate == "nothing":
            return bytes(self.medium)
        if fate == "all":
            return bytes(self.cache)
        if fate == "prefix":
            shortest = min(len(self.medium), len(self.cache))
            keep = source.randint(shortest, len(self.cache))
            first = bytearray(self.medium[:keep].ljust(keep, b"\0"))
            for begin, end in self.dirty:
                end = min(end, keep)
                if begin < end:
                    first[begin:end] = self.cache[begin:end]
            return bytes(first)
        return self._some_sectors(source, damaged=fate == "damaged")

    def _some_sectors(self, source, damaged):
        size = source.choice((len(self.medium), len(self.cache)))
        content = bytearray(self.medium[:size].ljust(size, b"\0"))
        for begin, end in self.dirty:
            while begin < min(end, size):
                cut = min(end, size, (begin // SECTOR_BYTES + 1) * SECTOR_BYTES)
                fate = source.randrange(4 if damaged else 2)
                if fate == 0:
                    content[begin:cut] = self.cache[begin:cut].ljust(cut - begin, b"\0")
                elif fate == 2:
                    content[begin:cut] = bytes(cut - begin)
                elif fate == 3:
                    content[begin:cut] = source.randbytes(cut - begin)
                begin = cut
        return bytes(content)


class _NameChange:
    """Not on the medium before each directory that it concerns was synced."""

    def __init__(self, old, new, file):
        self.old, self.new, self.file = old, new, file
        self.unsynced = {os.path.dirname(name) for name in (old, new) if name is not None}

    def apply(self, names):
        if self.old is not None:
            if names.get(self.old) is not self.file:
                return  # the change that made the name did not survive
            del names[self.old]
        if self.new is not None:
            names[self.new] = self.file


class PowerCutReplay:
    """Follows a log of the shim (PF_LOG), call by call, and tells what a power cut would leave.

    Lines: `create INODE NAME`, `write INODE OFFSET LENGTH` + bytes, `truncate INODE SIZE`,
    `extend INODE SIZE`, `sync INODE`, `sync_directory NAME`, `rename FROM TO`, `remove NAME`, `mkdir NAME`.
    Directories are taken as there from the start."""

    def __init__(self, log):
        self._log = log  # bytes
        self.position = 0  # in the log
        self._inodes = {}
        self._live = {}
        self._durable = {}
        self._unsynced_names = []
        self.directories = {""}

    def at_end(self):
        """Also before a call whose entry was cut short when the process was killed."""
        end = self._log.find(b"\n", self.position)
        if end < 0:
            return True
        call, *arguments = self._log[self.position:end].split(b" ")
        return call == b"write" and end + 1 + int(arguments[2]) >= len(self._log)

    def step(self):
        """One call; returns the words of its line."""
        end = self._log.index(b"\n", self.position)
        call, *arguments = self._log[self.position:end].decode().split(" ")
        self.position = end + 1
        getattr(self, "_" + call)(*arguments)
        return call, *arguments

    def steps(self):
        while not self.at_end():
            yield self.step()

    def _create(self, inode, name):
        if name in self._live:  # it was there and was opened again
            self._inodes[inode] = self._live[name]
            return
        self._inodes[inode] = _File()
        self._change(_NameChange(None, name, self._inodes[inode]))

    def _write(self, inode, offset, length):
        content = self._log[self.position:self.position + int(length)]
        self.position += int(length) + 1
        self._inodes[inode].write(int(offset), content)

    def _truncate(self, inode, size):
        self._inodes[inode].resize(int(size))

    def _extend(self, inode, size):
        file = self._inodes[inode]
        file.resize(max(len(file.cache), int(size)))

    def _sync(self, inode):
        self._inodes[inode].sync()

    def _sync_directory(self, name):
        left = []
        for change in self._unsynced_names:
            change.unsynced.discard(name)
            if change.unsynced:
                left.append(change)
            else:
                change.apply(self._durable)
        self._unsynced_names = left

    def _rename(self, old, new):
        self._change(_NameChange(old, new, self._live[old]))

    def _remove(self, name):
        self._change(_NameChange(name, None, self._live[name]))

    def _mkdir(self, name):
        self.directories.add(name)

    def _change(self, change):
        change.apply(self._live)
        self._unsynced_names.append(change)

    def leave(self, directory, source):
        """Makes `directory` what a power cut at this moment leaves; `source`: a random.Random."""
        names = dict(self._durable)
        in_order = source.random() < 0.5
        kept_first = source.randint(0, len(self._unsynced_names))
        for index, change in enumerate(self._unsynced_names):
            if index < kept_first if in_order else source.random() < 0.5:
                change.apply(names)
        for name in self.directories:
            os.makedirs(os.path.join(directory, name), mode=0o700, exist_ok=True)
        for name, file in names.items():
            with open(os.path.join(directory, name), "wb") as copy:
                copy.write(file.after_power_cut(source))
