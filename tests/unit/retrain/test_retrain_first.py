from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.objective_losses import objective_losses
from driftloop_evaluation.served_objectives import served_objectives
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.initial_training import train_first
from driftloop_retrain.tabular.recipes.check import example
from driftloop_settings import RetrainSettings, Settings


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_first_version_is_ready_to_be_deployed(tmp_path: Path, task: str) -> None:
    data = example(task)  # type: ignore[arg-type]
    pq.write_table(
        data.features.append_column("y", pa.array(data.labels)), tmp_path / "rows.parquet"
    )
    said: list[str] = []
    made = train_first(
        Settings(state_dir=tmp_path, retrain=RetrainSettings(budget_s=0)),
        tmp_path / "rows.parquet",
        name="m",
        label="y",
        task=task,
        output=tmp_path / "out",
        time_column=None,
        drop=(),
        families=("gradient-boosting",),
        say=said.append,
    )
    document = yaml.safe_load(Path(made["spec"]).read_text())
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"model.yaml", document.pop("model"), document.pop("reference")}
    assert ModelSpec.from_dict(document).recipe == "tabular"
    output = {t.name for t in OnnxModel(tmp_path / "out").signature.outputs}
    assert document["output"] in output
    assert made["family"] == "gradient-boosting"
    assert made["metrics"]
    assert any("gradient-boosting" in sentence for sentence in said)


def test_a_regression_may_have_an_interval_that_is_watched(tmp_path: Path) -> None:
    data = example("regression", rows=2_400)
    table = data.features.append_column("y", pa.array(data.labels))
    pq.write_table(table, tmp_path / "rows.parquet")
    made = train_first(
        Settings(state_dir=tmp_path, retrain=RetrainSettings(interval=0.9)),
        tmp_path / "rows.parquet",
        name="m",
        label="y",
        task="regression",
        output=tmp_path / "out",
        time_column=None,
        drop=(),
        families=("gradient-boosting",),
        say=lambda _: None,
    )
    document = yaml.safe_load(Path(made["spec"]).read_text())
    spec = ModelSpec.from_dict({k: document[k] for k in document.keys() - {"model", "reference"}})
    assert [g.metric for g in spec.guardrails] == ["coverage"]
    assert spec.policy == {"retrain": {"interval": 0.9}}
    served_objectives(spec, OnnxModel(tmp_path / "out").signature)
    reference = pq.read_table(tmp_path / "out" / "reference.parquet")
    low, high = (reference[f"out_{end}"].to_numpy() for end in ("lower", "upper"))
    labels = reference["label_number"].to_numpy()
    assert ((low <= labels) & (labels <= high)).mean() == pytest.approx(0.9, abs=0.06)


def test_a_classification_may_have_a_set_that_is_watched(tmp_path: Path) -> None:
    data = example("classification", rows=2_400)
    table = data.features.append_column("y", pa.array(data.labels))
    pq.write_table(table, tmp_path / "rows.parquet")
    made = train_first(
        Settings(state_dir=tmp_path, retrain=RetrainSettings(prediction_set=0.9, budget_s=0)),
        tmp_path / "rows.parquet",
        name="m",
        label="y",
        task="classification",
        output=tmp_path / "out",
        time_column=None,
        drop=(),
        families=("gradient-boosting",),
        say=lambda _: None,
    )
    document = yaml.safe_load(Path(made["spec"]).read_text())
    spec = ModelSpec.from_dict({k: document[k] for k in document.keys() - {"model", "reference"}})
    assert spec.policy == {"retrain": {"prediction_set": 0.9}}
    served_objectives(spec, OnnxModel(tmp_path / "out").signature)
    reference = pq.read_table(tmp_path / "out" / "reference.parquet")
    (guard,) = spec.guardrails
    outside = objective_losses(spec, guard, reference, {})
    assert outside.mean() == pytest.approx(0.1, abs=0.06)


def test_one_class_alone_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0] * 100, "y": [1] * 100}), tmp_path / "rows.parquet")
    with pytest.raises(Rejected, match="nothing to learn"):
        train_first(
            Settings(state_dir=tmp_path, retrain=RetrainSettings(budget_s=0)),
            tmp_path / "rows.parquet",
            name="m",
            label="y",
            task="classification",
            output=tmp_path / "out",
            time_column=None,
            drop=(),
            families=("gradient-boosting",),
            say=lambda _: None,
        )
