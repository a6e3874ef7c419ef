import pyarrow as pa
import pytest

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.agreement import agreeing

CLASSES = ModelSpec("m", "classification", "label")
VECTORS = ModelSpec("m")


@pytest.mark.parametrize(
    ("champion", "candidate", "same"),
    [
        ([1, 0, None], [1, 1, 1], [True, False, False]),
        ([1.0, 2.0], [1.0 + 1e-5, 2.1], [True, False]),
        (["a", "b"], ["a", "c"], [True, False]),
        ([1, 2], ["1", "3"], [True, False]),
        ([[1], [2]], [[1], [3]], [True, False]),
    ],
)
def test_answers_are_compared_by_the_output_that_labels_compare_with(
    champion: list[object], candidate: list[object], same: list[bool]
) -> None:
    found = agreeing(CLASSES, pa.table({"out_label": champion}), pa.table({"out_label": candidate}))
    assert found.tolist() == same


def test_without_one_all_outputs_of_both_are_compared() -> None:
    champion = pa.table({"in_x": [1, 2, 3], "out_a": [[1.0, 2.0]] * 3, "out_b": [1, 1, 1]})
    candidate = pa.table({"out_a": [[1.0, 2.0], [1.0, 9.0], None], "out_c": [0, 0, 0]})
    assert agreeing(VECTORS, champion, candidate).tolist() == [True, False, False]
