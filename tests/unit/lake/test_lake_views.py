import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from awkward_names import AWKWARD_NAMES
from hostile_texts import HOSTILE
from hypothesis import example, given
from hypothesis import strategies as st
from lake_records import (
    SIGNATURE,
    id_of_request,
    label_message,
    prediction_message,
    prediction_rows,
    time_of_request,
)

from driftloop_contracts.errors import NotFound, Rejected
from driftloop_contracts.events import prediction_schema
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_lake.shadow_tables import ShadowTables
from driftloop_lake.views import (
    BOOKKEEPING,
    KEY,
    LABEL,
    Version,
    Views,
    column_names,
    open_views,
)
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record

T = datetime(2026, 3, 2, 12, tzinfo=UTC)


@dataclass
class Lake:
    uri: str
    offset: int = 0
    writer: LakeWriter = field(init=False)

    def __post_init__(self) -> None:
        self.writer = LakeWriter(self.uri)

    def predict(self, rows: pa.Table, model: str = "loan") -> None:
        self.offset += 1
        self.writer.append([read_record(prediction_message(rows, self.offset, model=model))])

    def label(self, sequence: int, label: object, received: datetime = T, **more: object) -> None:
        self.offset += 1
        record = label_message(
            self.offset,
            prediction_id=id_of_request(sequence),
            label=label,
            received_at=received.isoformat(),
            observed_at=T.isoformat(),
            **more,
        )
        self.writer.append([read_record(record)])

    def open(self, **how: Any) -> Views:
        return open_views(self.uri, "loan", **how)

    def ask(self, sql: str, **how: Any) -> list[tuple[Any, ...]]:
        return rows_of(self.open(**how), sql)


