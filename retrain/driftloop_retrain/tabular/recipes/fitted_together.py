"""What recipes of several labels train: one model for each label, or one that answers all."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.recipes.port import FittedModel


@dataclass(frozen=True)
class FittedTogether:
    """What a recipe of several labels trains. members: by label, a FittedModel that answers it
    alone; what they share, such as the first layers of a network, is in the served graph once."""

    members: Mapping[str, FittedModel]
    rounds: int = 1

    def predict(self, features: pa.Table) -> dict[str, NDArray[np.generic]]:
        """The outputs of all members, `approve.label`, `approve.probabilities`, `amount.value`."""
        return {
            f"{label}.{name}": values
            for label, member in self.members.items()
            for name, values in member.predict(features).items()
        }


def of_member(outputs: Outputs, label: str) -> dict[str, NDArray[np.generic]]:
    """One label's own outputs among those of `FittedTogether.predict`."""
    start = label + "."
    names = {name: name.removeprefix(start) for name in outputs if name.startswith(start)}
    return {own: outputs[name] for name, own in names.items() if "." not in own}
