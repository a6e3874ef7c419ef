"""A retrain of a model that says what is worse."""

from collections.abc import Callable
from dataclasses import replace

from driftloop_contracts.model import ModelSpec
from driftloop_retrain.job.job import RetrainContext, run_retrain

Ask = Callable[..., str]


def test_search_and_gate_judge_by_the_models_objective(context: RetrainContext, ask: Ask) -> None:
    deployment = context.store.require_deployment("loans")
    said = {
        "objective": {"metric": "brier", "margin": "10%"},
        "guardrails": [{"metric": "miss_rate", "positive": 1, "margin": 0.1}],
        "slices": [{"small": "size < 0"}, {"none": "size > 1e9"}],
    }
    spec = ModelSpec.from_dict(deployment.model.to_dict() | said)
    context.store.put_deployment(replace(deployment, model=spec))
    retrain_id = ask()
    run_retrain(context, retrain_id)
    result = context.store.retrain(retrain_id).result
    gate = result["gate"]
    assert [check["name"] for check in gate["checks"]] == ["overall", "miss_rate 1", "small"]
    assert gate["notes"] == ["slice none: too few rows, 0"]
    assert gate["checks"][0]["candidate"] < gate["checks"][0]["champion"] < 0.5
