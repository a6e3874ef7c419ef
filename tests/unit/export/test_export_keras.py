"""Keras models on the torch backend."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_rows import Rows

from driftloop_contracts.errors import Rejected
from driftloop_export import NotExportable, export
from driftloop_export.keras_adapter import check_backend
from driftloop_onnx import OnnxModel

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

if keras.backend.backend() != "torch":
    pytest.skip("another backend of Keras is asked for", allow_module_level=True)


def network(width: int, outputs: int, last: str | None, loss: Any) -> Any:
    keras.utils.set_random_seed(0)
    inside = [keras.layers.BatchNormalization(), keras.layers.Dense(8, "relu")]
    layers = [keras.Input((width,)), *inside, keras.layers.Dense(outputs, last)]
    model = keras.Sequential(layers)
    model.compile(loss=loss)
    return model


LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    ("outputs", "last", "loss"),
    [(1, "sigmoid", "binary_crossentropy"), (2, "softmax", None), (2, None, LOGITS)],
)
def test_two_classes_as_probabilities_and_as_logits(
    outputs: int, last: str | None, loss: Any, loans: Rows, tmp_path: Path
) -> None:
    rows = loans.numbers
    model = network(rows.x.shape[1], outputs, last, loss)
    made = export(model, rows.sample, "m", labels=rows.labels, output=tmp_path)
    assert (made.task, made.rows) == ("classification", len(rows.sample))
    assert made.largest_difference <= 1e-5
    native = model.predict(rows.sample.to_numpy(np.float32), verbose=0)
    if last is not None:
        answer = OnnxModel(tmp_path).run({n: rows.sample[[n]].to_numpy() for n in rows.x})
        np.testing.assert_allclose(answer["probabilities"][:, -1], native[:, -1], atol=1e-5)


def test_classes_with_names(cards: Rows, tmp_path: Path) -> None:
    rows, names = cards.numbers, sorted(set(cards.y))
    model = network(rows.x.shape[1], 3, "softmax", None)
    export(model, rows.sample, "m", labels=rows.labels, output=tmp_path, classes=names)
    answer = OnnxModel(tmp_path).run({n: rows.sample[[n]].to_numpy() for n in rows.x})
    assert set(answer["label"].tolist()) <= set(names)


def test_a_value(prices: Rows, tmp_path: Path) -> None:
    rows = prices.numbers
    made = export(network(rows.x.shape[1], 1, None, "mse"), rows.sample, "m", output=tmp_path)
    assert made.task == "regression"


@pytest.mark.parametrize("form", [list, dict])
def test_columns_by_the_names_of_the_inputs(form: type, tmp_path: Path) -> None:
    age, city = keras.Input((1,), name="age"), keras.Input((1,), name="city", dtype="int64")
    place = keras.layers.Flatten()(keras.layers.Embedding(5, 3)(city))
    value = keras.layers.Dense(1)(keras.layers.Concatenate()([age, place]))
    inputs = [age, city] if form is list else {"age": age, "city": city}
    rows = {"age": np.arange(60) / 10, "city": np.arange(60) % 5}
    export(keras.Model(inputs, value), rows, "m", output=tmp_path, task="regression")
    signature = OnnxModel(tmp_path).signature
    assert [(t.name, t.datatype) for t in signature.inputs] == [("age", "FP64"), ("city", "INT64")]


def test_what_does_not_fit_is_refused_with_the_way_out(loans: Rows, tmp_path: Path) -> None:
    numbers, width = loans.numbers.sample, loans.numbers.x.shape[1]
    plain = network(width, 1, None, None)
    with pytest.raises(Rejected, match="task='classification'"):
        export(plain, numbers, "m", output=tmp_path)
    with pytest.raises(Rejected, match=r"does not answer the sample's columns.*expected"):
        export(plain, numbers.iloc[:, :2], "m", output=tmp_path, task="regression")
    with pytest.raises(NotExportable, match=r"'salary_range' holds texts.*codes"):
        export(plain, loans.sample, "m", output=tmp_path, task="regression")
    with pytest.raises(NotExportable, match="no weights yet"):
        export(keras.Sequential(), numbers, "m", output=tmp_path, task="regression")


def test_another_backend_is_refused_with_the_way_out() -> None:
    with pytest.raises(NotExportable, match=r"runs on tensorflow.*KERAS_BACKEND=torch"):
        check_backend("tensorflow")
