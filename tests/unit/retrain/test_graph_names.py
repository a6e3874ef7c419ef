from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from awkward_names import AWKWARD_NAMES
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop_contracts.errors import Rejected
from driftloop_contracts.graph_names import OUTPUTS, check_feature_names, output_name
from driftloop_contracts.signature import TensorSpec
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.recipes.encoding import fit_encoding
from driftloop_retrain.tabular.recipes.graph import MATRIX, SCORES, head, write_graph

names = st.lists(
    st.sampled_from(AWKWARD_NAMES) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    min_size=1,
    max_size=6,
    unique=True,
).filter(lambda found: all("\0" not in name for name in found))


@settings(max_examples=40)
@given(names, st.sampled_from([None, np.array([0, 1]), np.array(["a", "b"], object)]))
def test_a_graph_takes_inputs_of_any_name_and_answers_as_it_should(
    tmp_path_factory: pytest.TempPathFactory, inputs: list[str], classes: np.ndarray | None
) -> None:
    from onnx import helper, numpy_helper

    width = 1 if classes is None else 2
    features = pa.table({name: pa.array([1.5, -2.5], pa.float32()) for name in inputs})
    encoding = fit_encoding(features, [TensorSpec(name, "FP32", (-1, 1)) for name in inputs])
    weights = np.arange(len(inputs) * width, dtype=np.float32).reshape(-1, width)
    body = [helper.make_node("MatMul", [MATRIX, "weight_0"], [SCORES])]
    folder: Path = tmp_path_factory.mktemp("graph")
    write_graph(folder, encoding, body, [numpy_helper.from_array(weights, "weight_0")], classes)
    graph = OnnxModel(folder)
    assert [tensor.name for tensor in graph.signature.inputs] == inputs
    expected = head(encoding.matrix(features) @ weights, classes, inputs)
    found = outputs_of(graph, features)
    assert set(found) == set(expected)
    for name, values in expected.items():
        if values.dtype == np.float32:
            np.testing.assert_allclose(found[name], values, rtol=1e-5)
        else:
            assert found[name].tolist() == values.tolist()


@given(names)
def test_outputs_are_called_as_ever_unless_an_input_is(inputs: list[str]) -> None:
    found = [output_name(wanted, inputs) for wanted in OUTPUTS]
    assert set(found).isdisjoint(inputs)
    assert len(set(found)) == len(OUTPUTS)
    for wanted, name in zip(OUTPUTS, found, strict=True):
        assert (name == wanted) == (wanted not in inputs)


@pytest.mark.parametrize(
    ("columns", "said"), [(["a", ""], "column 1 has no name"), (["a", "b", "a"], "two .* 'a'")]
)
def test_names_that_no_graph_can_have_are_refused(columns: list[str], said: str) -> None:
    with pytest.raises(Rejected, match=said):
        check_feature_names(columns)
