"""A network namespace behind a pair of veth interfaces, whose far end can go down without a word: packets
then vanish, and neither side is told."""

import contextlib
import ctypes
import itertools
import os
import subprocess

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


def may_partition():
    """Whether this process may make network namespaces and interfaces."""
    if os.geteuid() != 0:
        return False
    try:
        FarNetwork().close()
        return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class FarNetwork:
    """`far_address` is that of the namespace. For as long as the process lives or until close()."""

    def __init__(self):
        number = next(_numbers)
        # Names of interfaces have 15 characters at most, and belong to the machine.
        self._name = f"sl{os.getpid()}n{number}"
        self._near, self._far = f"{self._name}a", f"{self._name}b"
        net = f"10.{200 + number % 50}.{os.getpid() % 250}"
        self.near_address, self.far_address = f"{net}.1", f"{net}.2"
        _ip("netns", "add", self._name)
        try:
            _ip("link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns",
                self._name)
            _ip("addr", "add", f"{self.near_address}/24", "dev", self._near)
            _ip("link", "set", self._near, "up")
            _ip("-n", self._name, "addr", "add", f"{self.far_address}/24", "dev", self._far)
            _ip("-n", self._name, "link", "set", self._far, "up")
            _ip("-n", self._name, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def cut(self):
        _ip("-n", self._name, "link", "set", self._far, "down")

    def mend(self):
        _ip("-n", self._name, "link", "set", self._far, "up")

    @contextlib.contextmanager
    def inside(self):
        """What this thread starts meanwhile lives in the namespace."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self._name}") as there:
            self._enter(there)
            try:
                yield
            finally:
                self._enter(home)

    @staticmethod
    def _enter(namespace):
        if _libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    def close(self):
        # With the namespace goes its interface, and with that the other end.
        _ip("netns", "del", self._name)
