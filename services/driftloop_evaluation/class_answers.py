"""What a model's outputs say of classes: the class that it names, and its probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.events import OUTPUT_PREFIX
from driftloop_contracts.graph_names import PREDICTION_SET
from driftloop_contracts.model import ModelSpec, class_name
from driftloop_contracts.objective import Objective
from driftloop_contracts.signature import Signature
from driftloop_evaluation.labels import Floats, Labels, class_names, floats, is_text
from driftloop_evaluation.losses import is_number, one_value

_LIKELY = ("prob", "score")


@dataclass(frozen=True, slots=True)
class Named:
    """Classes by name, of n rows: the answer's and the label's; null where a row is not judged."""

    answer: pa.Array
    label: pa.Array

    @property
    def judged(self) -> NDArray[np.bool_]:
        known = pc.and_(pc.is_valid(self.answer), pc.is_valid(self.label))
        return np.asarray(known.to_numpy(zero_copy_only=False), dtype=bool)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        return _bools(pc.not_equal(self.answer, self.label))

    def answers(self, name: str) -> NDArray[np.bool_]:
        return _bools(pc.equal(self.answer, name))

    def labels(self, name: str) -> NDArray[np.bool_]:
        return _bools(pc.equal(self.label, name))


@dataclass(frozen=True, slots=True)
class Probabilities:
    """p [n, k]: of k classes by name; NaN in a row that has none. label [n]: the place of the
    label's class, -1 for a class never seen. judged [n]."""

    p: Floats
    classes: tuple[str, ...]
    label: NDArray[np.int64]
    judged: NDArray[np.bool_]


def named(spec: ModelSpec, objective: Objective, rows: pa.Table, labels: Labels) -> Named:
    """The classes of labelled rows. Raises Rejected if the output names none."""
    column = column_of(rows, objective.output or spec.output)
    if _is_list_of_floats(column.type) and _width(column) > 1:
        p = probabilities(spec, objective, column, labels)
        best = np.where(np.isnan(p.p).any(axis=1), -1, np.nan_to_num(p.p).argmax(axis=1))
        answer = pa.array([*p.classes, "NaN"]).take(pa.array(best % (len(p.classes) + 1)))
        return Named(_where(p.judged, answer), label_classes(p.classes, labels))
    column = one_value(column)
    if is_text(column.type):
        return Named(class_names(column), labels.names())
    if not is_number(column.type):
        raise Rejected(f"output {objective.output or spec.output!r} names no class")
    if objective.threshold is not None:
        p = probabilities(spec, objective, column, labels)
        above = (p.p[:, 1] >= objective.threshold).astype(np.int64)
        answer = pa.array(p.classes).take(pa.array(above))
        return Named(_where(p.judged, answer), label_classes(p.classes, labels))
    answer = class_names(pa.array(floats(column)))
    return Named(pc.if_else(column.is_valid(), answer, None), class_names(_numbers(labels.numbers)))


