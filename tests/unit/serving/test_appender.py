"""The compiled append, compared with the Python implementation that it replaces."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.capture.appender import COMPILED, keeps_room
from driftloop_serving.capture.spool import SpoolWriter, segment_name
from driftloop_serving.capture.spool_record import (
    PredictionBatch,
    PredictionEncoder,
    decode,
    frames,
)
from driftloop_serving.inference.datatypes import DTYPES
from driftloop_settings import CaptureSettings

CAPTURE = CaptureSettings(segment_bytes=1 << 20)
compiled = pytest.mark.skipif(not COMPILED, reason="built without a C compiler")


class QuickWriter(SpoolWriter):
    """Counts the appends that were left to Python."""

    slow = 0

    def append_slowly(self, batches: Sequence[PredictionBatch]) -> bool:
        self.slow += 1
        return super().append_slowly(batches)


def frames_of(writer: SpoolWriter) -> list[tuple[bytes, PredictionBatch]]:
    """Return the complete first segment, and its records."""
    data = (writer.folder / segment_name(0)).read_bytes()
    found, begin = [], 0
    for payload, end in frames(data, 0):
        record = decode(payload)
        assert isinstance(record, PredictionBatch)
        found.append((data[begin:end], record))
        begin = end
    return found


def batch(rows: int = 1, version: int = 1, **changes: Any) -> PredictionBatch:
    usual = PredictionBatch(
        "m",
        version,
        "stable",
        ["a"],
        [0.5],
        [rows],
        SIGNATURE,
        {"x": np.ones((rows, 2), np.float32)},
        {"y": np.zeros(rows)},
    )
    return usual._replace(**changes)


SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP64", (-1,)),))

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40) | st.text(
    "x", min_size=250, max_size=300
)
COUNTS = st.integers(0, 20) | st.sampled_from(
    [127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32]
)


@st.composite
def tensors(draw: st.DrawFn, side: str) -> tuple[list[TensorSpec], dict[str, Any]]:
    specs, found = [], {}
    for number in range(draw(st.integers(1, 17))):
        name, datatype = f"{side}{number}", draw(st.sampled_from(sorted(DTYPES)))
        shape = tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=3)))
        specs.append(TensorSpec(name, datatype, (-1,) * len(shape)))
        elements = TEXTS if datatype == "BYTES" else None
        dtype = object if datatype == "BYTES" else DTYPES[datatype]
        found[name] = draw(st.none() | arrays(dtype, shape, elements=elements))
    return specs, found


@st.composite
def batches(draw: st.DrawFn) -> PredictionBatch:
    inputs, x = draw(tensors("x"))
    outputs, y = draw(tensors("y"))
    requests = draw(st.integers(1, 3) | st.sampled_from([15, 16, 17]))

    def lists(of: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        return st.lists(of, min_size=requests, max_size=requests)

    return PredictionBatch(
        draw(TEXTS),
        draw(st.integers(0, 300)),
        draw(st.sampled_from(["stable", "canary"])),
        draw(lists(TEXTS)),
        draw(lists(st.floats())),
        draw(lists(COUNTS)),
        Signature(tuple(inputs), tuple(outputs)),
        x,
        draw(st.just(y) | st.none()),
        draw(st.none() | TEXTS),
        client_ids=draw(st.booleans()),
        key_hashes=draw(st.none() | lists(st.none() | COUNTS | st.integers(0, 2**63 - 1))),
        trace_ids=draw(st.none() | lists(st.none() | TEXTS)),
    )


@compiled
@settings(max_examples=80, deadline=None)
@given(given_batches=st.lists(batches(), min_size=1, max_size=4), sequence=COUNTS)
def test_it_writes_the_bytes_that_python_writes(
    given_batches: list[PredictionBatch], sequence: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    writer = QuickWriter(tmp_path_factory.mktemp("spool"), "replica", CAPTURE)
    # The sources that it knows.
    for each in given_batches:
        source = writer._sources.get((each.model, each.version)) or writer._new_source(each)
        source.encoder = PredictionEncoder(each.model, each.version, each.signature)
        source.sequence = sequence
    known = [
        each
        for each in given_batches
        if writer._sources[each.model, each.version].encoder.signature is each.signature
    ]
    assert writer.append(known)
    assert writer.slow == 0
    found = frames_of(writer)
    for (frame, record), each in zip(found, known, strict=True):
        data = bytearray()
        encoder = PredictionEncoder(each.model, each.version, each.signature)
        encoder.append(data, each, record.first_sequence, record.at_us, 0)
        assert frame == data
    writer.close()
    shutil.rmtree(writer.folder)


@compiled
@pytest.mark.parametrize(
    "unusual",
    [
        batch(version=2),
        batch(signature=Signature(SIGNATURE.inputs, SIGNATURE.outputs)),
        batch(left_out=3),
        batch(ids=("a",)),
        batch(inputs={"x": np.ones((2, 2), np.float32).T}),
        batch(rows=100_000),
    ],
    ids=["version", "signature", "sampled", "not a list", "not contiguous", "no room"],
)
def test_what_is_unusual_is_left_to_python_whole(tmp_path: Path, unusual: PredictionBatch) -> None:
    writer = QuickWriter(tmp_path, "replica", CAPTURE)
    writer.append([batch()])
    before = writer.slow
    assert writer.append([batch()])
    assert writer.slow == before
    assert writer.append([batch(), unusual, batch()])
    assert writer.slow == before + 1
    records = [record for _, record in frames_of(writer)]
    assert len(records) == 5
    sequences = [record.first_sequence for record in records if record.version == 1]
    assert sequences == list(range(len(sequences)))


@compiled
def test_rows_are_counted_by_version(tmp_path: Path) -> None:
    writer = QuickWriter(tmp_path, "replica", CAPTURE)
    for _ in range(3):
        writer.append([batch(2), batch(5, version=2), batch(3)])
    assert writer.slow == 1
    served = {source.key: writer._counters[source.served] for source in writer._sources.values()}
    assert served == {"m/1": 15, "m/2": 15}


@compiled
def test_a_segment_has_room_for_the_record_that_fills_it(tmp_path: Path) -> None:
    """Otherwise the record could be lost on a full disk."""
    writer = QuickWriter(tmp_path, "replica", CAPTURE)
    writer.append([batch()])
    while writer._size < CAPTURE.segment_bytes:
        assert writer.append([batch(50)])
    assert (writer.segment, writer.slow) == (0, 1)
    assert writer.append([batch()])
    assert (writer.segment, writer.slow) == (1, 2)


@compiled
def test_what_cannot_be_encoded_is_refused_as_python_refuses_it(tmp_path: Path) -> None:
    writer = QuickWriter(tmp_path, "replica", CAPTURE)
    writer.append([batch()])
    with pytest.raises(UnicodeEncodeError):
        writer.append([batch(), batch(ids=["\ud800"])])
    writer.append([batch()])
    assert [record.first_sequence for _, record in frames_of(writer)] == [0, 1]


@compiled
@given(data=st.binary(min_size=1, max_size=100), value=st.integers(0, 2**32 - 1))
def test_every_cpu_has_the_checksum_of_the_readers(data: bytes, value: int) -> None:
    from driftloop_serving.capture._appender import checksums

    assert checksums(data, value) == (crc32c.crc32c(data, value),) * 2


def test_it_is_compiled_where_there_is_a_compiler() -> None:
    assert COMPILED or shutil.which("cc") is None


@compiled
def test_a_file_system_that_is_not_known_is_not_trusted_with_room() -> None:
    with Path("/proc/self/status").open() as file:
        assert not keeps_room(file.fileno())
