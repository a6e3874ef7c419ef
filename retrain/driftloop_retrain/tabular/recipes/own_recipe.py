"""A recipe of your own as one function, which returns any model that `driftloop_export` takes:

    @recipe
    def mine(train, context):
        rows = train.features.to_pandas()
        return make_pipeline(StandardScaler(), Ridge()).fit(rows, train.labels)

Name it in the model's spec: `recipe: mypackage.module:mine`. Of a model with several labels, it
finds them as `train.label("approve")`, and returns a dict of models by label, or one model that
answers all of them in the order of `context.labels`.
"""

import inspect
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected
from driftloop_contracts.graph_names import output_name
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes.fitted_together import FittedTogether
from driftloop_retrain.tabular.recipes.port import FitContext
from driftloop_retrain.tabular.tuning.space import Space

if TYPE_CHECKING:
    from driftloop_export import Native
    from driftloop_export.sample import Sample

KEPT = "recipe"
"""The folder in a version with what its recipe keeps for the next training."""
CHECKED_ROWS = 1_000
"""Of the training rows, on which the graph is compared when it is written; the retrain compares it
on the whole hold-out."""


@dataclass(frozen=True)
class FittedNative:
    """See FittedModel."""

    native: "Native"
    train: Dataset
    kept: Path
    rounds: int = 1
    is_member: bool = False
    """Of several: it takes its own columns of all."""

    def predict(self, features: pa.Table) -> dict[str, NDArray[np.generic]]:
        answers = self.native.answers(self._sample(features))
        for name, values in answers.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                wrong = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum())
                raise Rejected(f"the recipe's model has no finite {name} for {wrong:,} rows")
        return {
            output_name(name, features.column_names): (
                values.astype(np.float32) if values.dtype.kind == "f" else values
            )
            for name, values in answers.items()
        }

    def export(self, folder: Path) -> None:
        rows = self.train.features.slice(max(0, self.train.rows - CHECKED_ROWS))
        sample = self._sample(rows)
        self.native.write(sample, self.native.answers(sample), folder)
        if self.kept.is_dir():
            shutil.copytree(self.kept, folder / KEPT, dirs_exist_ok=True)

    def _sample(self, rows: pa.Table) -> "Sample":
        from driftloop_export.sample import sample_of

        if self.is_member:
            return self.native.part(sample_of(rows, None))
        return self.native.sample(rows)


class OwnRecipe:
    """See Recipe. `module`: whose source is recorded with each version."""

    joint = True
    """Of a model with several labels, it trains all of them."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        deterministic: bool = True,
        space: Space | None = None,
    ) -> None:
        self.name = function.__name__.replace("_", "-")
        self.module = function.__module__
        self.deterministic, self.space = deterministic, space or {}
        self._function = function
        self._wants_validation = len(inspect.signature(function).parameters) > 2
        self.__doc__ = function.__doc__

    def fit(
        self, train: Dataset, validation: Dataset | None, context: FitContext
    ) -> FittedNative | FittedTogether:
        from driftloop_export import Native  # imports onnx

        context.checkpoints.mkdir(parents=True, exist_ok=True)
        model = (
            self._function(train, validation, context)
            if self._wants_validation
            else self._function(train, context)
        )
        if model is None:
            raise Rejected(f"recipe {self.name!r} returns nothing: return the trained model")
        if context.labels:
            return _members(model, train, context)
        classes = None if context.classes is None else context.classes.tolist()
        return FittedNative(Native(model, context.task, classes), train, context.checkpoints / KEPT)


def _members(model: Any, train: Dataset, context: FitContext) -> FittedTogether:
    """Of several labels. Raises Rejected if the model does not answer each of them."""
    from driftloop_export.several import native_of_several

    rows = train.features.slice(max(0, train.rows - CHECKED_ROWS))
    native = native_of_several(
        model,
        list(context.labels),
        rows,
        {label: of.task for label, of in context.labels.items()},
        {
            label: of.classes.tolist()
            for label, of in context.labels.items()
            if of.classes is not None
        },
    )
    kept = context.checkpoints / KEPT
    return FittedTogether(
        {n: FittedNative(each, train, kept, is_member=True) for n, each in native.natives.items()}
    )


def recipe(
    function: Callable[..., Any] | None = None,
    *,
    deterministic: bool = True,
    space: Space | None = None,
) -> Any:
    """Make a recipe of a function (train, context) or (train, validation, context), called with
    Dataset, Dataset or None, and FitContext. Files that it writes into `context.checkpoints/recipe`
    are kept with the version, and are in `context.champion/recipe` the next time. space: parameters
    to search, which it finds in `context.parameters`, or not: then its own are meant."""
    if function is None:
        return lambda found: OwnRecipe(found, deterministic=deterministic, space=space)
    return OwnRecipe(function, deterministic=deterministic, space=space)
