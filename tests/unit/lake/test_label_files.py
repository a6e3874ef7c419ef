"""Labels that are kept for the next model are those that each model would have read."""

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_records import id_of_request, label_message, prediction_message, prediction_rows

from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.label_files import LabelFiles
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record

MODELS = ("loan", "other")
REQUESTS = 6
label = st.tuples(
    st.sampled_from(MODELS), st.integers(0, REQUESTS - 1), st.sampled_from([0, 1, "é", None]),
    st.sampled_from(["label", "margin"]),
)  # fmt: skip


def written(uri: str, flushes: list[list[tuple[str, int, object, str]]]) -> None:
    writer, offset = LakeWriter(uri), 0
    for place, model in enumerate(MODELS):
        rows = prediction_rows(0, REQUESTS - 1, replica=model)
        writer.append([read_record(prediction_message(rows, place, model=model))])
    for labels in flushes:
        records = []
        for model, request, value, metric in labels:
            said = {"label": value} if metric == "label" else {"metric": metric, "value": value}
            id_ = id_of_request(request, model)
            records.append(read_record(label_message(offset, prediction_id=id_, **said)))
            offset += 1
        writer.append(records)


def seen(lake: DeltaLake) -> list[pa.Table]:
    found = []
    for model in MODELS:
        pin = lake.pin(model)
        assert pin is not None
        every = lake.labelled(model, pin, only_labelled=False)
        early = every["predicted_at"][3].as_py()
        found += [
            every,
            lake.labelled(model, pin),
            lake.labelled(model, pin, metric="margin"),
            lake.labelled(model, pin, since=early, tags=True),
            lake.labelled(model, pin, as_of=early - timedelta(days=9_000)),
        ]
    return found


@settings(max_examples=25)
@given(st.lists(st.lists(label, min_size=1, max_size=8), max_size=4), st.sampled_from([0, 1 << 20]))
def test_labels_are_the_same_as_each_model_reads_them(
    tmp_path_factory: pytest.TempPathFactory,
    flushes: list[list[tuple[str, int, object, str]]],
    limit: int,
) -> None:
    uri = str(tmp_path_factory.mktemp("lake"))
    written(uri, flushes)
    keeping = DeltaLake(uri, label_files=LabelFiles(limit))
    expected = seen(DeltaLake(uri))
    for _ in range(2):
        assert seen(keeping) == expected


def test_what_is_new_is_seen(tmp_path: Path) -> None:
    uri = str(tmp_path)
    written(uri, [[("loan", 0, 1, "label")]])
    lake = DeltaLake(uri, label_files=LabelFiles())
    pin = lake.pin("loan")
    assert pin is not None
    assert lake.labelled("loan", pin).num_rows == 1
    LakeWriter(uri).append(
        [read_record(label_message(1, prediction_id=id_of_request(1, "loan"), label=[0, 1]))]
    )
    newer = lake.pin("loan")
    assert newer is not None
    assert lake.labelled("loan", newer).num_rows == 3
    assert lake.labelled("loan", pin).num_rows == 1
