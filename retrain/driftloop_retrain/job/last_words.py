"""Forwards a child process's standard error to our own, and keeps its last lines."""

import sys
import threading
from collections import deque
from typing import IO

LINES = 20


class LastWords:
    """Reads `stream` until the child closes it. `sink`: default our own standard error."""

    def __init__(self, stream: IO[bytes], sink: IO[bytes] | None = None) -> None:
        self._lines: deque[bytes] = deque(maxlen=LINES)
        self._sink = sink or sys.stderr.buffer
        self._thread = threading.Thread(target=self._follow, args=(stream,), daemon=True)
        self._thread.start()

    def text(self) -> str:
        """Return the last lines. Waits a moment for the output of a child that has just ended."""
        self._thread.join(1.0)
        return b"".join(self._lines.copy()).decode(errors="replace").strip()

    def _follow(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._lines.append(line)
                self._sink.write(line)
                self._sink.flush()
