"""Labelled rows for training, in time order, and how they are split.

A data set comes from the lake through a pin, so that it can be read again, or from a file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.events import INPUT_PREFIX
from driftloop_contracts.graph_names import check_feature_names
from driftloop_contracts.kind import Task
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.signature import Datatype, Signature, TensorSpec
from driftloop_evaluation.labels import floats, label_names
from driftloop_lake.port import LakeReader, Pin
from driftloop_retrain.record.pinning import source_of
from driftloop_retrain.tabular.csv_file import FOUND, USUAL, CsvForm, is_csv, read_csv
from driftloop_settings import RetrainSettings

FRESH_HOLDOUT_SHARE, FRESH_VALIDATION_SHARE = 0.3, 0.15
"""After a change, old rows are not representative. Both parts are taken from the rows since then,
and these shares leave 70 % of them for the final training."""
MIN_FRESH_ROWS = 200
"""With fewer rows since the change, the change is ignored."""


@dataclass(frozen=True)
class Dataset:
    """n rows, oldest first.

    features: one column per input. labels [n]: int64 or str (as objects) for classes, float64 for
    values; of several labels a structured array with a field for each (`several.labels`). at [n]:
    datetime64[us], UTC. weights [n]: float64. source: describes the data, so that it can be read
    again.
    """

    features: pa.Table
    labels: NDArray[np.generic]
    at: NDArray[np.datetime64]
    weights: NDArray[np.float64]
    source: str

    @property
    def rows(self) -> int:
        return int(self.features.num_rows)

    @property
    def label_values(self) -> list[Any]:
        """The labels as JSON has them: several labels of a row are a dict, None for one that it
        lacks."""
        names = self.labels.dtype.names
        if names is None:
            return list(self.labels.tolist())
        return [
            {n: None if v is None or v != v else v for n, v in zip(names, row, strict=True)}
            for row in self.labels.tolist()
        ]

    def label(self, name: str) -> NDArray[Any]:
        """One of several labels [n]: float64 with NaN, or objects with None, for none."""
        whole: Any = self.labels
        return np.asarray(whole[name])

    def slice(self, start: int, stop: int) -> "Dataset":
        part = slice(start, stop)
        return replace(
            self,
            features=self.features.slice(start, max(0, stop - start)),
            labels=self.labels[part],
            at=self.at[part],
            weights=self.weights[part],
        )

    def where(self, kept: NDArray[np.bool_]) -> "Dataset":
        """The rows (bool [n]) that are kept."""
        return replace(
            self,
            features=self.features.filter(pa.array(kept)),
            labels=self.labels[kept],
            at=self.at[kept],
            weights=self.weights[kept],
        )

    def weighted(self, weights: NDArray[np.float64]) -> "Dataset":
        return replace(self, weights=weights)


def dataset_of(
    features: pa.Table, labels: NDArray[np.generic], at: NDArray[np.datetime64], source: str
) -> Dataset:
    """Create a data set with equal weights."""
    return Dataset(features, labels, at, np.ones(features.num_rows), source)


LabelReader = Callable[[pa.Table], tuple[NDArray[np.generic], NDArray[np.bool_]]]
"""The labels of rows of the lake, and which rows have one to learn from."""


def from_lake(
    lake: LakeReader,
    spec: ModelSpec,
    signature: Signature,
    pin: Pin,
    as_of: datetime,
    max_rows: int,
    look: Callable[[pa.Table], None] = lambda _: None,
    labels_of: LabelReader | None = None,
) -> Dataset:
    """Read the newest `max_rows` rows with a label received up to `as_of`, without those answered
    with an error. look: called with them as the lake has them. labels_of: of several labels. Raises
    Rejected if none is left or the labels do not fit the task."""
    table = lake.labelled(spec.name, pin, as_of=as_of, newest=max_rows)
    table = table.filter(pc.is_null(table["error"]))
    output = next((t for t in signature.outputs if t.name == spec.output), None)
    read = labels_of or (lambda rows: _lake_labels(rows, spec.task, output))
    labels, known = read(table)
    table, labels = table.filter(pa.array(known)), labels[known]
    if not len(labels):
        raise Rejected(f"the lake has no labelled row of {spec.name!r} to train on")
    look(table)
    names = [tensor.name for tensor in signature.inputs]
    features = table.select([INPUT_PREFIX + name for name in names]).rename_columns(names)
    at = table["predicted_at"].cast(pa.timestamp("us")).to_numpy()
    return dataset_of(features, labels, at, source_of(spec.name, pin, as_of))


def _lake_labels(
    table: pa.Table, task: Task | None, output: TensorSpec | None
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Return the labels in the type of the model's output, and which rows have a valid one."""
    if task == "classification" and output is not None and output.datatype == "BYTES":
        names = label_names(table["label"])
        return names.to_numpy(zero_copy_only=False), names.is_valid().to_numpy(zero_copy_only=False)
    numbers = floats(table["label_number"])
    known = np.isfinite(numbers)
    if task == "classification":
        known &= numbers == np.floor(numbers)
        return np.where(known, numbers, 0).astype(np.int64), known
    return numbers, known


