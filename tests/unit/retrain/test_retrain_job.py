"""A whole retrain on a lake in memory: what it leaves in the store and the registry."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from driftloop_contracts.errors import RetryLater
from driftloop_contracts.retrain import Retrain, RetrainEvent
from driftloop_lake.port import Pin
from driftloop_retrain.job.job import RetrainContext, run_retrain
from driftloop_retrain.record.workspace import work_folder
from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes import FitContext, FittedModel
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting
from driftloop_store import Store

Ask = Callable[..., str]
HERE = "test_retrain_job"


class Raises:
    name = "raises"

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> FittedModel:
        raise ZeroDivisionError("a recipe of one's own")


class Shuffled:
    """Learns nothing: labels of other rows."""

    name = "shuffled"

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> FittedModel:
        return GradientBoosting().fit(
            replace(train, labels=train.labels[::-1]), validation, context
        )


class Killed(BaseException):
    """Stands for kill -9: no `except Exception` sees it."""


class KilledOnce:
    """Dies in the final fit the first time."""

    name = "killed-once"
    fits = 0

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> FittedModel:
        KilledOnce.fits += 1
        if KilledOnce.fits == 2:
            raise Killed
        return GradientBoosting().fit(train, validation, context)


class KilledAtTheEnd(Store):
    """Dies before the record says that the retrain is over."""

    def change_retrain(self, retrain_id: str, change: Callable[[Retrain], Retrain]) -> Retrain:
        def changed(retrain: Retrain) -> Retrain:
            after = change(retrain)
            if not after.active:
                raise Killed
            return after

        return super().change_retrain(retrain_id, changed)


def test_a_better_candidate_is_registered_and_starts_a_rollout(
    context: RetrainContext, ask: Ask
) -> None:
    retrain_id = ask()
    assert run_retrain(context, retrain_id) == "succeeded"
    record = context.store.retrain(retrain_id)
    assert record.state == "succeeded"
    assert record.result["gate"]["verdict"] == "passed"
    assert record.metrics["accuracy"] > record.result["champion_metrics"]["accuracy"]
    assert record.progress.fraction == 1.0
    made = context.registry.version("loans", 2)
    assert made.tags["retrain_id"] == retrain_id
    assert made.tags["parent_version"] == "1"
    assert "predictions@3" in made.tags["data_version"]
    assert context.registry.aliases("loans") == {"challenger": 2}
    (rollout,) = context.store.rollouts("loans")
    assert rollout["id"] == record.result["rollout"]
    assert rollout["candidate"]["path"] == made.path
    assert not work_folder(context.settings, retrain_id).exists()


def test_the_version_has_a_reference_of_rows_it_was_not_trained_on(
    context: RetrainContext, ask: Ask
) -> None:
    run_retrain(context, ask())
    reference = pq.read_table(Path(context.registry.version("loans", 2).path) / "reference.parquet")
    assert reference.num_rows == 300
    assert reference.column_names == [
        "in_size",
        "in_count",
        "in_flag",
        "in_kind",
        "out_label",
        "out_probabilities",
        "label",
        "label_number",
    ]


def test_slices_are_judged_too(context: RetrainContext, ask: Ask) -> None:
    retrain_id = ask()
    run_retrain(context, retrain_id)
    names = [check["name"] for check in context.store.retrain(retrain_id).result["gate"]["checks"]]
    assert names[0] == "overall"
    assert all(name.startswith("kind=") for name in names[1:])


def test_a_candidate_that_is_worse_is_rejected_with_reasons(
    context: RetrainContext, ask: Ask
) -> None:
    retrain_id = ask(recipes=(f"{HERE}:Shuffled",))
    assert run_retrain(context, retrain_id) == "rejected"
    assert "overall" in context.store.retrain(retrain_id).reasons[0]
    assert len(context.registry.versions("loans")) == 1
    assert context.store.rollouts() == []


def test_an_override_of_the_gate_is_recorded(context: RetrainContext, ask: Ask) -> None:
    retrain_id = ask(recipes=(f"{HERE}:Shuffled",), override_gate=True)
    assert run_retrain(context, retrain_id) == "succeeded"
    result = context.store.retrain(retrain_id).result
    assert result["gate"]["verdict"] == "failed"
    assert "operator" in result["gate_override"]
    assert "gate_override" in context.registry.version("loans", 2).tags
    assert context.store.rollouts("loans")


def test_a_recipe_that_raises_fails_with_its_traceback_and_changes_nothing(
    context: RetrainContext, ask: Ask
) -> None:
    before = context.store.deployment("loans")
    retrain_id = ask(recipes=(f"{HERE}:Raises",))
    assert run_retrain(context, retrain_id) == "failed"
    assert "a recipe of one's own" in context.store.retrain(retrain_id).error
    assert "Traceback" in context.store.retrain(retrain_id).error
    assert context.store.deployment("loans") == before
    assert len(context.registry.versions("loans")) == 1


def test_a_killed_retrain_goes_on_with_the_rows_it_began_with(
    context: RetrainContext, ask: Ask, lake: Any
) -> None:
    KilledOnce.fits = 0
    retrain_id = ask(recipes=(f"{HERE}:KilledOnce",))
    with pytest.raises(Killed):
        run_retrain(context, retrain_id)
    lake.pin = lambda model: Pin(8, 9)  # the lake has grown in the meantime
    assert run_retrain(context, retrain_id) == "succeeded"
    assert set(lake.pins) == {Pin(3, 4)}


def test_run_again_it_registers_and_asks_for_a_rollout_once(
    context: RetrainContext, ask: Ask
) -> None:
    retrain_id = ask()
    with pytest.raises(Killed):
        run_retrain(replace(context, store=KilledAtTheEnd(context.store._engine)), retrain_id)
    assert run_retrain(context, retrain_id) == "succeeded"
    assert len(context.registry.versions("loans")) == 2
    assert len(context.store.rollouts("loans")) == 1


def test_one_that_is_over_is_left_alone(context: RetrainContext, ask: Ask) -> None:
    retrain_id = ask()
    context.store.change_retrain(retrain_id, lambda r: r.after(RetrainEvent.CANCEL))
    assert run_retrain(context, retrain_id) == "cancelled"
    assert len(context.registry.versions("loans")) == 1


def test_a_lake_that_is_away_is_tried_again_later(
    context: RetrainContext, ask: Ask, lake: Any
) -> None:
    retrain_id = ask()
    lake.away = True
    with pytest.raises(RetryLater, match="connection refused"):
        run_retrain(context, retrain_id)
    assert context.store.retrain(retrain_id).state == "running"
    lake.away = False
    assert run_retrain(context, retrain_id) == "succeeded"


def test_an_empty_lake_fails_with_a_sentence(context: RetrainContext, ask: Ask, lake: Any) -> None:
    lake.table = None
    retrain_id = ask()
    assert run_retrain(context, retrain_id) == "failed"
    assert "no prediction" in context.store.retrain(retrain_id).reasons[0]


@pytest.mark.parametrize(
    ("rows", "state", "words"),
    [(10, "rejected", "rows"), (2, "failed", "2 labelled rows are too few")],
)
def test_a_few_rows_decide_nothing(
    rows: int, state: str, words: str, context: RetrainContext, ask: Ask, lake: Any
) -> None:
    lake.table = lake.table.slice(lake.table.num_rows - rows)
    retrain_id = ask()
    assert run_retrain(context, retrain_id) == state
    assert words in " ".join(context.store.retrain(retrain_id).reasons)
    assert context.registry.aliases("loans") == {}


def test_a_candidate_succeeds_without_a_rollout_while_another_is_under_way(
    context: RetrainContext, ask: Ask
) -> None:
    deployment = context.store.require_deployment("loans")
    context.store.request_rollout(
        "other", deployment.versions[0], "loans", context.clock(), "deployed"
    )
    retrain_id = ask()
    assert run_retrain(context, retrain_id) == "succeeded"
    result = context.store.retrain(retrain_id).result
    assert result["rollout"] is None
    assert "already has an active rollout" in result["no_rollout"]