def rows_of(views: Views, sql: str) -> list[tuple[Any, ...]]:
    return [
        row
        for batch in views.ask(sql)
        for row in zip(*(c.to_pylist() for c in batch.columns), strict=True)
    ]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Four requests of two rows, two for each version."""
    made = Lake(str(tmp_path))
    made.predict(prediction_rows(0, 1))
    made.predict(prediction_rows(2, 3, version=2))
    return made


def test_predictions_have_a_column_for_each_tensor_under_its_own_name(lake: Lake) -> None:
    answer = lake.open().ask("SELECT * FROM predictions")
    assert answer.columns == [
        "prediction_id",
        "row",
        "version",
        "arm",
        "predicted_at",
        "age",
        "job",
        "label",
        "probabilities",
        "replica",
        "sequence",
        "latency_s",
        "error",
        "routing_key_hash",
        "trace_id",
    ]
    (row,) = lake.ask(
        "SELECT prediction_id, row, version, arm, predicted_at, age, job, label, probabilities "
        "FROM predictions WHERE version = 2 ORDER BY predicted_at DESC, row DESC LIMIT 1"
    )
    assert row == (
        id_of_request(3),
        1,
        2,
        "stable",
        time_of_request(3),
        1.0,
        "baker",
        1,
        [0.25, 0.75],
    )


def test_labels_are_those_of_the_models_predictions(lake: Lake) -> None:
    lake.predict(prediction_rows(50, 50), model="other")
    lake.label(0, 1, source="audit", tags={"by": "me"})
    lake.label(50, 1)
    lake.label(77, 1)
    assert lake.ask("SELECT * FROM labels") == [
        (id_of_request(0), 0, 1.0, T, T, "audit", "label", '{"by": "me"}', "1")
    ]


def test_the_latest_correction_wins_as_of_a_time(lake: Lake) -> None:
    lake.label(2, 0)
    lake.label(2, 1, T + timedelta(hours=1))
    sql = "SELECT version, label, value FROM labelled"
    assert lake.ask(sql) == [(2, 1, 1.0)]
    assert lake.ask(sql, at=T) == [(2, 1, 0.0)]
    assert lake.ask(sql, at=T - timedelta(seconds=1)) == []
    early = time_of_request(1)
    assert lake.ask("SELECT count(*) FROM predictions", at=early) == [(4,)]
    assert lake.ask("SELECT count(*) FROM labels", at=T) == [(1,)]


def test_other_metrics_are_labels_and_not_the_label(lake: Lake) -> None:
    lake.offset += 1
    record = label_message(lake.offset, prediction_id=id_of_request(0), metric="stars", value=4.5)
    lake.writer.append([read_record(record)])
    assert lake.ask("SELECT metric, value FROM labels") == [("stars", 4.5)]
    assert lake.ask("SELECT count(*) FROM labelled") == [(0,)]


def test_labels_are_texts_where_the_answer_is_one(lake: Lake) -> None:
    lake.label(0, "yes")
    assert lake.ask("SELECT value, value_json FROM labels") == [(None, '"yes"')]
    assert lake.ask("SELECT value FROM labelled", text_labels=True) == [("yes",)]
    assert lake.ask("SELECT value FROM labels", output="label") == [(None,)]


def test_a_version_gives_what_it_held_though_more_came(lake: Lake) -> None:
    lake.label(0, 1)
    before = lake.open().version
    lake.predict(prediction_rows(10, 12))
    lake.label(10, 0)
    assert lake.ask("SELECT count(*) FROM predictions", version=before) == [(8,)]
    assert lake.ask("SELECT count(*) FROM labels", version=before) == [(1,)]
    alone = Version(before.predictions)
    # Labels as they lay beside it when it was written: the label came later.
    assert lake.ask("SELECT count(*) FROM labelled", version=alone) == [(0,)]
    assert lake.ask("SELECT count(*) FROM predictions") == [(14,)]
    with pytest.raises(NotFound, match="no version 99"):
        lake.open(version=Version(99))


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("DROP VIEW predictions", "one SELECT"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("", "one SELECT"),
        ("COPY predictions TO '/tmp/stolen.csv'", "one SELECT"),
        ("SET enable_external_access = true", "one SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled"),
        ("SELECT * FROM '/etc/passwd'", "does not exist"),
        ("SELECT * FROM rows_of", "does not exist"),
        ("SELEKT 1", "syntax"),
        ("SELECT nope FROM predictions", "nope"),
        ("SELECT CAST('x' AS INT)", "x"),
    ],
)
def test_only_the_views_can_be_read_and_nothing_changed(lake: Lake, sql: str, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        lake.ask(sql)


def test_a_query_over_its_time_limit_is_stopped(lake: Lake) -> None:
    with pytest.raises(Rejected, match=r"stopped after 0\.2 s"):
        lake.open().ask("SELECT count(*) FROM range(100_000_000_000) a, range(100)", 0.2)


def test_a_large_result_comes_in_pieces(lake: Lake) -> None:
    answer = lake.open().ask("SELECT * FROM range(1_000_000)")
    sizes = [batch.num_rows for batch in answer]
    assert sum(sizes) == 1_000_000
    assert max(sizes) <= 10_000


def test_a_result_that_was_read_leaves_no_thread_at_work(lake: Lake) -> None:
    """Else a process that ends then is aborted."""
    views, before = lake.open(), set(threading.enumerate())
    for _ in range(20):
        assert sum(batch.num_rows for batch in views.ask("SELECT * FROM range(300_000)")) == 300_000
        assert set(threading.enumerate()) <= before


def test_a_name_that_comes_twice_is_numbered(lake: Lake) -> None:
    assert lake.open().ask("SELECT 1 AS a, 2 AS a, 3 AS b").columns == ["a", "a_1", "b"]


@pytest.mark.parametrize("model", ["unknown", "../loan"])
def test_a_model_that_the_lake_lacks_is_named(lake: Lake, model: str) -> None:
    with pytest.raises(Rejected, match=model.strip("./")):
        open_views(lake.uri, model)


def test_names_that_clash_keep_their_prefix() -> None:
    columns = [
        "in_age",
        "in_x",
        "out_X",
        "in_version",
        "in_error",
        "out_value",
        "error",
        "sequence",
    ]
    assert column_names(columns, ("version",)) == {
        "in_age": "age",
        "in_x": "in_x",
        "out_X": "out_X",
        "in_version": "in_version",
        "in_error": "error",
        "out_value": "value",
        "error": "lake_error",
        "sequence": "sequence",
    }
    assert column_names(["out_value"], ("value",)) == {"out_value": "out_value"}


def test_names_that_differ_only_by_case_are_numbered() -> None:
    columns = ["in_Age", "in_age", "in_AGE", "in_in_age_2", "in_größe", "in_GRÖSSE"]
    found = column_names(columns, ())
    assert list(found.values()) == [
        "in_Age",
        "in_age_3",
        "in_AGE_4",
        "in_age_2",
        "in_größe",
        "in_GRÖSSE_2",
    ]
    assert len({name.casefold() for name in found.values()}) == len(columns)


@example(["error", "lake_error"], KEY)
@example(list(AWKWARD_NAMES), (*KEY, *LABEL))
@given(
    st.lists(st.sampled_from(AWKWARD_NAMES), unique=True), st.sampled_from([KEY, (*KEY, *LABEL)])
)
def test_a_view_names_each_column_once(tensors: list[str], taken: tuple[str, ...]) -> None:
    columns = [*map("in_{}".format, tensors), *map("out_{}".format, tensors[:2]), *BOOKKEEPING]
    named = [*taken, *column_names(columns, taken).values()]
    assert len({name.casefold() for name in named}) == len(named)


def test_a_column_of_several_types_is_one(lake: Lake, retyped: Callable[[], pa.Table]) -> None:
    lake.predict(retyped())
    assert lake.ask("SELECT DISTINCT age, job FROM predictions ORDER BY ALL") == [
        ("0.0", "baker"),
        ("1.0", "baker"),
        ("old", "baker"),
    ]


@pytest.fixture
def retyped() -> Callable[[], pa.Table]:
    """A request of version 3, whose input `age` is a text."""

    def make() -> pa.Table:
        signature = Signature(
            (TensorSpec("age", "BYTES", (-1, 1)), SIGNATURE.inputs[1]), SIGNATURE.outputs
        )
        rows = prediction_rows(20, 20, version=3, rows=1).to_pylist()
        return pa.Table.from_pylist(
            [r | {"in_age": "old"} for r in rows], schema=prediction_schema(signature)
        )

    return make


def test_large_unsigned_numbers_stay_whole(tmp_path: Path) -> None:
    signature = Signature((TensorSpec("key", "UINT64", (-1, 1)),), SIGNATURE.outputs)
    rows = prediction_rows(0, 0, rows=1).to_pylist()
    made = Lake(str(tmp_path))
    made.predict(
        pa.Table.from_pylist(
            [{**rows[0], "in_key": Decimal(2**64 - 1)}], schema=prediction_schema(signature)
        )
    )
    assert made.ask("SELECT key FROM predictions") == [(Decimal(2**64 - 1),)]


@pytest.mark.parametrize("name", [text for text in HOSTILE if "\x00" not in text])
def test_a_column_of_any_name_is_queried_by_its_name(tmp_path: Path, name: str) -> None:
    """No name ends its identifier, or a file's."""
    lake = Lake(str(tmp_path))
    schema = prediction_schema(
        Signature((TensorSpec(name, "FP32", (-1, 1)),), (TensorSpec("y", "FP32", (-1, 1)),))
    )
    rows = prediction_rows(1, 1)
    own = [field.name for field in rows.schema if field.name.startswith(("in_", "out_"))]
    rows = rows.drop_columns(own)
    for field_ in schema:
        if field_.name not in rows.schema.names:
            rows = rows.append_column(field_, pa.array([1.5] * rows.num_rows, field_.type))
    lake.predict(rows.select(schema.names))
    quoted = '"' + name.replace('"', '""') + '"'
    assert lake.ask(f"SELECT {quoted} FROM predictions")[0] == (1.5,)


