"""The folder that an export writes, and samples that do not fit."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.model_archive import pack
from driftloop_export import NotExportable, export
from driftloop_export.sample import sample_of
from driftloop_gateway.intake_graph import read_graph
from driftloop_settings import Settings

FRAME = pd.DataFrame({"a": np.arange(30.0), "b": np.arange(30.0) % 4})
MODEL = LinearRegression().fit(FRAME, FRAME.a * 2 - FRAME.b)


def test_deploy_takes_the_folder(tmp_path: Path) -> None:
    made = export(MODEL, FRAME, "loans", labels=FRAME.a, output=tmp_path / "made")
    archive, arrived = io.BytesIO(), tmp_path / "arrived"
    pack(archive, made.folder, {})
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        tar.extractall(arrived, filter="data")
    document = json.loads((arrived / "model.json").read_text())
    found = read_graph(document, arrived, None, tmp_path, Settings(state_dir=tmp_path / "state"))
    assert found.spec == ModelSpec("loans", "regression", "value")
    assert [t.name for t in found.signature.inputs] == ["a", "b"]


def test_a_rare_class_suggests_an_objective_and_one_of_the_users_own_holds(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(1_000.0), "b": np.arange(1_000.0) % 4})
    rare = (frame.a < 30).astype(int)
    model = DecisionTreeClassifier(max_depth=2).fit(frame, rare)
    export(model, frame, "m", labels=rare, output=tmp_path)
    written = (tmp_path / "model.yaml").read_text()
    assert "# judged by the balanced error: the class 1 is 3.00% of the rows" in written
    assert ModelSpec.from_dict(spec_of(written)).objective is not None
    export(model, frame, "m", labels=rare, output=tmp_path, objective={"metric": "brier"})
    assert spec_of((tmp_path / "model.yaml").read_text())["objective"] == {"metric": "brier"}
    export(model, frame, "m", labels=frame.b % 2 == 0, output=tmp_path)
    assert "objective" not in spec_of((tmp_path / "model.yaml").read_text())


def spec_of(text: str) -> dict[str, Any]:
    document = yaml.safe_load(text)
    return {k: v for k, v in document.items() if k not in ("model", "reference", "signature")}


def test_the_reference_has_the_rows_the_answers_and_the_labels(tmp_path: Path) -> None:
    export(MODEL, FRAME, "loans", labels=FRAME.a, output=tmp_path)
    table = pq.read_table(tmp_path / "reference.parquet")
    assert table.column_names == ["in_a", "in_b", "out_value", "label", "label_number"]
    np.testing.assert_allclose(table["out_value"], MODEL.predict(FRAME), rtol=1e-5)
    assert table["label_number"].to_pylist() == FRAME.a.tolist()


def test_the_record_names_the_hash_the_rows_and_the_environment(tmp_path: Path) -> None:
    made = export(MODEL, FRAME, "loans", output=tmp_path)
    record = json.loads((tmp_path / "export.json").read_text())
    assert record["sha256"] == made.sha256
    assert record["rows_compared"] == 30
    assert {"python", "onnx", "scikit-learn"} <= set(record["environment"])
    assert made.sha256 in (tmp_path / "model.yaml").read_text()


def test_names_that_outputs_have_may_be_columns(tmp_path: Path) -> None:
    frame = FRAME.rename(columns={"a": "value", "b": "matrix"})
    export(LinearRegression().fit(frame, FRAME.a), frame, "m", output=tmp_path)
    assert yaml.safe_load((tmp_path / "model.yaml").read_text())["output"] == "value_"


@pytest.mark.parametrize(
    "sample",
    [
        FRAME,
        FRAME[["b", "a"]],
        pa.Table.from_pandas(FRAME),
        {name: FRAME[name].to_numpy() for name in FRAME},
        {name: FRAME[name].to_list() for name in FRAME},
    ],
)
def test_any_form_of_a_sample(sample: Any, tmp_path: Path) -> None:
    assert export(MODEL, sample, "m", output=tmp_path).rows == 30


def test_a_polars_frame(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    assert export(MODEL, polars.from_pandas(FRAME), "m", output=tmp_path).rows == 30


@pytest.mark.parametrize(
    ("sample", "sentence"),
    [
        (FRAME[:0], "no rows"),
        (FRAME[["a"]], "trained on 'b', which the sample lacks"),
        (FRAME.assign(c=1), "not trained on 'c': drop"),
        (FRAME.assign(b=pd.Timestamp("2020-01-01")), r"column 'b'.*timestamp.*numbers or texts"),
        (FRAME.assign(b=[1, "x"] * 15), "column 'b'.*several types"),
        (FRAME.to_numpy(), "ndarray; give a pandas"),
        ({"a": np.arange(3.0), "b": np.arange(4.0)}, "differ in length"),
        (FRAME.rename(columns={"b": 1}), "no text as its name"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_with_a_sentence(
    sample: Any, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(Rejected, match=sentence):
        export(MODEL, sample, "m", output=tmp_path)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "no name"}, "model name"),
        ({"task": "ranking"}, "classification or regression"),
        ({"task": "classification"}, "the model does regression"),
        ({"labels": [1.0]}, "1 labels for 30 rows"),
        ({"labels": [None] * 30}, "no label"),
        ({"labels": ["x"] * 30}, "predicts numbers"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=sentence):
        export(MODEL, FRAME, **{"name": "m", "output": tmp_path, **options})


def test_a_model_of_no_known_framework_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotExportable, match=r"deploy model\.onnx"):
        export(object(), FRAME, "m", output=tmp_path)


def test_missing_texts_and_numbers_are_kept() -> None:
    frame = pd.DataFrame({"city": ["Ulm", None], "n": pd.array([1, None], dtype="Int64")})
    sample = sample_of(frame, None)
    assert sample.table["city"].null_count == 1
    feeds = sample.feeds()
    assert feeds["city"].tolist() == [["Ulm"], [""]]
    assert np.isnan(feeds["n"][1, 0])
    assert [t.datatype for t in sample.inputs] == ["BYTES", "FP64"]
