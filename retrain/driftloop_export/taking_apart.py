"""One model that answers several labels, as one model for each."""

import copy
from collections.abc import Mapping, Sequence
from functools import wraps
from typing import Any

import numpy as np

from driftloop_contracts.errors import Rejected, listed
from driftloop_export.port import NotExportable
from driftloop_export.sample import Sample
from driftloop_export.sklearn_adapter import Column, check_fitted, rows_for

WAY_OUT = "export a dict with one model for each label, {'approve': …, 'amount': …}"


def parts_of(model: Any, labels: Sequence[str], sample: Sample) -> dict[str, Any]:
    """By label, in their order, a model that answers it alone. Raises Rejected without the labels'
    names, and NotExportable for a model that is not known to have several outputs."""
    packages = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    if "torch" in packages:
        return _of_torch(model, labels)
    if "sklearn" not in packages and not hasattr(model, "get_params"):
        raise NotExportable(f"a {type(model).__name__} of several labels is not known: {WAY_OUT}")
    check_fitted(model)
    named = getattr(model, "feature_names_in_", None)
    sample = sample if named is None else sample.select([str(name) for name in named])
    answered = np.asarray(model.predict(rows_for(model, sample)))
    width = answered.shape[1] if answered.ndim == 2 else 1
    if width < 2:
        raise NotExportable(f"the {type(model).__name__} answers one label: {WAY_OUT}")
    if not labels:
        raise Rejected(
            f"the {type(model).__name__} answers {width} labels: name them in its order, by labels "
            "with one column each, or by outputs=[…]"
        )
    if len(labels) != width:
        raise Rejected(
            f"the {type(model).__name__} answers {width} labels, and {len(labels)} are named "
            f"({listed(labels)})"
        )
    found = dict(zip(labels, _of_sklearn(model, width), strict=True))
    for number, (label, part) in enumerate(found.items()):
        ours = np.asarray(answered[:, number])
        theirs = np.asarray(part.predict(rows_for(part, sample))).reshape(-1)
        same = np.allclose(ours, theirs) if ours.dtype.kind == "f" else (ours == theirs).all()
        if not same:
            raise NotExportable(
                f"output {label!r} of the {type(model).__name__} is not that of its part: {WAY_OUT}"
            )
    return found


def _of_sklearn(model: Any, width: int) -> list[Any]:
    from sklearn.base import is_classifier

    model = getattr(model, "best_estimator_", model)
    if hasattr(model, "steps"):
        *steps, (name, last) = model.steps
        if not is_classifier(last) and not hasattr(last, "estimators_"):
            return [Column(model, number) for number in range(width)]
        parts = _of_sklearn(last, width)
        return [type(model)([*steps, (name, part)]) for part in parts]
    if type(model).__name__ in ("MultiOutputClassifier", "MultiOutputRegressor"):
        return list(model.estimators_)
    if hasattr(model, "tree_") or _are_trees(model):
        return [_of_trees(model, number) for number in range(width)]
    if not is_classifier(model):
        return [Column(model, number) for number in range(width)]
    raise NotExportable(
        f"a {type(model).__name__} of several labels has no form as a graph; use "
        f"MultiOutputClassifier, trees or a forest, or {WAY_OUT}"
    )


def _are_trees(model: Any) -> bool:
    trees = getattr(model, "estimators_", None)
    return isinstance(trees, list) and bool(trees) and all(hasattr(t, "tree_") for t in trees)


def _of_trees(model: Any, number: int) -> Any:
    """A tree or a forest with the values of one output."""
    part = copy.copy(model)
    part.n_outputs_ = 1
    if isinstance(getattr(model, "classes_", None), list):
        part.classes_, part.n_classes_ = model.classes_[number], int(model.n_classes_[number])
    if hasattr(model, "tree_"):
        part.tree_ = _sliced(model.tree_, number)
    else:
        part.estimators_ = [_of_trees(tree, number) for tree in model.estimators_]
    return part


def _sliced(tree: Any, number: int) -> Any:
    kinds = int(tree.n_classes[number])
    state = tree.__getstate__()
    found = type(tree)(tree.n_features, np.array([kinds], np.intp), 1)
    values = np.ascontiguousarray(state["values"][:, number : number + 1, :kinds])
    found.__setstate__({**state, "values": values})
    return found


def _of_torch(model: Any, labels: Sequence[str]) -> dict[str, Any]:
    import torch

    if not labels:
        raise Rejected(
            "name the module's outputs, by labels with one column each, or by outputs=[…]"
        )

    class One(torch.nn.Module):
        """One output of a module that gives a dict, a tuple, or a matrix of values."""

        def __init__(self, label: str, place: int) -> None:
            super().__init__()
            self.whole = model

            @wraps(model.forward)
            def forward(*columns: Any, **named: Any) -> Any:
                found = model(*columns, **named)
                if isinstance(found, Mapping):
                    if label not in found:
                        raise NotExportable(
                            f"forward gives {listed(map(str, found))}, not {label!r}"
                        )
                    return found[label]
                if isinstance(found, torch.Tensor):
                    return found[:, place]
                if len(found) != len(labels):
                    raise NotExportable(
                        f"forward gives {len(found)} outputs, and {len(labels)} are named"
                    )
                return found[place]

            self.forward = forward

    return {label: One(label, place) for place, label in enumerate(labels)}
