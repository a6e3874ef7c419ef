"""How a candidate behaves on the held-out rows, beside the champion, for its report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.graph_names import PREDICTION_SET, probabilities_of
from driftloop_contracts.model import ModelSpec, class_name
from driftloop_evaluation.class_answers import binary_classes
from driftloop_onnx import OnnxModel
from driftloop_onnx.resident import resident_bytes
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.evaluation.curves import class_curve, histogram
from driftloop_retrain.tabular.evaluation.groups import groups
from driftloop_retrain.tabular.evaluation.importance import ROWS, contributions, importance
from driftloop_retrain.tabular.evaluation.intervals import gain, share
from driftloop_retrain.tabular.evaluation.speed import file_bytes, paired_times, ratio
from driftloop_retrain.tabular.export import answered_rows
from driftloop_retrain.tabular.inference import feeds_of, outputs_of
from driftloop_retrain.tabular.postprocessing.interval import ENDS
from driftloop_retrain.tabular.search import Trial, answer_tensor

MAX_CLASSES = 20
BINS = 10
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TYPICAL = (0.1, 0.5, 0.9)
"""The rows that are explained, by the quantile of their score."""
TIMED_ROWS = (1, 64)

Losses = NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """A candidate and the champion on n held-out rows. folder: of the version; lost: the losses [n]
    of outputs for rows, by which the gate judges. own: of the graph's outputs, those that are
    compared, by the names that the spec has."""

    spec: ModelSpec
    held: Dataset
    classes: NDArray[np.generic] | None
    folder: Path
    outputs: Outputs
    champion_folder: Path
    champion_outputs: Outputs
    lost: Callable[[Dataset, Outputs], Losses]
    own: Callable[[Outputs], Outputs] = lambda outputs: outputs


def evaluation_of(both: Compared) -> dict[str, Any]:
    """As JSON. confusion: rows by label, columns by answer. calibration: of the answered class, by
    its probability. curve, contributions: of the class `scored`, or of the value. residuals:
    quantiles of answer − label. importance: in the unit of the loss. disagreement: with the
    champion. groups: the spec's slices. speed: seconds of the candidate over the champion's."""
    graph, champion = OnnxModel(both.folder), OnnxModel(both.champion_folder)
    answer = answer_tensor(both.spec)
    answers = both.outputs[answer].reshape(len(both.held.labels), -1)[:, 0]
    ours, theirs = both.lost(both.held, both.outputs), both.lost(both.held, both.champion_outputs)
    score, scored = _score(both)

    def asked(model: OnnxModel) -> Callable[[pa.Table], Losses]:
        part = both.held.slice(max(0, both.held.rows - ROWS), both.held.rows)
        return lambda rows: both.lost(part, both.own(outputs_of(model, rows)))

    found: dict[str, Any] = {
        "importance": importance(both.held, asked(graph), asked(champion)),
        "disagreement": _disagreement(both, answer, ours, theirs),
        "groups": groups(both.spec, answered_rows(both.held, both.outputs), ours, _positive(both)),
        "speed": [_speed(graph, champion, both.held.features, rows) for rows in TIMED_ROWS],
        "size_bytes": file_bytes(both.folder),
        "champion_size_bytes": file_bytes(both.champion_folder),
    }
    sides = resident_bytes([both.folder, both.champion_folder])
    found |= dict(zip(("memory_bytes", "champion_memory_bytes"), sides, strict=True))
    if score is not None:
        found["scored"] = scored
        found["contributions"] = _typical(both, graph, score)
    if both.spec.task == "regression":
        residuals = answers.astype(np.float64) - both.held.labels.astype(np.float64)
        found["residuals"] = {
            f"{part:.0%}": float(np.quantile(residuals, part)) for part in QUANTILES
        }
        found["histogram"] = histogram(residuals)
        ends = [
            both.outputs[name].reshape(-1).astype(np.float64)
            for end in ENDS
            for name in both.outputs
            if name.rstrip("_") == end
        ]
        if len(ends) == 2:
            labels = both.held.labels.astype(np.float64)
            inside = (ends[0] <= labels) & (labels <= ends[1])
            found["covered"] = share(int(inside.sum()), len(inside))
        return found
    classes = np.unique(np.concatenate([both.held.labels, answers]))
    if len(classes) <= MAX_CLASSES:
        found["confusion"] = _confusion(classes, both.held.labels, answers)
    probabilities = probabilities_of(both.outputs)
    if probabilities is not None:
        found["calibration"] = _calibration(
            _said(both, answers, probabilities), answers == both.held.labels
        )
    for name, chosen in both.outputs.items():
        if name.rstrip("_") == PREDICTION_SET and both.classes is not None:
            place = np.searchsorted(both.classes, both.held.labels)
            inside = chosen[np.arange(len(place)), place]
            found["covered"] = share(int(inside.sum()), len(inside))
            found["set_size"] = float(chosen.sum(axis=1).mean())
    if score is not None and both.classes is not None:
        found["curve"] = class_curve(score(both.outputs), both.held.labels == _scored_class(both))
    return found


def candidates_of(
    trials: tuple[Trial, ...],
    validation: Dataset,
    champion: Outputs,
    constant: Callable[[Outputs], Mapping[str, Any]],
    lost: Callable[[Trial, Outputs], Losses],
) -> list[dict[str, Any]]:
    """Each trial with how much lower its mean loss is than the champion's, and than that of the
    same answer for every row, on the validation rows."""
    found = []
    for trial in trials:
        row = trial.to_dict()
        if len(trial.losses) == validation.rows:
            for name, other in (("champion", champion), ("baseline", constant(champion))):
                better = gain(lost(trial, other), trial.losses)
                row |= {f"over_{name}": better.get("mean")}
                row |= {f"over_{name}_{end}": better.get(end) for end in ("low", "high")}
        found.append(row)
    return found


def _scored_class(both: Compared) -> Any:
    """Of two classes the positive one, of more the most frequent label."""
    assert both.classes is not None
    if len(both.classes) == 2:
        said = both.spec.objective
        if said is not None and "positive" in said.kind.takes:
            wanted = binary_classes(both.spec, said)[1]
            for value in both.classes:
                if class_name(value.item() if hasattr(value, "item") else value) == wanted:
                    return value
        return both.classes[1]
    values, counts = np.unique(both.held.labels, return_counts=True)
    return values[counts.argmax()]


def _score(both: Compared) -> tuple[Callable[[Outputs], NDArray[np.float64]] | None, str]:
    if both.spec.task == "regression":
        name = answer_tensor(both.spec)
        return lambda outputs: outputs[name].reshape(-1).astype(np.float64), "value"
    p = probabilities_of(both.outputs)
    if both.classes is None or p is None or p.shape[1:] != (len(both.classes),):
        return None, ""
    chosen = _scored_class(both)
    place = int(np.searchsorted(both.classes, chosen))
    plain = chosen.item() if hasattr(chosen, "item") else chosen

    def score(outputs: Outputs) -> NDArray[np.float64]:
        return np.asarray(probabilities_of(outputs)[:, place], np.float64)

    return score, class_name(plain)


def _positive(both: Compared) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    if both.classes is None or len(both.classes) != 2:
        return None
    chosen = _scored_class(both)
    answers = both.outputs[answer_tensor(both.spec)].reshape(len(both.held.labels), -1)[:, 0]
    return np.asarray(answers == chosen), np.asarray(both.held.labels == chosen)


def _typical(
    both: Compared, graph: OnnxModel, score: Callable[[Outputs], NDArray[np.float64]]
) -> list[dict[str, Any]]:
    scores = score(both.outputs)
    order = np.argsort(scores, kind="stable")
    found = []
    for part in TYPICAL:
        place = int(order[int(part * (len(order) - 1))])
        row = both.held.features.slice(place, 1)
        base, columns = contributions(
            both.held.features, row, lambda rows: score(both.own(outputs_of(graph, rows)))
        )
        found.append(
            {"quantile": part, "score": float(scores[place]), "mean": base, "columns": columns}
        )
    return found


def _disagreement(both: Compared, answer: str, ours: Losses, theirs: Losses) -> dict[str, Any]:
    """Of classes the share of rows with another answer, of values the mean distance; and by how
    much the candidate's loss is lower where they differ."""
    here, there = (
        outputs[answer].reshape(len(both.held.labels), -1)[:, 0]
        for outputs in (both.outputs, both.champion_outputs)
    )
    differ = here != there
    found: dict[str, Any] = {"rows": len(differ), "differ": int(differ.sum())}
    if both.spec.task == "regression":
        found["mean_distance"] = float(np.abs(here.astype(float) - there.astype(float)).mean())
    else:
        found["share"] = share(int(differ.sum()), len(differ))
    found["gain_where_they_differ"] = gain(theirs[differ], ours[differ])
    return found