def test_labels_that_are_mappings_are_merged(lake: Lake) -> None:
    lake.label(0, {"a": 1})
    lake.label(0, {"b": "x"}, T + timedelta(seconds=1))
    lake.label(1, 1)
    asked = "SELECT value, value_json, value_json ->> 'b' FROM labelled ORDER BY prediction_id"
    assert lake.ask(asked) == [(None, '{"a":1,"b":"x"}', "x"), (1.0, "1", None)]
    assert lake.ask(asked, text_labels=True)[0][0] == '{"a":1,"b":"x"}'
    assert lake.ask("SELECT count(*) FROM labels") == [(3,)]


def test_shadow_answers_are_beside_the_predictions(lake: Lake) -> None:
    assert lake.ask("SELECT * FROM shadows") == []
    lake.label(1, 1)
    rows = prediction_rows(0, 1, version=3, rows=1)
    names = ["prediction_id", "row", "version", "predicted_at", "error", "out_label"]
    shadow = ShadowTables(lake.uri)
    for rollout in ("r1", "r2"):  # which answered the same rows
        shadow.append("loan", rollout, rows.select(names), time_of_request(2))
    counted = "SELECT count(*), min(arm), min(version), count(error) FROM shadows"
    assert lake.ask(counted) == [(2, "shadow", 3, 0)]
    assert lake.ask(counted, at=time_of_request(0))[0][0] == 1
    joined = "FROM shadows s JOIN labelled l USING (prediction_id, row)"
    assert lake.ask(f"SELECT s.label, l.value, l.version {joined}") == [(1, 1.0, 1)]
    assert lake.ask("SELECT count(*) FROM predictions") == [(8,)]
