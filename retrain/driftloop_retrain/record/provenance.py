"""The code and environment of a training, and the part of them in a version's tags."""

import hashlib
import importlib
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from driftloop_contracts.file_hash import sha256_of
from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind
from driftloop_contracts.retrain import Retrain
from driftloop_settings import Settings

DISTRIBUTION = "driftloop"
PACKAGES = (
    "driftloop_contracts",
    "driftloop_evaluation",
    "driftloop_export",
    "driftloop_lake",
    "driftloop_onnx",
    "driftloop_retrain",
)
"""Our packages that can affect the result of a training."""
DECIDING: Mapping[ModelKind, tuple[str, ...]] = {
    TABULAR: (
        "driftloop", "lightgbm", "numpy", "onnx", "onnxruntime", "optuna", "pyarrow",
        "scikit-learn", "scipy", "torch",
    ),
    LANGUAGE: (
        "driftloop", "accelerate", "datasets", "numpy", "peft", "tokenizers", "torch",
        "transformers", "trl",
    ),
}  # fmt: skip
"""Distributions that can change the last digits of a graph or an adapter."""


class NamedRecipe(Protocol):
    """The attribute common to recipes of all kinds."""

    @property
    def name(self) -> str: ...


class Code(BaseModel):
    """commit: driftloop's git commit, with `+` if files were changed; None outside git. sha256: the
    hash of our training sources. recipes: hashes of users' recipe sources, by name."""

    model_config = ConfigDict(frozen=True)

    version: str
    commit: str | None
    sha256: str
    recipes: dict[str, str] = {}


class Environment(BaseModel):
    """sha256: the hash of all packages with their versions."""

    model_config = ConfigDict(frozen=True)

    python: str
    machine: str
    sha256: str
    packages: dict[str, str]

    def differences(self, other: "Environment", deciding: Sequence[str]) -> list[str]:
        """Return the differences that can change a result, as `name here → there`."""
        mine = {"python": self.python, "machine": self.machine}
        theirs = {"python": other.python, "machine": other.machine}
        mine |= {name: self.packages.get(name, "none") for name in deciding}
        theirs |= {name: other.packages.get(name, "none") for name in deciding}
        return [f"{n} {mine[n]} → {theirs[n]}" for n in mine if mine[n] != theirs[n]]


@cache
def this_environment() -> Environment:
    packages = {str(d.metadata["Name"]).lower(): d.version for d in distributions()}
    names = sorted(f"{name}=={found}" for name, found in packages.items())
    return Environment(
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        sha256=_digest("\n".join(names)),
        packages=dict(sorted(packages.items())),
    )


def this_code(recipes: Iterable[NamedRecipe]) -> Code:
    """Return the current code, with these recipes."""
    foreign = {
        recipe.name: sha256_of(Path(file))
        for recipe in recipes
        if (module := getattr(recipe, "module", type(recipe).__module__)).partition(".")[0]
        not in PACKAGES
        and (file := getattr(importlib.import_module(module), "__file__", None))
    }
    return Code(
        version=version(DISTRIBUTION), commit=code_version(), sha256=_our_hash(), recipes=foreign
    )


def _module(recipe: NamedRecipe) -> str:
    """The module with its code: of a decorated function, that of the function."""
    return str(getattr(recipe, "module", type(recipe).__module__))


@cache
def code_version() -> str | None:
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=5, check=True
        )
        return done.stdout.strip()

    try:
        # If installed in an environment inside another repository, that repository is not ours.
        if not git("ls-files", "--", Path(__file__).name):
            return None
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def tags_of(settings: Settings, retrain: Retrain, data: str, parent: int) -> dict[str, str]:
    """Return the tags of a registered version; `lineage.json` has the complete information."""
    tags = {
        "retrain_id": retrain.id,
        "data_version": data,
        "parent_version": str(parent),
        "seed": str(settings.retrain.seed),
        "config_hash": _digest(settings.retrain.model_dump_json())[:16],
        "environment_hash": this_environment().sha256[:16],
        "reason": retrain.reason,
        "source": "retrain",
    }
    code = code_version()
    return tags | ({"code_version": code} if code else {})


def params_of(settings: Settings, outcome: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of a run: the settings of retraining, and the winner."""
    params = {k: json.dumps(v) for k, v in settings.retrain.model_dump(mode="json").items()}
    return params | {k: str(outcome[k]) for k in ("family", "span", "rounds", "rows", "fresh_rows")}


@cache
def _our_hash() -> str:
    lines = []
    for package in PACKAGES:
        folder = Path(str(importlib.import_module(package).__file__)).parent
        lines += [
            f"{package}/{path.relative_to(folder)} {sha256_of(path)}"
            for path in sorted(folder.rglob("*.py"))
        ]
    return _digest("\n".join(lines))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
