"""Hugging Face text classifiers: texts in, classes out, by one file."""

import json
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from tiny_classifier import TEXTS, tiny_classifier

from driftloop_contracts.errors import Rejected
from driftloop_export import NotExportable, export
from driftloop_onnx import OnnxModel, first_load, parse_options
from driftloop_onnx.tokenizer_step import KEY
from driftloop_onnx.warm_up import mixes_rows

FRAME = pd.DataFrame({"comment": TEXTS * 10})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    made = export(tiny_classifier(), FRAME, "topics", output=folder)
    assert (made.rows, made.task) == (len(FRAME), "classification")
    assert made.largest_difference <= 1e-5
    return folder


def test_the_graph_takes_texts_and_answers_as_the_model_does(exported: Path) -> None:
    graph = OnnxModel(exported)
    assert [t.to_dict() for t in graph.signature.inputs] == [
        {"name": "comment", "datatype": "BYTES", "shape": [-1, 1]}
    ]
    model, tokenizer = tiny_classifier()
    asked = TEXTS[:3]
    tokens = tokenizer(asked, padding=True, truncation=True, max_length=64, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    native = model(**tokens).logits.softmax(1).detach().numpy()
    answer = graph.run({"comment": np.array(asked, dtype=object).reshape(-1, 1)})
    np.testing.assert_allclose(answer["probabilities"], native, atol=1e-6)
    assert answer["label"].tolist() == [f"topic {i}" for i in native.argmax(1)]


def test_requests_share_a_run_and_a_child_process_loads_it(exported: Path) -> None:
    assert mixes_rows(OnnxModel(exported)) is None
    assert first_load(exported, parse_options({})).inputs[0].name == "comment"


def test_no_rows_are_answered_by_none(exported: Path) -> None:
    answer = OnnxModel(exported).run({"comment": np.empty((0, 1), dtype=object)})
    assert answer["probabilities"].shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": {"other": "ids"}}, "takes"),
        ({"inputs": {"input_ids": "nonsense"}}, "nonsense"),
        ({"tokenizer": {"version": "1.0"}}, "cannot be read"),
        ({"columns": []}, r"takes \(\)"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused(
    change: dict[str, object], words: str, exported: Path, tmp_path: Path
) -> None:
    graph = onnx.load(exported / "model.onnx")
    entry = next(each for each in graph.metadata_props if each.key == KEY)
    entry.value = json.dumps(json.loads(entry.value) | change)
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(Rejected, match=words):
        OnnxModel(tmp_path)


def test_a_model_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    model, tokenizer = tiny_classifier()
    with pytest.raises(NotExportable, match="with its tokenizer"):
        export(model, FRAME, "m", output=tmp_path)
    with pytest.raises(NotExportable, match="one column of texts"):
        export((model, tokenizer), pd.DataFrame({"a": [1.0]}), "m", output=tmp_path)
    tokenizer.pad_token = None
    with pytest.raises(NotExportable, match="pad_token"):
        export((model, tokenizer), FRAME, "m", output=tmp_path)


def test_a_value_of_texts_some_of_which_are_missing(tmp_path: Path) -> None:
    texts = pd.DataFrame({"comment": [*TEXTS, None] * 5})
    made = export(tiny_classifier(classes=1), texts, "stars", output=tmp_path)
    assert (made.task, made.rows) == ("regression", len(texts))
    # To a graph a missing text is an empty one, and so it is to the model.
    asked = np.array(["", "Dogs bark, loudly!"], dtype=object).reshape(-1, 1)
    answer = OnnxModel(tmp_path).run({"comment": asked})["value"]
    model, tokenizer = tiny_classifier(classes=1)
    tokens = tokenizer(asked[:, 0].tolist(), padding=True, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    native = model(**tokens).logits.detach().numpy()[:, 0]
    np.testing.assert_allclose(answer, native, atol=1e-5)