def probabilities(
    spec: ModelSpec, objective: Objective, column: Any, labels: Labels
) -> Probabilities:
    """Of a column of the probability of the positive class, or of lists with one per class."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    width = _width(column)
    if width == 1:
        value = floats(one_value(column))
        p = np.stack([1.0 - value, value], axis=1)
        classes: tuple[str, ...] = binary_classes(spec, objective)
    else:
        classes = classes_of(spec, objective) or tuple(str(i) for i in range(width))
        if len(classes) != width:
            raise Rejected(f"{width} probabilities a row, and `classes` names {len(classes)}")
        p = _matrix(column, width)
    label = label_classes(classes, labels)
    place = pc.fill_null(pc.index_in(label, pa.array(classes)), -1)
    judged = _bools(pc.and_(column.is_valid(), label.is_valid()))
    return Probabilities(p, classes, np.asarray(place, dtype=np.int64), judged)


def classes_of(spec: ModelSpec, objective: Objective) -> tuple[str, ...]:
    """Of the output that an objective compares; none: not said."""
    return tuple(class_name(name) for name in objective.classes) or spec.classes


def label_classes(classes: tuple[str, ...], labels: Labels) -> pa.Array:
    """Labels by name, as a model with these classes is judged: against numbers by number."""
    if all(_is_numeral(name) for name in classes):
        return class_names(_numbers(labels.numbers))
    return labels.names()


def binary_classes(spec: ModelSpec, objective: Objective) -> tuple[str, str]:
    """(negative, positive). Raises Rejected if the spec does not say which is which."""
    classes = classes_of(spec, objective)
    if objective.positive is None:
        if len(classes) == 2:
            return classes[0], classes[1]
        if classes:
            raise Rejected(f"metric {objective.metric!r}: say which class is `positive`")
        return "0", "1"
    positive = class_name(objective.positive)
    if isinstance(objective.positive, bool) and positive not in classes:
        positive = str(int(objective.positive))
    others = [name for name in classes if name != positive]
    negative = others[0] if len(others) == 1 else {"1": "0", "0": "1"}.get(positive, "")
    return negative, positive


def positive_class(spec: ModelSpec, objective: Objective, labels: pa.Array) -> str:
    """The name of the positive class among labels that are classes by name."""
    positive = objective.positive
    if isinstance(positive, bool):
        texts = pc.is_in(labels, pa.array(["true", "false"]))
        return class_name(positive) if pc.any(texts).as_py() else str(int(positive))
    return binary_classes(spec, objective)[1]


def column_of(rows: pa.Table, output: str | None) -> Any:
    """The column of an output. Raises Rejected if there is none."""
    name = f"{OUTPUT_PREFIX}{output}"
    if output is None or name not in rows.column_names:
        raise Rejected(f"there is no output {output!r} to be judged by")
    return rows[name]


def set_output(objective: Objective) -> str:
    """The output with a set of classes."""
    return objective.output or PREDICTION_SET


def probability_output(spec: ModelSpec, objective: Objective, rows: pa.Table) -> str:
    """The output with probabilities, from the columns of rows."""
    floating = {
        name.removeprefix(OUTPUT_PREFIX): _is_list_of_floats(rows.schema.field(name).type)
        or pa.types.is_floating(rows.schema.field(name).type)
        for name in rows.column_names
        if name.startswith(OUTPUT_PREFIX)
    }
    return find_probabilities(spec, objective, floating)


def probability_tensor(spec: ModelSpec, objective: Objective, signature: Signature) -> str:
    """The output with probabilities, from a model's signature."""
    floating = {t.name: t.datatype.startswith("FP") for t in signature.outputs}
    return find_probabilities(spec, objective, floating)


def find_probabilities(spec: ModelSpec, objective: Objective, floating: Mapping[str, bool]) -> str:
    """Which output has probabilities: the one that is said, else the only one that is named after
    the label, as `approve_scores`, else one that is named so, else the only one of floats besides
    the class. floating: for each output, whether it is of floats. Raises
    Rejected if that leaves none or several."""
    if objective.output is not None:
        return objective.output
    found = [name for name, is_float in floating.items() if is_float]
    label, named_after = objective.label, []
    if label is not None:
        named_after = [name for name in found if label in name and name != label]
    likely = [name for name in found if name.lower().startswith(_LIKELY)]
    others = [name for name in found if name != spec.output]
    for choice in (named_after, likely, others, found):
        if len(choice) == 1:
            return choice[0]
    raise Rejected(
        f"metric {objective.metric!r} needs probabilities: name their `output` "
        f"(the outputs are {listed(sorted(floating))})"
    )


def _is_list_of_floats(type_: pa.DataType) -> bool:
    nested = pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_)
    return bool(nested and pa.types.is_floating(type_.value_type))


def _width(column: Any) -> int:
    """Of the first row that has a value; 1 for plain columns and for none."""
    if not (pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)):
        return 1
    widths = pc.list_value_length(column).drop_null()
    return int(widths[0].as_py()) if len(widths) else 1


def _matrix(column: pa.Array, width: int) -> Floats:
    right = _bools(pc.equal(pc.list_value_length(column), width))
    found = np.full((len(column), width), np.nan)
    flat = pc.list_flatten(column.filter(pa.array(right)))
    found[right] = floats(flat).reshape(-1, width)
    return found


def _numbers(numbers: Floats) -> pa.Array:
    return pa.array(numbers, from_pandas=True)


def _is_numeral(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _where(mask: NDArray[np.bool_], values: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(mask), values, None)


def _bools(found: Any) -> NDArray[np.bool_]:
    """Null as false."""
    whole = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    return np.asarray(pc.fill_null(whole, False).to_numpy(zero_copy_only=False), dtype=bool)
