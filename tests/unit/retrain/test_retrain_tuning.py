"""The search for parameters, on a recipe that takes microseconds."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.objective import Objective
from driftloop_retrain.tabular.dataset import Dataset, Split, dataset_of, split
from driftloop_retrain.tabular.recipes import FitContext
from driftloop_retrain.tabular.search import Found, search
from driftloop_retrain.tabular.tuning.balance import BALANCE, balanced
from driftloop_retrain.tabular.tuning.folds import folds_of
from driftloop_retrain.tabular.tuning.halving import is_dropped
from driftloop_retrain.tabular.tuning.journal import Journal, TrialRecord
from driftloop_retrain.tabular.tuning.sampler import suggestion
from driftloop_retrain.tabular.tuning.space import (
    Parameter,
    Space,
    between,
    grid_of,
    one_of,
    spaces_of,
    whole,
)
from driftloop_settings import RetrainSettings

SPEC = ModelSpec("m", "classification", "label", "tabular")
TRUE_CUT = 0.7


class Killed(BaseException):
    """Stands for kill -9: no `except Exception` sees it."""


@dataclass(frozen=True)
class Cut:
    """Answers 1 above a cut."""

    cut: float
    rounds: int = 1

    def predict(self, features: pa.Table) -> dict[str, Any]:
        return {"label": (features["x"].to_numpy() > self.cut).astype(np.int64)}

    def export(self, folder: Path) -> None:
        raise NotImplementedError


class Cutting:
    """Takes any cut; without parameters a bad one. `before_fit` is called with the number of the
    fit."""

    name = "cutting"
    space: ClassVar[Space] = {"cut": between(-3.0, 3.0), "size": one_of("small", "large")}

    def __init__(self, before_fit: Callable[[int], None] = lambda _: None) -> None:
        self._before, self.fits = before_fit, 0

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> Cut:
        self.fits += 1
        self._before(self.fits - 1)
        cut = float(context.parameters.get("cut", -1.0))
        for step in range(1, 10):
            context.report(step / 9, abs(cut - TRUE_CUT))
        return Cut(cut)


@pytest.fixture(scope="module")
def parts() -> Split:
    x = np.random.default_rng(0).normal(size=2_000).astype(np.float32)
    labels = (x > TRUE_CUT).astype(np.int64)
    at = np.arange(len(x)).astype("datetime64[us]")
    return split(dataset_of(pa.table({"x": x}), labels, at, "made up"), RetrainSettings(), None)


def found(
    recipe: Any, parts: Split, folder: Path, total: int | None = None, **settings: Any
) -> Found:
    context = FitContext("classification", (), 0, folder, classes=np.array([0, 1]))
    said = RetrainSettings(**{"budget_s": 1e6, "deadline_s": 1e7, "trials": 12, **settings})
    clock = itertools.count().__next__
    return search(SPEC, parts, [recipe], context, lambda *_: None, said, total, clock)


def chosen(result: Found) -> tuple[Mapping[str, Any], list[dict[str, object]]]:
    return result.best.parameters, [{**trial.to_dict(), "seconds": None} for trial in result.trials]


def test_searched_parameters_are_better_than_the_recipes_own(undisturbed: Found) -> None:
    result = undisturbed
    assert result.best.mean_loss < result.trials[0].mean_loss / 2
    assert result.record["count"] == 13
    assert result.record["pruned"] > 0


@pytest.fixture(scope="module")
def undisturbed(parts: Split, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return found(Cutting(), parts, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("moment", range(10))
def test_a_search_killed_at_any_moment_ends_as_one_that_was_not(
    parts: Split, undisturbed: Found, tmp_path: Path, moment: int
) -> None:
    def die(fit: int) -> None:
        if fit == moment:
            raise Killed

    with pytest.raises(Killed):
        found(Cutting(die), parts, tmp_path)
    resumed = Cutting()
    assert chosen(found(resumed, parts, tmp_path)) == chosen(undisturbed)
    # 13 trials, and the final training.
    assert resumed.fits == 14 - moment


class Starting(Cutting):
    """With starts that are worse than its own parameters."""

    starts: ClassVar[tuple[Mapping[str, Any], ...]] = tuple(
        {"cut": cut, "size": "small"} for cut in (-2.0, -2.5, -3.0)
    )


def test_what_a_recipe_wants_tried_first_runs_to_its_end(parts: Split, tmp_path: Path) -> None:
    result = found(Starting(), parts, tmp_path, trials=4)
    done = [trial.parameters.get("cut") for trial in result.trials]
    assert done[:4] == [None, -2.0, -2.5, -3.0]


@pytest.mark.parametrize("moment", [1, 4, 6, 9])
def test_trials_that_are_chosen_together_are_the_same_after_a_kill(
    parts: Split, tmp_path: Path, moment: int
) -> None:
    """Three at a time, of which none knows of the others."""

    def die(fit: int) -> None:
        if fit == moment:
            raise Killed

    whole = found(Cutting(), parts, tmp_path / "whole", trials_at_once=3)
    assert whole.record["count"] == 13
    with pytest.raises(Killed):
        found(Cutting(die), parts, tmp_path / "killed", trials_at_once=3)
    resumed = found(Cutting(), parts, tmp_path / "killed", trials_at_once=3)
    assert chosen(resumed) == chosen(whole)
    again = found(Cutting(), parts, tmp_path / "again", total=13, trials_at_once=3)
    assert chosen(again) == chosen(whole)


def test_a_search_is_repeated_by_the_number_of_its_trials(parts: Split, tmp_path: Path) -> None:
    """The clock ticks at each look: the budget ends the search at some trial."""
    once = found(Cutting(), parts, tmp_path / "once", budget_s=100.0, trials=1_000)
    count = once.record["count"]
    assert 2 < count < 50
    again = found(Cutting(), parts, tmp_path / "again", total=count, budget_s=0.5, trials=1)
    assert chosen(again) == chosen(once)


def test_a_search_takes_at_most_half_of_the_time_that_a_retrain_has(
    parts: Split, tmp_path: Path
) -> None:
    whole_one = found(Cutting(), parts, tmp_path / "whole", trials=1_000, deadline_s=200.0)
    again = found(Cutting(), parts, tmp_path / "again", trials=1_000, budget_s=100.0)
    assert chosen(whole_one) == chosen(again)


def test_without_a_budget_only_the_recipes_own_parameters_are_tried(
    parts: Split, tmp_path: Path
) -> None:
    assert found(Cutting(), parts, tmp_path, budget_s=0.0).record["count"] == 1


def test_a_trial_that_fails_is_counted_with_its_reason(parts: Split, tmp_path: Path) -> None:
    def fail(fit: int) -> None:
        if fit in (2, 3):
            raise ValueError("too large")

    result = found(Cutting(fail), parts, tmp_path)
    assert result.record["failed"] == {"ValueError: too large": 2}
    assert result.record["count"] == 13


def test_if_all_trials_fail_the_first_error_is_raised(parts: Split, tmp_path: Path) -> None:
    def fail(fit: int) -> None:
        raise ValueError("never")

    with pytest.raises(ValueError, match="never"):
        found(Cutting(fail), parts, tmp_path)


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_other_samplers(parts: Split, tmp_path: Path, sampler: str) -> None:
    result = found(Cutting(), parts, tmp_path, sampler=sampler)
    # A grid of three cuts and two sizes ends the search.
    assert result.record["count"] == (7 if sampler == "grid" else 13)


def test_a_space_of_the_users_replaces_the_recipes(parts: Split, tmp_path: Path) -> None:
    result = found(
        Cutting(), parts, tmp_path, spaces={"cutting": {"cut": {"low": 0.65, "high": 0.75}}}
    )
    cuts = [trial.parameters["cut"] for trial in result.trials[1:]]
    assert all(0.65 <= float(cut) <= 0.75 for cut in cuts)
    assert {"size", "cut"} == set(result.trials[1].parameters)


def test_a_space_of_a_recipe_that_does_not_compete_is_refused() -> None:
    said = RetrainSettings(spaces={"other": {"cut": {"low": 0.0, "high": 1.0}}})
    with pytest.raises(Rejected, match="'other' is not among cutting"):
        spaces_of([Cutting()], said.spaces)


@pytest.mark.parametrize(
    ("loss", "others", "dropped"),
    [
        (1.0, [], False),
        (1.0, [2.0], False),
        (1.0, [0.5], True),
        (1.0, [0.5, 2.0, 3.0, 4.0, 5.0], False),
        (1.0, [0.5, 0.6, 3.0, 4.0, 5.0], True),
    ],
)
def test_the_best_third_goes_on(loss: float, others: list[float], dropped: bool) -> None:
    assert is_dropped(loss, others) == dropped


def record(value: float, **parameters: Any) -> TrialRecord:
    return TrialRecord("cutting", "all", parameters, "done", 1.0, 1, value)


@pytest.mark.parametrize("method", ["tpe", "random"])
def test_a_suggestion_depends_on_nothing_but_the_trials_before(method: Any) -> None:
    spaces = {"cutting": Cutting.space}
    past = [record(abs(c - 0.7), cut=c, size="small") for c in np.linspace(-3, 3, 12)]
    first, second = (suggestion(spaces, past, method, 1, 12) for _ in range(2))
    assert first == second
    assert suggestion(spaces, past, method, 2, 12) != first


def test_a_line_cut_short_and_another_searchs_journal_are_not_used(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "a")
    journal.add(record(0.5, cut=1.0), {"label": np.array(["é", ""], dtype=object)})
    journal.add(record(0.4, cut=2.0), {"label": np.array(["x", "y"], dtype=object)})
    file = tmp_path / "trials.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    again = Journal(tmp_path, "a")
    assert again.records == [record(0.5, cut=1.0)]
    assert again.outputs(0)["label"].tolist() == ["é", ""]
    assert Journal(tmp_path, "b").records == []


def test_rare_classes_weigh_more_by_a_power(parts: Split) -> None:
    weighted, left = balanced(parts.train, {BALANCE: 1.0, "cut": 2.0})
    ones = parts.train.labels == 1
    assert weighted.weights[ones].sum() == pytest.approx(weighted.weights[~ones].sum())
    assert left == {"cut": 2.0}
    assert balanced(parts.train, {"cut": 2.0})[0] is parts.train


def test_the_weights_of_classes_are_searched_for_an_objective(parts: Split, tmp_path: Path) -> None:
    seen = []

    class Weighing(Cutting):
        def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> Cut:
            seen.append((float(train.weights.max()), BALANCE in context.parameters))
            return super().fit(train, validation, context)

    spec = replace(SPEC, objective=Objective(metric="balanced_error"), classes=("0", "1"))
    context = FitContext("classification", (), 0, tmp_path, classes=np.array([0, 1]))
    settings = RetrainSettings(budget_s=1_000, trials=8)
    search(spec, parts, [Weighing()], context, lambda *_: None, settings)
    assert seen[0] == (1.0, False)
    assert any(weight > 1.5 for weight, _ in seen)
    assert not any(passed for _, passed in seen)


def test_a_grid_takes_families_in_turn() -> None:
    spaces = {"one": {"a": whole(1, 9)}, "two": {"b": one_of(True, False)}}
    assert [family for family, _ in grid_of(spaces)] == ["one", "two", "one", "two", "one"]
    assert Parameter(1.0, 100.0, log=True).grid() == pytest.approx((1.0, 10.0, 100.0))


def test_windows_are_newer_than_what_is_trained_on(parts: Split) -> None:
    folds = folds_of(parts, RetrainSettings(validation="rolling", validation_splits=3))
    for fold in folds:
        assert fold.train.at.max() < fold.validation.at.min()
        assert fold.validation.rows == parts.validation.rows
    assert folds[-1].validation.at.max() == parts.fit.at.max()


def test_random_parts_hold_each_row_once(parts: Split) -> None:
    changed = replace(parts, fresh_from=900)
    folds = folds_of(changed, RetrainSettings(validation="k-fold", validation_splits=5))
    seen = np.concatenate([fold.validation.at for fold in folds])
    assert sorted(seen.tolist()) == sorted(parts.fit.at.tolist())
    for fold in folds:
        assert fold.train.at[fold.fresh_from] >= parts.fit.at[900]
        assert fold.train.at[fold.fresh_from - 1] < parts.fit.at[900]


def test_too_few_rows_for_windows_are_refused(parts: Split) -> None:
    with pytest.raises(Rejected, match="validation windows"):
        folds_of(parts, RetrainSettings(validation="rolling", validation_splits=9))
