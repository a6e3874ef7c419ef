"""The champion continued: trees learn from the new rows what it gets wrong, and are added to its
scores in one graph.

Whatever the champion is, only its graph is needed. Trained are only rows that it was not trained on
(`FitContext.champion_until`): on others it is better than it will be.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.graph_names import PREDICTION_SET, probabilities_of
from driftloop_onnx import OnnxModel
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.postprocessing.interval import ENDS
from driftloop_retrain.tabular.recipes.ensemble import Ensemble, layers_of
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting
from driftloop_retrain.tabular.recipes.port import FitContext
from driftloop_retrain.tabular.tuning.blending import TINY
from driftloop_retrain.tabular.tuning.space import Parameters, Space, between, whole

MIN_ROWS = 500
"""New rows that are needed."""
MOST_LAYERS = 3
"""How often in a row a champion is continued; each adds trees to the graph."""
SMALL: Mapping[str, Any] = {"learning_rate": 0.05, "num_leaves": 15}


@dataclass(frozen=True)
class Continued(GradientBoosting):
    """See Recipe."""

    name: str = "champion-continued"
    parameters: dict[str, Any] = field(default_factory=lambda: {**SMALL})
    space: ClassVar[Space] = {
        "learning_rate": between(0.02, 0.1, log=True),
        "num_leaves": whole(4, 63, log=True),
        "min_data_in_leaf": whole(10, 200, log=True),
    }
    own_parameters: ClassVar[Parameters] = {**GradientBoosting.own_parameters, **SMALL}
    starts: ClassVar[tuple[Parameters, ...]] = ()

    def fit(  # type: ignore[override]
        self, train: Dataset, validation: Dataset | None, context: FitContext
    ) -> Ensemble:
        if context.champion is None or context.champion_until is None:
            raise Rejected("there is no champion that is known to be older than some of the rows")
        until = context.champion_until
        new = train.where(train.at > until)
        if new.rows < MIN_ROWS:
            raise Rejected(f"{new.rows} rows are newer than the champion; {MIN_ROWS} are needed")
        if validation is not None and not (validation.at > until).all():
            raise Rejected("the champion was trained on rows that it would be compared on")
        champion = Champion(context.champion, context.classes)
        champion.check(new.features.slice(0, 100))
        trees = self.on_top(new, validation, context, champion.scores)
        return Ensemble(
            (champion, trees), (1.0, 1.0), context.classes, trees.rounds, joining="product"
        )


@dataclass(frozen=True)
class Champion:
    """See FittedModel: the graph of a version, as it is."""

    folder: Path
    classes: NDArray[np.generic] | None
    rounds: int = 1

    def predict(self, features: pa.Table) -> dict[str, NDArray[np.generic]]:
        found = outputs_of(OnnxModel(self.folder), features)
        return {name: values for name, values in found.items() if not _is_further(name)}

    def scores(self, features: pa.Table) -> NDArray[np.float64]:
        """What trees are added to: values [n], log odds [n] of two classes, or logarithms [n,
        classes]."""
        outputs = self.predict(features)
        if self.classes is None:
            (values,) = outputs.values()
            return values.astype(np.float64)
        logs = np.log(np.maximum(probabilities_of(outputs).astype(np.float64), TINY))
        return np.asarray(logs[:, 1] - logs[:, 0] if len(self.classes) == 2 else logs)

    def check(self, features: pa.Table) -> None:
        """Raises Rejected if it cannot be continued."""
        import onnx

        outputs, classes = self.predict(features), self.classes
        if classes is None:
            fits = len(outputs) == 1
        else:
            p = probabilities_of(outputs)
            labels = [values for values in outputs.values() if values is not p]
            fits = (
                p is not None
                and p.shape[1:] == (len(classes),)
                and len(labels) == 1
                # Not all: labels may be decided by costs.
                and bool((labels[0] == classes[p.argmax(axis=1)]).mean() > 0.5)
            )
        if not fits:
            raise Rejected("the champion's outputs are not those of the built-in recipes")
        model = onnx.load(self.folder / "model.onnx", load_external_data=False)
        if any(each.key == "driftloop.tokenizer" for each in model.metadata_props):
            raise Rejected("a champion with a tokenizer cannot be continued")
        if layers_of(model) >= MOST_LAYERS:
            raise Rejected(f"the champion was continued {MOST_LAYERS} times: it is trained anew")

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob("model.onnx*"):
            shutil.copy(path, folder / path.name)
        _drop_further(folder / "model.onnx")


def _is_further(name: str) -> bool:
    """An interval or a set, which the continued model gets anew."""
    return name.rstrip("_") in (*ENDS, PREDICTION_SET)


def _drop_further(path: Path) -> None:
    import onnx

    model = onnx.load(path, load_external_data=False)
    kept = [output for output in model.graph.output if not _is_further(output.name)]
    if len(kept) < len(model.graph.output):
        del model.graph.output[:]
        model.graph.output.extend(kept)
        onnx.save(model, path)
