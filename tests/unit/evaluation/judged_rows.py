"""The one suite of rows: what is answered, what is said of it, and how wrong that is. Each row is
(answer, label, loss); a label of MISSING never came, a loss of None is not judged."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from driftloop_contracts.kind import Task
from driftloop_contracts.model import ModelSpec

MISSING = object()
NAN, INF = float("nan"), float("inf")
SCALE = 2.0
"""Of the regressions: half of an error of 2 counts a quarter."""


@dataclass(frozen=True)
class Kind:
    """Rows of one task and one type of output."""

    name: str
    task: Task
    type: pa.DataType
    rows: Sequence[tuple[Any, Any, float | None]]

    @property
    def spec(self) -> ModelSpec:
        runtime = "vllm" if self.task == "generation" else "onnx"
        return ModelSpec("m", self.task, "y", runtime=runtime)

    @property
    def losses(self) -> list[float]:
        return [NAN if loss is None else loss for _, _, loss in self.rows]

    @property
    def outputs(self) -> pa.Array:
        return pa.array([answer for answer, _, _ in self.rows], self.type)

    @property
    def table(self) -> pa.Table:
        """The rows as the lake has them."""
        labels = [label for _, label, _ in self.rows]
        texts = [None if label is MISSING else json.dumps(label) for label in labels]
        numbers = [float(v) if isinstance(v, (bool, int, float)) else None for v in labels]
        return pa.table(
            {
                "out_y": self.outputs,
                "label": pa.array(texts, pa.string()),
                "label_number": pa.array(numbers, pa.float64()),
            }
        )


TEXT_CLASSES = [
    ("1", 1, 0.0), ("0", 0, 0.0), ("1", 0, 1.0),  # the monitor and the canary once disagreed here
    ("yes", "yes", 0.0), ("yes", "no", 1.0), ("yes", "Yes", 1.0), ("é", "é", 0.0), ("", "", 0.0),
    ('say "hi"', 'say "hi"', 0.0),
    ("1", "1", 0.0), ("1", 1.0, 0.0), ("1.0", 1, 0.0), ("1.0", "1", 0.0), ("1.5", 1.5, 0.0),
    ("-3", -3.0, 0.0), ("007", 7, 1.0), ("007", "007", 0.0), ("3.10", "3.1", 1.0),
    ("true", True, 0.0), ("false", True, 1.0), ("True", True, 1.0), ("1", True, 1.0),
    ("yes", "never seen", 1.0), ("yes", 1, 1.0),
    ("yes", None, None), ("yes", MISSING, None), (None, "yes", None), (None, None, None),
]  # fmt: skip
WHOLE_CLASSES = [
    (1, 1, 0.0), (1, 0, 1.0), (1, 1.0, 0.0), (1, True, 0.0), (0, True, 1.0), (0, False, 0.0),
    (1, 7, 1.0), (1, 0.5, 1.0),
    (1, "1", None), (1, "yes", None), (1, None, None), (1, MISSING, None), (None, 1, None),
]  # fmt: skip
VALUES = [
    (3.0, 3.0, 0.0), (3.0, 2, 0.25), (2.0, 3.0, 0.25), (90.0, 3.0, 1.0), (2.0, True, 0.25),
    (NAN, 3.0, 1.0), (INF, 3.0, 1.0), (-INF, 3.0, 1.0), (1e300, -1e300, 1.0),
    (3.0, "3", None), (3.0, None, None), (3.0, MISSING, None), (None, 3.0, None),
    (NAN, None, None), (NAN, "3", None),
]  # fmt: skip

KINDS = [
    Kind("texts", "classification", pa.string(), TEXT_CLASSES),
    Kind("large texts", "classification", pa.large_string(), TEXT_CLASSES),
    Kind("encoded texts", "classification", pa.dictionary(pa.int32(), pa.string()), TEXT_CLASSES),
    Kind("whole numbers", "classification", pa.int64(), WHOLE_CLASSES),
    Kind("small whole numbers", "classification", pa.int8(), WHOLE_CLASSES),
    Kind("large whole numbers", "classification", pa.decimal128(20, 0), WHOLE_CLASSES),
    Kind("numbers", "classification", pa.float32(), [*WHOLE_CLASSES, (NAN, 1, 1.0)]),
    Kind("booleans", "classification", pa.bool_(), [
        (True, True, 0.0), (True, False, 1.0), (True, 1, 0.0), (False, 1, 1.0), (True, 2, 1.0),
        (True, "true", None), (True, None, None), (True, MISSING, None), (None, True, None),
    ]),
    Kind("lists of numbers", "classification", pa.list_(pa.int64()), [
        ([1], 1, 0.0), ([1], 0, 1.0), ([1], "1", None), ([1, 0], 1, None), ([1, 1], 1, None),
        ([], 1, None), (None, 1, None), ([None], 1, None), ([1], MISSING, None),
    ]),
    Kind("lists of texts", "classification", pa.list_(pa.string()), [
        (["1"], 1, 0.0), (["a"], "b", 1.0), (["a", "b"], "a", None), ([], "a", None),
    ]),
    Kind("pairs", "classification", pa.list_(pa.float32(), 2), [([1, 0], 1, None)]),
    Kind("lists of lists", "classification", pa.list_(pa.list_(pa.int64())), [
        ([[1]], 1, 0.0), ([[1, 2]], 1, None), ([[1], [1]], 1, None),
    ]),
    Kind("bytes", "classification", pa.binary(), [(b"a", "a", None)]),
    Kind("values", "regression", pa.float64(), VALUES),
    Kind("whole values", "regression", pa.int32(), [(3, 3, 0.0), (3, 2.0, 0.25), (None, 3, None)]),
    Kind("lists of values", "regression", pa.list_(pa.float32()), [
        ([3.0], 2.0, 0.25), ([NAN], 2.0, 1.0), ([3.0, 2.0], 3.0, None), ([], 3.0, None),
    ]),
    Kind("values as texts", "regression", pa.string(), [("3", 3.0, None), ("x", 3.0, None)]),
    Kind("ratings", "generation", pa.string(), [
        ("hi", 1, 0.0), ("hi", 0.25, 0.75), ("hi", 0, 1.0), ("hi", True, 0.0), ("hi", False, 1.0),
        ("hi", 5, None), ("hi", -0.1, None), ("hi", "good", None), ("hi", None, None),
        ("hi", MISSING, None),
    ]),
]  # fmt: skip
