"""Which rows of the data set come next."""

from dataclasses import dataclass

KEPT_ROWS = 10_000


@dataclass
class Replay:
    """Rows in their order up to `limit`. The last KEPT_ROWS are kept until a new version answers,
    whose retrain cannot have seen what it is measured by, however long the retrain took; until then
    the rows before them come again, and afterwards they do."""

    limit: int
    _next: int = 0
    _repeats: bool = False

    def take(self, most: int, *, new_version: bool) -> tuple[int, int]:
        """The first of at most `most` rows, and the one behind the last; `new_version`: one
        answers."""
        end = self.limit if new_version else self.limit - KEPT_ROWS
        if self._next >= end or (new_version and self._repeats):
            self._next, self._repeats = end - KEPT_ROWS, not new_version
        start, self._next = self._next, min(self._next + most, end)
        return start, self._next