def from_file(
    path: Path,
    task: Task,
    label: str,
    time_column: str | None,
    drop: Sequence[str] = (),
    form: CsvForm = FOUND,
    say: Callable[[str], None] = lambda _: None,
) -> Dataset:
    """Read all rows of a parquet or CSV file that have a label, sorted by `time_column`, or in the
    file's order.

    form: the format of a CSV file, as far as it is not detected; the detected format is reported.
    Raises Rejected, naming the column, if one is missing or cannot be a model input.
    """
    rows, columns = file_rows(path, (label,), time_column, drop, form, say)
    return replace(rows, labels=file_labels(columns[label], task))


def file_rows(
    path: Path,
    labels: Sequence[str],
    time_column: str | None,
    drop: Sequence[str] = (),
    form: CsvForm = FOUND,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Dataset, pa.Table]:
    """The rows that have one of these labels, as `from_file`, still without labels, and the columns
    of the labels."""
    table = _read(path, form, say)
    missing = sorted({*labels, *drop, *filter(None, [time_column])} - set(table.column_names))
    if missing:
        raise Rejected(f"{path.name} has no column {missing[0]!r}; it has {table.column_names}")
    check_feature_names(name for name in table.column_names if name not in drop)
    known = [np.asarray(pc.is_valid(table[label]).to_numpy()) for label in labels]
    table = table.filter(pa.array(np.logical_or.reduce(known)))
    if time_column is not None:
        table = table.sort_by(time_column)
    at = np.arange(table.num_rows).astype("datetime64[us]")
    if time_column is not None and pa.types.is_timestamp(table[time_column].type):
        at = table[time_column].cast(pa.timestamp("us")).to_numpy()
    names = [n for n in table.column_names if n not in {*labels, time_column, *drop}]
    columns = {name: _feature(name, table[name]) for name in names}
    if not columns or not table.num_rows:
        raise Rejected(
            f"{path.name} has no {'feature columns' if not columns else 'labelled rows'}"
        )
    none = np.empty(table.num_rows)
    rows = dataset_of(pa.table(columns), none, at, f"file {path.name}")
    return rows, table.select(list(labels))


