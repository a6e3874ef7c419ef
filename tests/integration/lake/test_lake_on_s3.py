"""The lake in an object store: a real S3 API (moto's server), reached as a bucket of Amazon's would
be."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from lake_records import id_of_request, label_message, prediction_message, prediction_rows
from s3_server import environment, s3_server, store, without_conditional_writes

from driftloop_contracts.errors import RetryLater, Unavailable
from driftloop_lake.conditional_writes import require_conditional_writes
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.port import LakeCounts, Pin
from driftloop_lake.records import LakeRecord
from driftloop_lake.upkeep import Rules, Upkeep
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def uri(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A lake in a bucket of its own."""
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
    bucket = f"lake-{time.time_ns()}"
    store(endpoint).create_dir(bucket)
    return f"s3://{bucket}/some/prefix"


def request(number: int) -> list[LakeRecord]:
    label = label_message(number, prediction_id=id_of_request(number), label=[0, 1])
    return [
        read_record(prediction_message(prediction_rows(number, number), number)),
        read_record(label),
    ]


def counts(uri: str, pin: Pin | None = None) -> LakeCounts:
    lake = DeltaLake(uri)
    pin = pin or lake.pin("loan")
    assert pin is not None
    return lake.count("loan", pin)


def test_writers_at_once_write_each_record_once(uri: str) -> None:
    writers = [LakeWriter(uri) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        for number in range(4):
            records = request(number)
            list(pool.map(lambda writer, r=records: writer.append(r), writers))
    assert counts(uri) == LakeCounts(8, 0, 8)
    lake = DeltaLake(uri)
    pin = lake.pin("loan")
    assert pin is not None
    assert lake.labelled("loan", pin).num_rows == 8
    assert lake.unmatched_labels() == 0


def test_upkeep_compacts_and_cleans_and_leaves_what_is_pinned(uri: str) -> None:
    writer = LakeWriter(uri)
    for number in range(5):
        writer.append(request(number))
    pin = DeltaLake(uri).pin("loan")
    assert pin is not None
    upkeep = Upkeep(uri, Rules(compact_files=3, vacuum_hours=1), lambda: [("loan", pin)])
    upkeep.step(datetime.now(UTC))
    writer.append(request(5))
    upkeep.step(datetime.now(UTC) + timedelta(hours=2))
    assert counts(uri) == LakeCounts(12, 0, 12)
    assert counts(uri, pin) == LakeCounts(10, 0, 10)


def test_a_dead_letter_is_taken_out(uri: str) -> None:
    bad = read_record(label_message(0))
    LakeWriter(uri).append([bad])
    letters = DeltaLake(uri).dead_letters()
    assert letters.list().num_rows == 1
    good = read_record(label_message(0, prediction_id="a", label=1))
    assert letters.replay(good) == 1  # type: ignore[arg-type]
    assert letters.list().num_rows == 0


def test_a_bucket_that_overwrites_what_exists_is_refused(endpoint: str, uri: str) -> None:
    require_conditional_writes(uri, environment(endpoint))
    refused = pytest.raises(Unavailable, match="use an object store with conditional writes")
    with without_conditional_writes(endpoint) as old, refused:
        require_conditional_writes(uri, environment(old))
    with pytest.raises(RetryLater, match="cannot be written"):
        require_conditional_writes(uri, environment(old))
    with pytest.raises(RetryLater, match="404"):
        require_conditional_writes("s3://no-such-bucket/lake", environment(endpoint))