def _speed(graph: OnnxModel, champion: OnnxModel, features: pa.Table, rows: int) -> dict[str, Any]:
    part = features.slice(0, rows)
    ours, theirs = paired_times(graph, champion, feeds_of(graph.signature, part))
    return {
        "rows": part.num_rows,
        "seconds": float(np.median(ours)),
        "champion_seconds": float(np.median(theirs)),
        **ratio(ours, theirs),
    }


def _confusion(
    classes: NDArray[Any], labels: NDArray[np.generic], answers: NDArray[np.generic]
) -> dict[str, Any]:
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (np.searchsorted(classes, labels), np.searchsorted(classes, answers)), 1)
    return {"classes": [class_name(c) for c in classes.tolist()], "rows": counts.tolist()}


def _said(
    both: Compared, answers: NDArray[np.generic], probabilities: NDArray[Any]
) -> NDArray[np.float64]:
    """The probability [n] of the answered class, which costs may have chosen."""
    if both.classes is None or probabilities.shape[1] != len(both.classes):
        return np.asarray(probabilities.max(axis=1), np.float64)
    place = np.searchsorted(both.classes, answers)
    return np.asarray(probabilities[np.arange(len(answers)), place], np.float64)


def _calibration(said: NDArray[np.float64], right: NDArray[np.bool_]) -> list[dict[str, Any]]:
    places = np.minimum((said * BINS).astype(int), BINS - 1)
    found = []
    for number in range(BINS):
        inside = places == number
        if inside.any():
            true = share(int(right[inside].sum()), int(inside.sum()))
            found.append(
                {
                    "low": number / BINS,
                    "high": (number + 1) / BINS,
                    "rows": int(inside.sum()),
                    "said": float(said[inside].mean()),
                    "true": true["mean"],
                    "true_low": true["low"],
                    "true_high": true["high"],
                }
            )
    return found
