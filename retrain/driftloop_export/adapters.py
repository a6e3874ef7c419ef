"""Which adapter a model has, by the package of its class: no framework is imported to find out."""

from collections.abc import Sequence
from typing import Any

from driftloop_export.catboost_adapter import CatBoost
from driftloop_export.huggingface_adapter import TextClassifier
from driftloop_export.keras_adapter import Keras
from driftloop_export.lightgbm_adapter import LightGbm
from driftloop_export.port import Adapter, NotExportable
from driftloop_export.sklearn_adapter import ScikitLearn
from driftloop_export.torch_adapter import Torch
from driftloop_export.xgboost_adapter import XgBoost

_BOOSTERS: dict[str, Any] = {
    "lightgbm": LightGbm(), "xgboost": XgBoost(), "catboost": CatBoost(),
}  # fmt: skip
WAY_OUT = (
    "deploy takes any ONNX graph: `driftloop deploy model.onnx --name NAME`, see the guide on "
    "deploying a model"
)


def adapter_of(model: Any, classes: Sequence[Any] | None) -> Adapter:
    """Raises NotExportable for a model of another framework."""
    packages = [kind.__module__.partition(".")[0] for kind in type(model).__mro__]
    known = next((package for package in packages if package in _BOOSTERS), None)
    if known is not None:
        adapter: Adapter = _BOOSTERS[known]
        return adapter
    if "transformers" in packages or isinstance(model, tuple):
        return TextClassifier()
    if "keras" in packages:
        return Keras(classes)
    if "torch" in packages:
        return Torch(classes)
    if "sklearn" in packages or hasattr(model, "get_params"):
        return ScikitLearn(_BOOSTERS)
    raise NotExportable(
        f"a {type(model).__module__}.{type(model).__name__} is not a model of scikit-learn, "
        f"LightGBM, XGBoost, CatBoost, torch, Keras or Hugging Face; {WAY_OUT}"
    )
