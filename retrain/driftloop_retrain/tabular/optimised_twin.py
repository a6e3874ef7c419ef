"""An optimised twin of a candidate's graph: its large matrices as 8-bit integers, or in half
precision.

It replaces the graph only if its loss is shown to be no higher, row by row, and if it is shown to
be faster on this machine, asked in turn with the graph. Trees have no matrices, and the fusions of
onnxruntime are made whenever a graph is loaded: no twin of them would be faster. Half precision is
hardly ever faster on a CPU, which the record then says.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_onnx import OnnxModel
from driftloop_onnx.quantisation import halved, quantised
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.evaluation.intervals import gain
from driftloop_retrain.tabular.evaluation.speed import file_bytes, paired_times, ratio
from driftloop_retrain.tabular.inference import feeds_of, outputs_of

GRAPH = "model.onnx"
FORMS: Mapping[str, Callable[[Path, Path, int], bool]] = {"int8": quantised, "fp16": halved}
LEAST_WEIGHTS = 16_384
"""Of a matrix: smaller ones cost more to convert than they save."""
FASTER, NO_SLOWER = 0.95, 1.05
"""The largest ratio of times that counts as faster for one size of a request, and as no slower for
the others: of the upper end of its interval."""
ROWS = (1, 64)
PAIRS, Z = 300, 3.3
"""One in a thousand of two equal graphs seems faster at all, and none by 5 %."""

Losses = NDArray[np.float64]
Times = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Twin:
    """record: both facts of each form, as JSON. form: the one that was kept, and outputs: what it
    answers; None: the graph stays."""

    record: dict[str, Any]
    form: str | None = None
    outputs: Outputs | None = None

    @property
    def kept(self) -> bool:
        return self.form is not None


def optimised(
    folder: Path,
    features: pa.Table,
    outputs: Outputs,
    lost: Callable[[Outputs], Losses],
    allowed: float,
    timed: Callable[[OnnxModel, OnnxModel, pa.Table], Times] | None = None,
    forced: str | None = None,
) -> Twin:
    """Make the twins of `model.onnx`, and replace it by the fastest that is shown to be good.
    features, outputs: n rows with the graph's answers. allowed: the rise of the mean loss. forced:
    the form to keep in any case, to repeat a training that kept it."""
    if len(list(folder.glob(f"{GRAPH}*"))) > 1:
        return _none("its weights or its tokenizer lie beside the graph")
    plain, found = OnnxModel(folder), []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for form in (forced,) if forced else tuple(FORMS):
            twin = Path(scratch) / form
            twin.mkdir()
            if not FORMS[form](folder / GRAPH, twin / GRAPH, LEAST_WEIGHTS):
                return _none(f"it has no matrix of {LEAST_WEIGHTS:,} weights or more")
            other = OnnxModel(twin)
            answers = outputs_of(other, features)
            rise = gain(lost(answers), lost(outputs))
            speed: list[dict[str, float]] = []
            for rows in ROWS:
                before, after = (timed or _times)(plain, other, features.slice(0, rows))
                speed.append({"rows": rows, **ratio(after, before, Z)})
            sound = bool(rise) and rise["high"] <= allowed
            fast = is_faster([each["high"] for each in speed])
            facts: dict[str, Any] = {
                "form": form,
                "good": sound and fast,
                "reason": _reason(sound, fast),
                "rise": rise,
                "speed": speed,
                "size_bytes": file_bytes(twin),
            }
            found.append((facts, answers))
        good = [each for each in found if each[0]["good"] or forced]
        record = {
            "kept": bool(good),
            "allowed": allowed,
            "plain_size_bytes": file_bytes(folder),
            "forms": [facts for facts, _ in found],
        }
        if not good:
            return Twin({**record, "reason": "no form is shown to be as good, and faster"})
        facts, answers = min(good, key=lambda each: min(s["ratio"] for s in each[0]["speed"]))
        form = facts["form"]
        (Path(scratch) / form / GRAPH).replace(folder / GRAPH)
    return Twin({**record, "form": form, "reason": facts["reason"]}, form, answers)


def _none(reason: str) -> Twin:
    return Twin({"kept": False, "reason": reason})


def is_faster(high: Sequence[float]) -> bool:
    """Upper ends of the ratios of times: one is below FASTER, and none above NO_SLOWER."""
    return min(high) < FASTER and max(high) < NO_SLOWER


def _reason(sound: bool, fast: bool) -> str:
    if sound and fast:
        return "its loss is shown to be no higher, and it is shown to be faster"
    said = [] if sound else ["its loss is not shown to be no higher"]
    return ", and ".join(said + ([] if fast else ["it is not shown to be faster"]))


def _times(plain: OnnxModel, twin: OnnxModel, part: pa.Table) -> Times:
    return paired_times(plain, twin, feeds_of(plain.signature, part), PAIRS)
