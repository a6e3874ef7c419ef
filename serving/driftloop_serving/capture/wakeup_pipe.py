"""A FIFO in the spool's root, by which replicas whose answers wait for Kafka wake the shipper."""

import contextlib
import os
import select
from pathlib import Path

from driftloop_settings.private_files import private_folder

NAME = ".bell"


class WakeupPipe:
    """The shipper's end."""

    def __init__(self, root: Path) -> None:
        private_folder(root)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(root / NAME, 0o600)
        # Also opened for writing: a FIFO whose last writer has left would stay readable.
        self._file = os.open(root / NAME, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, timeout_s: float) -> bool:
        """Until a replica wakes it, or `timeout_s` have passed; whether one did, since the last
        call."""
        woken = bool(select.select([self._file], [], [], timeout_s)[0])
        if woken:
            with contextlib.suppress(BlockingIOError):
                os.read(self._file, 1 << 16)
        return woken

    def close(self) -> None:
        os.close(self._file)


class WakeupSender:
    """A replica's end. While no shipper listens, waking does nothing: a shipper looks by itself
    when it starts."""

    def __init__(self, root: Path) -> None:
        self._path = root / NAME
        self._file = -1

    def wake(self) -> None:
        try:
            if self._file < 0:
                self._file = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.write(self._file, b"!")
        except BlockingIOError:
            pass  # full of wake-ups that it has not read yet
        except OSError:
            self.close()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
