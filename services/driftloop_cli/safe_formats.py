"""Models of MLflow in formats that can be read without running them. A pickle is refused: to read
one is to run it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import Rejected, listed

WAY_OUT = (
    "call driftloop_export.export(model, sample, name=…) in the process that trained it, or "
    "driftloop_export.log_model"
)
Flavor = Mapping[str, Any]
"""What MLflow's own file says of a form of the model."""
LIBRARIES = ("sklearn", "lightgbm", "xgboost", "collections")
"""Beside what skops itself trusts, only classes of these packages are made from a file, whatever
the file claims to be trusted; never a function."""


def _lightgbm(folder: Path, flavor: Flavor) -> Any:
    file = folder / str(flavor.get("data", "model.lgb"))
    if not str(flavor.get("model_class", "lightgbm.basic.Booster")).endswith(".Booster"):
        raise Rejected(
            f"MLflow keeps a {flavor['model_class']} as a pickle, which is never read; log its "
            f"booster (model.booster_), or {WAY_OUT}"
        )
    import lightgbm

    return lightgbm.Booster(model_file=str(file))


def _xgboost(folder: Path, flavor: Flavor) -> Any:
    try:
        import xgboost
    except ImportError:
        raise Rejected("an XGBoost model needs XGBoost: pip install 'driftloop[export]'") from None
    booster = xgboost.Booster()
    booster.load_model(str(folder / str(flavor.get("data", "model.ubj"))))
    return booster


def _sklearn(folder: Path, flavor: Flavor) -> Any:
    form = flavor.get("serialization_format")
    if form != "skops":
        raise Rejected(
            f"MLflow keeps this scikit-learn model as a pickle ({form}), and it cannot be served "
            "without unpickling it; log it with serialization_format='skops' and "
            f"input_example=frame, or {WAY_OUT}"
        )
    from skops.io import get_untrusted_types, load

    file = folder / str(flavor.get("pickled_model", "model.skops"))
    try:
        types = get_untrusted_types(file=file)
    except Exception as error:  # skops raises whatever a broken file leads to
        raise _unreadable(file, error) from None
    if strange := [name for name in types if not _is_known_class(name)]:
        raise Rejected(
            f"the model contains {listed(sorted(strange))}, whose code would be run to read it; "
            f"{WAY_OUT}"
        )
    try:
        return load(file, trusted=types)
    except Exception as error:
        raise _unreadable(file, error) from None


def _is_known_class(name: str) -> bool:
    package, _, rest = name.partition(".")
    return package in LIBRARIES and rest.rpartition(".")[2].lstrip("_")[:1].isupper()


def _unreadable(file: Path, error: Exception) -> Rejected:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return Rejected(f"{file.name} cannot be read: {reason[0]}")


def _transformers(folder: Path, flavor: Flavor) -> Any:
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError:
        raise Rejected("a Hugging Face model needs it: pip install transformers") from None
    weights = folder / str(flavor.get("model_binary", "model"))
    if flavor.get("task") != "text-classification" or not weights.is_dir():
        raise Rejected(
            f"of Hugging Face, text classifiers with their weights are taken, and this is "
            f"{flavor.get('task', 'a reference to a model elsewhere')!r}; {WAY_OUT}"
        )
    safe: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        return (
            AutoModelForSequenceClassification.from_pretrained(
                weights, use_safetensors=True, **safe
            ),
            AutoTokenizer.from_pretrained(folder / "components" / "tokenizer", **safe),
        )
    except (OSError, ValueError) as error:
        raise Rejected(
            f"the Hugging Face model cannot be read: {str(error).splitlines()[0]}"
        ) from None


READERS: Mapping[str, Callable[[Path, Flavor], Any]] = {
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "sklearn": _sklearn,
    "transformers": _transformers,
}
"""By MLflow's name of the form. Each raises Rejected, with the way out."""
