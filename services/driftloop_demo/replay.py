"""Chooses the rows of the data set to send next."""

from dataclasses import dataclass

KEPT_ROWS = 10_000


@dataclass
class Replay:
    """Sends rows in order up to `limit`. The last `kept` are reserved until a new version
    answers, so that its training data cannot contain the rows that measure it. Until then the rows
    before them repeat; afterwards the last rows repeat."""

    limit: int
    kept: int = KEPT_ROWS
    _next: int = 0
    _repeats: bool = False

    def take(self, most: int, *, new_version: bool) -> tuple[int, int]:
        """Return the range (start, stop) of at most `most` rows. `new_version`: whether a new
        version answers."""
        end = self.limit if new_version else self.limit - self.kept
        if self._next >= end or (new_version and self._repeats):
            self._next, self._repeats = end - self.kept, not new_version
        start, self._next = self._next, min(self._next + most, end)
        return start, self._next
