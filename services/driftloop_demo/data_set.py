"""The car loan data set: rows to train on and requests to send."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FILE = Path(__file__).parent / "data" / "car_loan.parquet"
MODEL, LABEL, TIME = "car_loan", "repaid", "timestamp"
NOT_FEATURES = ("id", TIME, LABEL, "part")
DRIFT_ROW = 75_000
DATATYPES = {"float": "FP32", "bool": "BOOL", "string": "BYTES"}


@dataclass(frozen=True, slots=True)
class LiveRows:
    """Rows in time order: a list of values for each feature, and the labels, which are sent
    later."""

    features: dict[str, tuple[str, list[Any]]]
    labels: list[int]
    drift_at: int

    def request(self, start: int, stop: int) -> dict[str, Any]:
        """Return the protocol's request for the rows from `start` up to, not including, `stop`."""
        return {
            "inputs": [
                {
                    "name": name,
                    "datatype": datatype,
                    "shape": [stop - start, 1],
                    "data": values[start:stop],
                }
                for name, (datatype, values) in self.features.items()
            ]
        }


def write_reference(table: pa.Table, path: Path) -> None:
    """Write the reference part to a file for `driftloop train`."""
    pq.write_table(table.filter(pc.equal(table["part"], "reference")).drop_columns(["part"]), path)


def live_rows(table: pa.Table, label: str = LABEL) -> LiveRows:
    live = table.filter(pc.equal(table["part"], "live"))
    features = {
        name: (DATATYPES[str(live.schema.field(name).type)], live[name].to_pylist())
        for name in live.column_names
        if name not in (*NOT_FEATURES, label)
    }
    drift_at = pc.sum(pc.less(live["id"], DRIFT_ROW)).as_py()
    return LiveRows(features, live[label].to_pylist(), drift_at)


def loans() -> pa.Table:
    """All rows, in order of time; `id` is the number of a row."""
    table = pq.read_table(FILE)
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(index, field.name, table[field.name].cast(pa.string()))
    return table
