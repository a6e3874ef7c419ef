"""Labels are counted from what came since the last count, as if all had been looked at."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_records import id_of_request, label_message, prediction_message, prediction_rows

from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.label_files import LabelFiles
from driftloop_lake.lake_table import Extent
from driftloop_lake.queries import Queries
from driftloop_lake.upkeep import Rules, Upkeep
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record

NOW = datetime.now(UTC)
STEPS = st.one_of(
    st.tuples(st.just("predict"), st.integers(1, 3)),
    st.tuples(st.just("label"), st.integers(0, 12)),
    st.tuples(st.just("compact"), st.just(0)),
)


class Grown:
    """A lake that takes requests of two rows, and labels of row 0 for them or for nothing."""

    def __init__(self, uri: str, queries: Queries | None = None) -> None:
        self.uri, self.offset, self.requests = uri, 0, 0
        self.writer, self.lake = LakeWriter(uri), DeltaLake(uri, queries)
        self.labels: set[tuple[int, int]] = set()

    def predict(self, requests: int) -> None:
        rows = prediction_rows(self.requests, self.requests + requests - 1)
        self.offset += 1
        self.requests += requests
        self.writer.append([read_record(prediction_message(rows, self.offset))])

    def label(self, sequence: int) -> None:
        self.offset += 1
        told = label_message(
            self.offset,
            prediction_id=id_of_request(sequence),
            label=self.offset % 3,
            received_at=NOW.isoformat(),
            observed_at=NOW.isoformat(),
        )
        self.writer.append([read_record(told)])
        self.labels.add((sequence, self.offset % 3))

    def compact(self, _: int) -> None:
        Upkeep(self.uri, Rules(compact_files=2, vacuum_hours=8), list).step(NOW)

    def counted(self, lake: DeltaLake) -> int:
        pin = lake.pin("loan")
        return 0 if pin is None else lake.count("loan", pin).labels


@settings(max_examples=25, deadline=None)
@given(st.lists(STEPS, max_size=12))
def test_a_reader_that_is_kept_counts_like_one_that_was_just_opened(
    steps: list[tuple[str, int]],
) -> None:
    with TemporaryDirectory() as folder:
        grown, keeping = Grown(folder), DeltaLake(folder, label_files=LabelFiles())
        for name, number in steps:
            getattr(grown, name)(number)
            matched = sum(sequence < grown.requests for sequence, _ in grown.labels)
            assert grown.counted(grown.lake) == grown.counted(keeping) == matched
        assert grown.counted(DeltaLake(folder)) == grown.counted(grown.lake)


class CountedQueries(Queries):
    """Notes how many rows of predictions each question about labels read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[int] = []

    def labels_of(self, predictions: pa.Table, labels: pa.Table) -> int:
        self.read.append(predictions.num_rows)
        return super().labels_of(predictions, labels)


def test_files_are_read_again_only_if_labels_came(tmp_path: Path) -> None:
    queries = CountedQueries()
    grown = Grown(str(tmp_path), queries)
    for _ in range(4):
        grown.predict(2)
    grown.label(1)
    grown.label(7)
    assert (grown.counted(grown.lake), queries.read) == (2, [4, 4])
    grown.predict(1)
    assert (grown.counted(grown.lake), queries.read) == (2, [4, 4])
    grown.label(6)
    assert (grown.counted(grown.lake), queries.read) == (3, [4, 4, 4])


@pytest.mark.parametrize(
    ("one", "other", "does"),
    [
        (("a", "c"), ("c", "e"), True),
        (("a", "b"), ("c", "e"), False),
        ((None, None), ("c", "e"), True),
        (("d", None), ("c", "e"), True),
        (("f", None), ("c", "e"), False),
        ((None, "b"), ("c", "e"), False),
    ],
)
def test_a_file_whose_bounds_are_not_known_may_overlap_any(
    one: tuple[str | None, str | None], other: tuple[str | None, str | None], does: bool
) -> None:
    assert Extent("1", *one).overlaps(Extent("2", *other)) is does
    assert Extent("2", *other).overlaps(Extent("1", *one)) is does
