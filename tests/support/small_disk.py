"""Small file systems in memory, which can be filled and emptied: needs the right to mount."""

import contextlib
import os
import subprocess
import tempfile


def may_mount():
    return os.geteuid() == 0


class SmallDisk:
    """A tmpfs of `mebibytes`, mounted at `path` until close()."""

    def __init__(self, mebibytes):
        self.path = tempfile.mkdtemp(prefix="sluice-fs-", dir="/tmp")
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0755", "sluice-test",
                        self.path], check=True)
        self._ballast = os.path.join(self.path, "ballast")

    def free_bytes(self):
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def fill(self, leave_bytes=0):
        """Takes all room but so much."""
        with open(self._ballast, "ab") as file:
            size = file.tell() + self.free_bytes() - leave_bytes
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, max(size, 1))

    def clear(self):
        """Gives back what fill() took."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._ballast)

    def close(self):
        # Lazily: a process that still ends may have files open there.
        subprocess.run(["umount", "-l", self.path], check=True)
        os.rmdir(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
