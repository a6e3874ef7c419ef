"""A FIFO in the spool's root through which replicas wake the shipper when answers wait for
Kafka."""

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
        # Also open for writing: a FIFO without writers would always be readable.
        self._file = os.open(root / NAME, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for a wake-up. Returns whether there was one since the last
        call."""
        woken = bool(select.select([self._file], [], [], timeout_s)[0])
        if woken:
            with contextlib.suppress(BlockingIOError):
                os.read(self._file, 1 << 16)
        return woken

    def close(self) -> None:
        os.close(self._file)


class WakeupSender:
    """A replica's end. Without a running shipper, `wake` does nothing: the shipper reads all spools
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
            pass  # the pipe is full of unread wake-ups
        except OSError:
            self.close()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
