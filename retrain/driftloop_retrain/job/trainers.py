"""The trainer of each kind of model. Imported on demand, because the training libraries take
seconds to load."""

import importlib
from collections.abc import Mapping
from typing import cast

from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind
from driftloop_contracts.model import ModelSpec
from driftloop_retrain.job.trainer import Trainer

TRAINERS: Mapping[ModelKind, str] = {
    TABULAR: "driftloop_retrain.tabular.trainer:TabularTrainer",
    LANGUAGE: "driftloop_retrain.language.trainer:LanguageTrainer",
}


SEVERAL = "driftloop_retrain.tabular.several.trainer:SeveralTrainer"
"""Of a tabular model with several labels."""


def trainer_of(spec: ModelSpec) -> Trainer:
    several = spec.kind is TABULAR and spec.labels
    module, _, name = (SEVERAL if several else TRAINERS[spec.kind]).partition(":")
    return cast("Trainer", getattr(importlib.import_module(module), name)())
