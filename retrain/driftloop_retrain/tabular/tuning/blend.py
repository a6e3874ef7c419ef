"""An ensemble of a search's trials, if it answers better than the best of them.

Each half of the validation rows judges the members and weights that are best on the other half:
those that are best on all rows seem better than they are. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from driftloop_retrain.tabular.evaluate import Outputs
from driftloop_retrain.tabular.recipes.ensemble import ENSEMBLE
from driftloop_retrain.tabular.tuning.blending import blended, can_be_combined, combined
from driftloop_retrain.tabular.tuning.trial import Trial, best_of

MEMBERS = 6
"""The best trials, of which an ensemble is made."""
WHOLE, OLDER, NEWER = range(3)


@dataclass(frozen=True)
class Blend:
    """trial: of the ensemble, with the losses by weights of the other half. answers: to the
    validation rows, by the weights of the members."""

    trial: Trial
    answers: Outputs
    members: tuple[tuple[Trial, float], ...]


def blend_of(
    best: Trial,
    trials: Sequence[Trial],
    outputs_of: Callable[[int], Outputs],
    judge: Callable[[Outputs], Trial],
    most: int,
    classes: NDArray[np.generic] | None,
) -> Blend | None:
    """Make an ensemble of at most `most` members; None if it is not better than `best` by more than
    noise, or if these cannot be combined. outputs_of: a trial's number → what it answered to the
    validation rows. judge: the trial that such answers would be."""
    middle = len(best.losses) // 2
    parts = slice(None), slice(None, middle), slice(middle, None)
    if most < 2 or any(np.isnan(best.losses[part]).all() for part in parts):
        return None
    ranked = [_ranked(best, trials, part) for part in parts]
    by_number = {trial.number: trial for each in ranked for trial in each}
    outputs = {number: outputs_of(number) for number in by_number}
    outputs = {n: each for n, each in outputs.items() if can_be_combined(each, classes)}
    if best.number not in outputs:
        return None

    def weights_on(part: int) -> dict[int, float]:
        return blended(
            {t.number: outputs[t.number] for t in ranked[part] if t.number in outputs},
            lambda each: float(np.nanmean(judge(each).losses[parts[part]])),
            classes,
            most,
        )

    def judged(weights: Mapping[int, float]) -> tuple[Trial, Outputs]:
        answers = combined([outputs[n] for n in weights], [*weights.values()], classes)
        return judge(answers), answers

    older, newer = (judged(weights_on(other))[0].losses for other in (NEWER, OLDER))
    losses = np.concatenate([older[parts[OLDER]], newer[parts[NEWER]]])
    weights = weights_on(WHOLE)
    if len(weights) < 2 or best_of([best, replace(best, losses=losses)]) is best:
        return None
    trial, answers = judged(weights)
    named = {f"{by_number[n].family} {n}": weight for n, weight in weights.items()}
    trial = replace(trial, family=ENSEMBLE, parameters=named, losses=losses)
    return Blend(trial, answers, tuple((by_number[n], weight) for n, weight in weights.items()))


def _ranked(best: Trial, trials: Sequence[Trial], part: slice) -> list[Trial]:
    """`best` and those that are best on a part of the validation rows."""
    others = [trial for trial in trials if trial is not best]
    others.sort(key=lambda trial: float(np.nanmean(trial.losses[part])))
    return [best, *others[: MEMBERS - 1]]
