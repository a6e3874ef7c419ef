"""The trainer of each kind of model. Imported on demand, because the training libraries take
seconds to load."""

import importlib
from collections.abc import Mapping
from typing import cast

from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind
from driftloop_retrain.job.trainer import Trainer

TRAINERS: Mapping[ModelKind, str] = {
    TABULAR: "driftloop_retrain.tabular.trainer:TabularTrainer",
    LANGUAGE: "driftloop_retrain.language.trainer:LanguageTrainer",
}


def trainer_of(kind: ModelKind) -> Trainer:
    module, _, name = TRAINERS[kind].partition(":")
    return cast("Trainer", getattr(importlib.import_module(module), name)())
