"""One meaning of wrong: the same rows, judged by whoever judges."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged_rows import KINDS, SCALE, Kind

from driftloop_contracts.model import ModelSpec
from driftloop_evaluation.labels import Labels
from driftloop_evaluation.loss_rule import LossRule
from driftloop_evaluation.losses import losses_of

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@every_kind
def test_each_row_has_its_loss(kind: Kind) -> None:
    losses = LossRule(kind.spec, SCALE).losses(kind.table)
    np.testing.assert_array_equal(losses, kind.losses)


@every_kind
def test_rows_in_several_chunks_have_the_same_losses(kind: Kind) -> None:
    table = pa.concat_tables([kind.table[:1], kind.table[1:1], kind.table[1:]])
    losses = LossRule(kind.spec, SCALE).losses(table)
    np.testing.assert_array_equal(losses, kind.losses)


@every_kind
def test_no_rows_have_no_losses(kind: Kind) -> None:
    assert len(LossRule(kind.spec, SCALE).losses(kind.table[:0])) == 0


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if not pa.types.is_nested(k.type)], ids=lambda kind: kind.name
)
def test_whether_a_row_is_judged_does_not_depend_on_the_answer(kind: Kind) -> None:
    """A version cannot escape its hardest rows. (Of a list, its length decides.)"""
    answers = [answer for answer, _, _ in kind.rows if answer is not None]
    rows = kind.table.filter(kind.outputs.is_valid())
    first, last = (
        LossRule(kind.spec, SCALE).losses(
            rows.set_column(0, "out_y", pa.array([answer] * len(rows), kind.type))
        )
        for answer in (answers[0], answers[-1])
    )
    np.testing.assert_array_equal(np.isnan(first), np.isnan(last))


@given(st.lists(st.tuples(st.text(), st.text())))
def test_texts_are_the_same_class_only_if_they_are_the_same_text(
    pairs: list[tuple[str, str]],
) -> None:
    pairs = [(a, b) for a, b in pairs if not (a.endswith(".0") or b.endswith(".0"))]
    outputs = pa.array([a for a, _ in pairs], pa.string())
    labels = Labels.of_values(np.array([b for _, b in pairs], dtype=object))
    losses = losses_of("classification", outputs, labels)
    assert losses.tolist() == [float(a != b) for a, b in pairs]


@pytest.mark.parametrize("values", [[1, 0, 1], [1.0, 0.0, 1.0], [True, False, True]])
def test_labels_of_an_array_compare_as_those_of_the_lake(values: list[float]) -> None:
    labels = Labels.of_values(np.array(values))
    assert losses_of("classification", pa.array([1, 0, 0]), labels).tolist() == [0, 0, 1]
    names = ["true", "false", "false"] if isinstance(values[0], bool) else ["1", "0", "0"]
    assert losses_of("classification", pa.array(names), labels).tolist() == [0, 0, 1]


def test_a_model_without_a_task_or_an_unknown_scale_is_not_judged() -> None:
    values = next(kind for kind in KINDS if kind.name == "values")
    for rule in (LossRule(values.spec), LossRule(ModelSpec("m"), SCALE)):
        assert np.isnan(rule.losses(values.table)).all()
    without = replace(values.spec, output="other")
    assert np.isnan(LossRule(without, SCALE).losses(values.table)).all()
