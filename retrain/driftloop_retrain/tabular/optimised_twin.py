"""An optimised twin of a candidate's graph: its large matrices as 8-bit integers.

It replaces the graph only if its loss is shown to be no higher, row by row, and if it is shown to
be faster on this machine, asked in turn with the graph. Trees have no matrices, half precision is
not faster on a CPU, and the fusions of onnxruntime are made whenever a graph is loaded: no twin of
them would be faster.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_onnx import OnnxModel
from driftloop_onnx.quantisation import quantised
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.evaluation.intervals import gain
from driftloop_retrain.tabular.evaluation.speed import file_bytes, paired_times, ratio
from driftloop_retrain.tabular.inference import feeds_of, outputs_of

GRAPH = "model.onnx"
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
    """record: both facts, as JSON. outputs: the twin's, if it was kept."""

    kept: bool
    record: dict[str, Any]
    outputs: Outputs | None = None


def optimised(
    folder: Path,
    features: pa.Table,
    outputs: Outputs,
    lost: Callable[[Outputs], Losses],
    allowed: float,
    timed: Callable[[OnnxModel, OnnxModel, pa.Table], Times] | None = None,
    forced: bool = False,
) -> Twin:
    """Make the twin of `model.onnx`, and replace it if that is shown to be good. features, outputs:
    n rows with the graph's answers. allowed: the rise of the mean loss. forced: keep it in any
    case, to repeat a training that kept it."""
    twin = folder / "twin"
    twin.mkdir(exist_ok=True)
    try:
        if not quantised(folder / GRAPH, twin / GRAPH, LEAST_WEIGHTS):
            return _none(f"it has no matrix of {LEAST_WEIGHTS:,} weights or more")
        plain, other = OnnxModel(folder), OnnxModel(twin)
        if plain.signature != other.signature or len(list(folder.glob(f"{GRAPH}*"))) > 1:
            return _none("its weights or its tokenizer lie beside the graph")
        answers = outputs_of(other, features)
        rise = gain(lost(answers), lost(outputs))
        times = timed or _times
        speed = []
        for rows in ROWS:
            before, after = times(plain, other, features.slice(0, rows))
            speed.append({"rows": rows, **ratio(after, before, Z)})
        sound = bool(rise) and rise["high"] <= allowed
        fast = is_faster([each["high"] for each in speed])
        kept = forced or (sound and fast)
        record = {
            "form": "int8",
            "kept": kept,
            "reason": _reason(sound, fast),
            "rise": rise,
            "allowed": allowed,
            "speed": speed,
            "size_bytes": file_bytes(twin),
            "plain_size_bytes": file_bytes(folder),
        }
        if kept:
            for file in twin.iterdir():
                file.replace(folder / file.name)
        return Twin(kept, record, answers if kept else None)
    finally:
        for file in twin.iterdir():
            file.unlink()
        twin.rmdir()


def _none(reason: str) -> Twin:
    return Twin(False, {"form": "int8", "kept": False, "reason": reason})


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
