"""The columns of a model's views, without opening DuckDB."""

from collections.abc import Mapping

import pyarrow as pa

from driftloop_contracts.errors import NotFound
from driftloop_contracts.events import LABEL_SCHEMA
from driftloop_lake import layout
from driftloop_lake.columns import named
from driftloop_lake.lake_table import LakeTable
from driftloop_lake.views import KEY, LABEL, NO_SHADOWS, column_names

ViewColumns = Mapping[str, Mapping[str, str]]
"""View → column → Arrow type, in their order. `any`: of a label, which is of the type that the
model's output has."""


def view_columns(lake: str, model: str) -> ViewColumns:
    """model: a name that a deployment has. Raises NotFound if the lake has no prediction of it,
    RetryLater."""
    table = LakeTable.open(layout.predictions_uri(lake, model))
    if table is None or table.version == 0:  # 0: created, no rows yet
        raise NotFound(f"the lake has no prediction of {model!r}")
    shadows = LakeTable.open(layout.shadows_uri(lake, model))
    unseen = _types(NO_SHADOWS if shadows is None else shadows.schema)
    columns = _types(table.schema)
    key = {name: str(columns[name]) for name in KEY}
    fields = {field.name: str(field.type) for field in LABEL_SCHEMA}
    label = {name: fields.get(name, "string") for name in LABEL} | {"value": "any"}
    own = ("prediction_id", "row", "value", "observed_at", "received_at", "source", "metric")
    labels = {name: fields[name] for name in own} | {"value": "any"}
    return {
        "predictions": key | _tensors(columns, KEY),
        "labelled": key | _tensors(columns, (*KEY, *LABEL)) | label,
        "labels": labels | dict.fromkeys(("tags", "value_json"), "string"),
        "shadows": {name: str(unseen[name]) for name in KEY} | _tensors(unseen, KEY),
    }


def _types(schema: pa.Schema) -> dict[str, pa.DataType]:
    return {name: type_ for name, (_, type_) in named(schema).items()}


def _tensors(columns: Mapping[str, pa.DataType], taken: tuple[str, ...]) -> dict[str, str]:
    names = column_names(list(columns), taken)
    return {name: str(columns[column]) for column, name in names.items()}
