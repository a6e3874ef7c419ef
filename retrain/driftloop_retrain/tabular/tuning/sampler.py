"""Chooses the next parameters (Optuna).

A choice depends only on the seed, its number and the trials before it: the study is built anew for
each, so that a search that was killed chooses as one that was not.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from driftloop_retrain.tabular.tuning.journal import TrialRecord
from driftloop_retrain.tabular.tuning.space import Parameter, Parameters, Space, grid_of

Method = Literal["tpe", "random", "grid"]
STARTUP = 6
"""Trials that are chosen at random before TPE has something to go by."""
FAMILY = "family"


def suggestion(
    spaces: Mapping[str, Space], past: Sequence[TrialRecord], method: Method, seed: int, number: int
) -> tuple[str, Parameters] | None:
    """Return family and parameters of the search's trial of this number, from 0; None if a grid has
    no more. past: with all parameters of their spaces."""
    if method == "grid":
        points = grid_of(spaces)
        return points[number] if number < len(points) else None
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seed = (seed * 1_000_003 + number) % 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = (
            optuna.samplers.RandomSampler(seed)
            if method == "random"
            else optuna.samplers.TPESampler(
                n_startup_trials=STARTUP, multivariate=True, group=True, seed=seed
            )
        )
    study = optuna.create_study(sampler=sampler)
    study.add_trials([_frozen(spaces, record) for record in past if record.family in spaces])
    trial = study.ask()
    family = trial.suggest_categorical(FAMILY, list(spaces))
    return family, {
        name: _suggested(trial, f"{family}.{name}", parameter)
        for name, parameter in spaces[family].items()
    }


def _suggested(trial: Any, name: str, parameter: Parameter) -> Any:
    if parameter.values:
        return trial.suggest_categorical(name, parameter.values)
    if parameter.whole:
        return trial.suggest_int(name, int(parameter.low), int(parameter.high), log=parameter.log)
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log)


def _distribution(parameter: Parameter) -> Any:
    from optuna import distributions as kinds

    if parameter.values:
        return kinds.CategoricalDistribution(parameter.values)
    if parameter.whole:
        low, high = int(parameter.low), int(parameter.high)
        return kinds.IntDistribution(low, high, log=parameter.log)
    return kinds.FloatDistribution(parameter.low, parameter.high, log=parameter.log)


def _frozen(spaces: Mapping[str, Space], record: TrialRecord) -> Any:
    import optuna

    space, states = spaces[record.family], optuna.trial.TrialState
    state = {"done": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[record.state]
    given = {
        name: record.parameters[name]
        for name, parameter in space.items()
        if name in record.parameters and _is_within(parameter, record.parameters[name])
    }
    return optuna.trial.create_trial(
        state=state,
        value=record.value if record.state == "done" else None,
        params={FAMILY: record.family} | {f"{record.family}.{n}": v for n, v in given.items()},
        distributions={FAMILY: optuna.distributions.CategoricalDistribution(list(spaces))}
        | {f"{record.family}.{name}": _distribution(space[name]) for name in given},
        intermediate_values=dict(enumerate(record.rungs)),
    )


def _is_within(parameter: Parameter, value: Any) -> bool:
    if parameter.values:
        return value in parameter.values
    return bool(parameter.low <= value <= parameter.high)
