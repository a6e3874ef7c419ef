"""Models of MLflow: what is taken, and what is refused with the way out."""

import os
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from tiny_classifier import TEXTS, tiny_classifier

from driftloop_cli.model_uri import folder_of
from driftloop_cli.safe_formats import READERS
from driftloop_contracts.errors import NotFound, Rejected
from driftloop_export import log_model
from driftloop_onnx import OnnxModel

FRAME = pd.DataFrame({"a": np.arange(60.0) % 7, "b": np.arange(60.0) % 4})
LABELS = (FRAME.a > FRAME.b).astype(int)


@pytest.fixture
def server(mlflow_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    database = tmp_path / "mlflow.db"
    database.write_bytes(mlflow_database.read_bytes())
    uri = f"sqlite:///{database}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("e", artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow.set_experiment("e")
    return uri


@pytest.mark.usefixtures("server")
def test_what_is_logged_comes_back_whole(tmp_path: Path) -> None:
    model = LogisticRegression().fit(FRAME, LABELS)
    uri = log_model(model, FRAME, "loans", labels=LABELS)
    assert uri == "models:/loans/1"
    folder = folder_of(uri, None, tmp_path / "scratch")
    document = yaml.safe_load((folder / "model.yaml").read_text())
    assert (document["name"], document["task"], document["output"]) == (
        "loans", "classification", "label",
    )  # fmt: skip
    assert (folder / document["reference"]).is_file()
    feeds = {name: FRAME[[name]].to_numpy() for name in FRAME}
    answer = OnnxModel(folder / document["model"]).run(feeds)
    assert answer["label"].tolist() == model.predict(FRAME).tolist()


def booster() -> Any:
    return lightgbm.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 3},
        lightgbm.Dataset(FRAME, LABELS),
        5,
    )


@pytest.mark.usefixtures("server")
def test_a_booster_of_lightgbm_is_exported_with_the_rows_it_was_logged_with(
    tmp_path: Path,
) -> None:
    info = mlflow.lightgbm.log_model(
        booster(), name="m", input_example=FRAME, pip_requirements=["lightgbm"]
    )
    folder = folder_of(info.model_uri, "loans", tmp_path / "scratch")
    assert yaml.safe_load((folder / "model.yaml").read_text())["name"] == "loans"
    assert (folder / "model.onnx").is_file()


@pytest.mark.usefixtures("server")
def test_a_booster_without_rows_is_refused_with_the_way_out(tmp_path: Path) -> None:
    info = mlflow.lightgbm.log_model(booster(), name="m", pip_requirements=["lightgbm"])
    with pytest.raises(Rejected, match=r"input_example=frame"):
        folder_of(info.model_uri, "loans", tmp_path / "scratch")


@pytest.mark.usefixtures("server")
def test_a_pickle_is_refused_and_never_read(tmp_path: Path) -> None:
    model = LogisticRegression().fit(FRAME, LABELS)
    info = mlflow.sklearn.log_model(
        model, name="m", serialization_format="cloudpickle", pip_requirements=["scikit-learn"]
    )
    with pytest.raises(Rejected, match=r"without unpickling.*driftloop_export"):
        folder_of(info.model_uri, "loans", tmp_path / "scratch")


@pytest.mark.usefixtures("server")
def test_a_pipeline_in_the_form_of_skops_is_exported(tmp_path: Path) -> None:
    model = LogisticRegression().fit(FRAME, LABELS)
    info = mlflow.sklearn.log_model(
        model, name="m", serialization_format="skops", input_example=FRAME,
        pip_requirements=["scikit-learn"],
    )  # fmt: skip
    folder = folder_of(info.model_uri, "loans", tmp_path / "scratch")
    feeds = {name: FRAME[[name]].to_numpy() for name in FRAME}
    answer = OnnxModel(folder / "model.onnx").run(feeds)
    assert answer["label"].tolist() == model.predict(FRAME).tolist()


def test_a_form_of_skops_with_code_of_ones_own_is_refused(tmp_path: Path) -> None:
    class Mine(LogisticRegression):  # type: ignore[misc]
        pass

    for strange in (Mine(), FunctionTransformer(os.getcwd)):
        skops.io.dump(strange, tmp_path / "model.skops")
        with pytest.raises(Rejected, match=r"contains .*whose code would be run.*export"):
            READERS["sklearn"](tmp_path, {"serialization_format": "skops"})
    (tmp_path / "model.skops").write_bytes(b"nonsense")
    with pytest.raises(Rejected, match="cannot be read"):
        READERS["sklearn"](tmp_path, {"serialization_format": "skops"})


def test_a_text_classifier_is_read_from_its_weights_only(tmp_path: Path) -> None:
    model, tokenizer = tiny_classifier()
    flavor = {"task": "text-classification", "model_binary": "model"}
    with pytest.raises(Rejected, match="with their weights"):
        READERS["transformers"](tmp_path, flavor)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "components" / "tokenizer")
    read, words = READERS["transformers"](tmp_path, flavor)
    assert read.config.id2label == model.config.id2label
    assert words(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(Rejected, match="cannot be read"):
        READERS["transformers"](tmp_path, flavor)


@pytest.mark.usefixtures("server")
def test_an_unknown_model_names_the_server(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="MLFLOW_TRACKING_URI"):
        folder_of("models:/nothing/1", None, tmp_path / "scratch")
    with pytest.raises((NotFound, Rejected)):
        folder_of("runs:/" + "0" * 32 + "/m", None, tmp_path / "scratch")