def _read(path: Path, form: CsvForm, say: Callable[[str], None]) -> pa.Table:
    if not path.is_file():
        raise Rejected(f"there is no file {path}")
    try:
        if is_csv(path):
            table, found = read_csv(path, form)
            if found not in USUAL:
                say(f"{path.name} is read as {found.words()}")
            return table
        import pyarrow.parquet as pq

        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise Rejected(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from None


def _feature(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert the column to one of the four types that a model accepts."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type) and not column.null_count:
        return column
    if pa.types.is_integer(column.type) and not column.null_count:
        return column.cast(pa.int64())
    # Integers and booleans with missing values become floats, which have NaN for that.
    numeric = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    if numeric or pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type):
        return column.cast(pa.float32(), safe=False)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return pc.fill_null(column.cast(pa.string()), "")
    raise Rejected(f"column {name!r} is {column.type}, which no model accepts: drop or convert it")


def file_labels(column: pa.ChunkedArray, task: Task) -> NDArray[np.generic]:
    """A column without nulls, in the type that the task learns. Raises Rejected for another."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if task == "regression":
        if text:
            raise Rejected("the label of a regression must be a number")
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    if text:
        return np.array(column.to_pylist(), dtype=object)
    try:
        return np.asarray(column.cast(pa.int64()).to_numpy(), np.int64)
    except pa.ArrowInvalid:
        raise Rejected("the label of a classification must be whole numbers or texts") from None


_TENSORS: tuple[tuple[pa.DataType, Datatype], ...] = (
    (pa.bool_(), "BOOL"), (pa.int64(), "INT64"), (pa.float32(), "FP32"), (pa.string(), "BYTES"),
)  # fmt: skip


def input_tensors(features: pa.Table) -> tuple[TensorSpec, ...]:
    """Return one tensor [-1, 1] for each column of a file's features."""
    datatypes = dict(_TENSORS)
    return tuple(TensorSpec(f.name, datatypes[f.type], (-1, 1)) for f in features.schema)


@dataclass(frozen=True)
class Split:
    """train | validation | hold-out, each newer than the previous one. `fresh_from`: the first row
    of train + validation since the change; None if no change is known."""

    train: Dataset
    validation: Dataset
    holdout: Dataset
    fit: Dataset
    """train + validation: the data of the winner's final training."""
    fresh_from: int | None

    @property
    def fresh_rows(self) -> int:
        """Of all parts."""
        rows = self.fit.rows + self.holdout.rows
        return 0 if self.fresh_from is None else rows - self.fresh_from

    @property
    def words(self) -> str:
        """How many rows there are, and how many since the change."""
        since = f", {self.fresh_rows:,} of them since the change" if self.fresh_rows else ""
        return f"{self.fit.rows + self.holdout.rows:,} labelled rows{since}"


def split(data: Dataset, settings: RetrainSettings, change_at: datetime | None) -> Split:
    """Split the rows by time. Raises Rejected if a part would be empty."""
    fresh_from = None
    holdout = int(data.rows * settings.holdout_share)
    validation = int(data.rows * settings.validation_share)
    if change_at is not None:
        start = int(np.searchsorted(data.at, np.datetime64(change_at.replace(tzinfo=None), "us")))
        fresh = data.rows - start
        if start and fresh >= MIN_FRESH_ROWS:
            fresh_from = start
            holdout = min(holdout, int(fresh * FRESH_HOLDOUT_SHARE))
            validation = min(validation, int(fresh * FRESH_VALIDATION_SHARE))
    fit = data.rows - holdout
    train = fit - validation
    if not (holdout and validation and train):
        raise Rejected(f"{data.rows} labelled rows are too few to train on")
    return Split(
        data.slice(0, train),
        data.slice(train, fit),
        data.slice(fit, data.rows),
        data.slice(0, fit),
        fresh_from,
    )


@dataclass(frozen=True)
class Span:
    """A way to use the rows before a change; `words`: its description."""

    name: str
    words: str


ALL = Span("all", "all rows")
RECENT = Span("recent", "all rows, those since the change weighted up")
SINCE_CHANGE = Span("since_change", "only the rows since the change")
ENOUGH_ALONE = 10_000
"""The number of fresh rows from which training without the old ones is tried. Measured on car_loan:
with 2,000 to 8,000 fresh rows alone, a candidate is 2 points worse than with the old rows."""


def spans(parts: Split) -> tuple[Span, ...]:
    """Return the competing spans, starting with the default choice."""
    if parts.fresh_from is None:
        return (ALL,)
    fresh = parts.train.rows - parts.fresh_from
    return (RECENT, ALL, SINCE_CHANGE) if fresh >= ENOUGH_ALONE else (RECENT, ALL)


def spanned(data: Dataset, span: Span, fresh_from: int | None) -> Dataset:
    """Select the span's rows of train (or train + validation). With `recent`, the rows since the
    change have the same total weight as those before it."""
    if span == ALL or fresh_from is None:
        return data
    if span == SINCE_CHANGE:
        return data.slice(fresh_from, data.rows)
    weights = np.ones(data.rows)
    weights[fresh_from:] = max(1.0, fresh_from / max(1, data.rows - fresh_from))
    return data.weighted(weights / weights.mean())
