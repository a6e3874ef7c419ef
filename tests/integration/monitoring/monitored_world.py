"""A lake in memory with a model that answers, and whose world changes at a row."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_lake.port import LakeCounts, Pin

START = datetime(2026, 11, 24, tzinfo=UTC)
SPEC = ModelSpec("loans", "classification", "label", "gradient-boosting")
SIGNATURE = Signature(
    (TensorSpec("amount", "FP32", (-1, 1)), TensorSpec("city", "BYTES", (-1, 1))),
    (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 2))),
)


def rows(
    first: int,
    count: int,
    *,
    error: float = 0.05,
    shift: float = 0.0,
    missing: bool = False,
    labelled: int | None = None,
    version: int = 1,
    seed: int = 0,
) -> pa.Table:
    """Row i was predicted at START + i·2 ms. `labelled`: only this many of them have labels."""
    r = np.random.default_rng([seed, abs(first)])
    truth = r.integers(0, 2, count)
    answer = np.where(r.random(count) < error, 1 - truth, truth)
    known = np.arange(count) < (count if labelled is None else labelled)
    p = np.where(answer == 1, 0.9, 0.1)
    at = [START + timedelta(milliseconds=2 * (first + i)) for i in range(count)]
    amounts: list[float | None] = [None] * count if missing else list(r.normal(shift, 1, count))
    return pa.table(
        {
            "prediction_id": [f"{first + i:+012d}" for i in range(count)],
            "row": pa.array([0] * count, pa.int32()),
            "version": pa.array([version] * count, pa.int32()),
            "arm": ["stable"] * count,
            "predicted_at": pa.array(at, pa.timestamp("us", tz="UTC")),
            "in_amount": pa.array(amounts, pa.float32()),
            "in_city": list(r.choice(["bonn", "lyon", "oslo"], count)),
            "out_label": pa.array(answer, pa.int64()),
            "out_probabilities": pa.array([[1 - x, x] for x in p], pa.list_(pa.float32())),
            "label": pa.array(np.where(known, truth.astype(str), None).tolist(), pa.string()),
            "label_number": pa.array(
                np.where(known, truth, np.nan), pa.float64(), from_pandas=True
            ),
            "label_at": pa.array(at, pa.timestamp("us", tz="UTC")),
        }
    )


class MemoryLake:
    """A LakeReader over tables in memory; each `put` is a version."""

    def __init__(self) -> None:
        self._versions: list[pa.Table] = []
        self.oldest_read: list[int] = []
        """How many rows each read of the oldest ones returned."""
        self.said: dict[str, dict[str, tuple[str, datetime]]] = {}
        """By another metric than `label` and prediction id: the label as JSON, and when it was
        received."""

    def put(self, *tables: pa.Table) -> None:
        """The lake now holds just these rows."""
        self._versions.append(pa.concat_tables(tables))

    def pin(self, model: str) -> Pin | None:
        newest = len(self._versions) - 1
        return Pin(newest, newest) if self._versions else None

    def labelled(
        self,
        model: str,
        pin: Pin,
        *,
        as_of: datetime | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        newest: int | None = None,
        oldest: int | None = None,
        versions: tuple[int, ...] = (),
        arm: str | None = None,
        only_labelled: bool = True,
        metric: str = "label",
        tags: bool = False,
    ) -> pa.Table:
        table = self._versions[pin.predictions]
        if metric != "label":
            table = self._with(table, self.said.get(metric, {}), as_of)
        if since is not None:
            table = table.filter(pc.greater_equal(table["predicted_at"], pa.scalar(since)))
        if until is not None:
            table = table.filter(pc.less(table["predicted_at"], pa.scalar(until)))
        if versions:
            table = table.filter(pc.is_in(table["version"], pa.array(versions, pa.int32())))
        if only_labelled:
            table = table.filter(pc.is_valid(table["label"]))
        if arm is not None:
            table = table.filter(pc.equal(table["arm"], arm))
        table = table.sort_by([("predicted_at", "ascending"), ("prediction_id", "ascending")])
        if oldest is not None:
            table = table[:oldest]
            self.oldest_read.append(table.num_rows)
        return table if newest is None else table[max(0, table.num_rows - newest) :]

    @staticmethod
    def _with(
        table: pa.Table, said: dict[str, tuple[str, datetime]], as_of: datetime | None
    ) -> pa.Table:
        heard = {k: s for k, s in said.items() if as_of is None or s[1] <= as_of}
        told = [heard.get(name, (None, None)) for name in table["prediction_id"].to_pylist()]
        kept = [n for n in table.column_names if n not in ("label", "label_number", "label_at")]
        at = pa.array([when for _, when in told], pa.timestamp("us", tz="UTC"))
        table = table.select(kept).append_column("label_at", at)
        return table.append_column("label", pa.array([text for text, _ in told], pa.string()))

    def most_after(self, model: str, pin: Pin, since: datetime | None) -> int:
        return self.labelled(model, pin, since=since, only_labelled=False).num_rows

    def count(self, model: str, pin: Pin) -> LakeCounts:
        table = self._versions[pin.predictions]
        return LakeCounts(table.num_rows, 0, table["label"].drop_null().length())

    def missing(self, model: str, pin: Pin, version: int, replicas: Iterable[str]) -> int:
        return 0

    def unmatched_labels(self) -> int:
        return 0


def served(folder: Path, version: int, reference: bool = True) -> ServedVersion:
    folder = folder / f"v{version}"
    folder.mkdir(parents=True, exist_ok=True)
    if reference:
        pq.write_table(rows(-(10**7), 8_000, seed=9), folder / "reference.parquet")
    return ServedVersion(version, str(folder), SIGNATURE)


def deployment(folder: Path, reference: bool = True) -> Deployment:
    return Deployment(SPEC, (served(folder, 1, reference),), TrafficSplit(1))
