"""Counts the duplicate rows of a predictions table from the sequence numbers in its files.

A replica numbers the requests of a version, so two files can only contain the same row if their
ranges of numbers overlap; rows are compared only there. A file never changes and is read once, so
counting only costs the changes since the last count.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from driftloop_lake.lake_table import LakeTable, quoted, translated

_KEY = ["replica", "version", "sequence", "row"]


class Run(NamedTuple):
    """Requests `first` to `last` of a replica and version, all of which are in a file."""

    replica: str
    version: int
    first: int
    last: int


class Repeats:
    """The duplicates of one table. Not thread-safe."""

    def __init__(self) -> None:
        self._runs: dict[str, tuple[Run, ...]] = {}

    def count(self, table: LakeTable, distinct: Callable[[pa.Table], int]) -> int:
        """Return the number of duplicates by replica, version, sequence and row. `distinct`: counts
        the distinct rows of a table. Raises RetryLater."""
        with translated():
            self._runs = {
                fragment.path: self._runs.get(fragment.path)
                or tuple(runs_of(fragment.to_table(columns=_KEY)))
                for fragment in table.dataset().get_fragments()
            }
        repeated = 0
        for run in overlaps(run for runs in self._runs.values() for run in runs):
            rows = table.scan(
                _KEY,
                f"replica = {quoted(run.replica)} AND version = {run.version} "
                f"AND sequence BETWEEN {run.first} AND {run.last}",
            )
            repeated += rows.num_rows - distinct(rows)
        return repeated


def runs_of(rows: pa.Table) -> Iterator[Run]:
    """Yield the runs of a file's rows (replica, version, sequence, row). A request with a duplicate
    row is yielded as an additional run, which therefore overlaps."""
    if not rows.num_rows:
        return
    replicas = rows.column("replica").combine_chunks().dictionary_encode()
    columns: list[Any] = [replicas.indices, *(rows.column(name) for name in _KEY[1:])]
    columns = [np.asarray(column) for column in columns]
    order = np.lexsort(columns[::-1])
    replica, version, sequence, row = (column[order] for column in columns)
    other = (np.diff(replica) != 0) | (np.diff(version) != 0)
    step = np.diff(sequence)
    breaks = np.flatnonzero(other | (step > 1)) + 1
    firsts, lasts = np.r_[0, breaks], np.r_[breaks - 1, rows.num_rows - 1]
    twice = np.flatnonzero(~other & (step == 0) & (np.diff(row) == 0))
    for first, last in zip(np.r_[firsts, twice], np.r_[lasts, twice], strict=True):
        yield Run(
            replicas.dictionary[int(replica[first])].as_py(),
            int(version[first]),
            int(sequence[first]),
            int(sequence[last]),
        )


def overlaps(runs: Iterable[Run]) -> list[Run]:
    """Return, for each replica and version with overlapping runs, the range from the first to the
    last number that is in several runs."""
    found: list[Run] = []
    before: Run | None = None
    for run in sorted(runs):
        if before is None or run[:2] != before[:2]:
            before = run
            continue
        if run.first <= before.last:
            last = min(run.last, before.last)
            if found and found[-1][:2] == run[:2]:
                found[-1] = found[-1]._replace(last=max(found[-1].last, last))
            else:
                found.append(run._replace(last=last))
        before = before._replace(last=max(run.last, before.last))
    return found
