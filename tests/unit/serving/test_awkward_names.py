"""Column names of any kind work everywhere: training, export, serving, capture, lake, queries, and
retraining."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from awkward_names import AWKWARD_NAMES
from lake_records import label_message, message
from serving_port import serving_port

from driftloop_contracts.events import INPUT_PREFIX, PREDICTIONS
from driftloop_contracts.model import ModelSpec, ServedVersion
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.views import open_views
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record
from driftloop_monitoring.state import reference
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.dataset import from_lake
from driftloop_retrain.tabular.initial_training import train_first
from driftloop_serving.capture.packing import pack
from driftloop_settings import Settings

ROWS, TEXTS = 400, AWKWARD_NAMES[::7]
LABEL = "was it so?"


def table() -> pa.Table:
    """Return texts in every seventh column and numbers in the others, which determine the label."""
    dice = np.random.default_rng(0)
    numbers = {name: dice.normal(size=ROWS).astype(np.float32) for name in AWKWARD_NAMES}
    total = sum(numbers[name] for name in AWKWARD_NAMES if name not in TEXTS)
    texts = {name: [f"{name}{i % 3}" for i in range(ROWS)] for name in TEXTS}
    return pa.table(numbers | texts | {LABEL: (total > 0).astype(np.int64)})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("awkward")
    pq.write_table(table(), folder / "rows.parquet")
    train_first(
        Settings(state_dir=folder),
        folder / "rows.parquet",
        name="m",
        label=LABEL,
        task="classification",
        output=folder / "out",
        time_column=None,
        drop=(),
        families=("gradient-boosting",),
        say=lambda _: None,
    )
    return folder / "out"


def spec_of(folder: Path) -> ModelSpec:
    document = yaml.safe_load((folder / "model.yaml").read_text())
    return ModelSpec.from_dict(
        {name: document[name] for name in document if name not in ("model", "reference")}
    )


def test_the_graph_has_the_users_names_and_outputs_that_make_room(trained: Path) -> None:
    signature = OnnxModel(trained).signature
    assert tuple(tensor.name for tensor in signature.inputs) == AWKWARD_NAMES
    spec = spec_of(trained)
    assert spec.output == "label__"  # `label` and `label_` are columns of the user's
    assert spec.output in {tensor.name for tensor in signature.outputs}


def test_the_reference_is_read_as_it_was_written(trained: Path) -> None:
    served = ServedVersion(1, str(trained), OnnxModel(trained).signature)
    known = reference.load(spec_of(trained), served, trained / "none")
    assert known is not None
    assert known.rows == 60  # the hold-out: 15 %


async def test_predictions_are_served_kept_queried_and_read_to_train_again(
    trained: Path, tmp_path: Path
) -> None:
    sent = table().slice(0, 3).drop_columns([LABEL])
    inputs = [
        {
            "name": name,
            "datatype": "BYTES" if name in TEXTS else "FP32",
            "shape": [3, 1],
            "data": sent[name].to_pylist(),
        }
        for name in AWKWARD_NAMES
    ]
    async with serving_port(tmp_path) as port:
        port.deploy(trained)
        answer = await port.http.post("/v2/models/m/infer", json={"inputs": inputs})
        assert answer.status_code == 200, answer.text
        batches = port.kept()
    prediction_id = answer.headers["x-prediction-id"]
    records = [
        read_record(message(PREDICTIONS, value or b"", number, headers.encode()))
        for number, (headers, value) in enumerate(pack(batches, "r", 1_000, 1 << 20))
    ]
    told = read_record(label_message(0, prediction_id=prediction_id, label=[1, 0, 1]))
    LakeWriter(str(tmp_path / "lake")).append([*records, told])

    spec, signature = spec_of(trained), OnnxModel(trained).signature
    lake = DeltaLake(str(tmp_path / "lake"))
    pin = lake.pin("m")
    assert pin is not None
    now = datetime.now(UTC) + timedelta(days=1)
    data = from_lake(lake, spec, signature, pin, now, 100)
    assert data.features.column_names == list(AWKWARD_NAMES)
    assert data.features.to_pylist() == sent.to_pylist()
    assert data.labels.tolist() == [1, 0, 1]

    views = open_views(str(tmp_path / "lake"), "m", output=spec.output)
    for name in AWKWARD_NAMES:
        called = views.tensors[INPUT_PREFIX + name].replace('"', '""')
        (batch,) = views.ask(f'SELECT "{called}" FROM predictions ORDER BY row')
        assert batch.column(0).to_pylist() == sent[name].to_pylist()
