"""A fine-tune of a tiny language model: from rows in a Delta lake to an adapter in MLflow."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tiny_llama import tiny_llama

from driftloop_contracts.clock import system_clock
from driftloop_contracts.events import (
    LABELS,
    PREDICTIONS,
    LabelEvent,
    PredictionHeaders,
    prediction_schema,
)
from driftloop_contracts.language import CORRECTION, RATING, SIGNATURE
from driftloop_contracts.model import Deployment, ModelSpec, TrafficSplit
from driftloop_contracts.retrain import Retrain
from driftloop_lake.delta_lake import open_lake
from driftloop_lake.records import KafkaPosition, LabelRecord, Origin, PredictionRecord
from driftloop_registry.mlflow_registry import open_registry
from driftloop_retrain.job.job import RetrainContext, run_retrain
from driftloop_retrain.job.reproduce import reproduce
from driftloop_retrain.record.lineage import read_lineage
from driftloop_settings import Settings, TuningSettings
from driftloop_store import open_store
from driftloop_vllm.adapters import check_adapter

pytestmark = pytest.mark.language
NOW = datetime.now(UTC)
MODEL = "helper"
RETRAIN = "0f4f7e7e-4f6d-4a5e-9a57-00000000000"
ANSWERS = 140


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture
def context(tmp_path: Path, base: Path) -> RetrainContext:
    """Version 1, the base, serves; its answers were all rated 0 and corrected."""
    settings = Settings(
        state_dir=tmp_path / "state",
        tuning=TuningSettings(
            steps=24,
            learning_rate=2e-2,
            rank=4,
            epochs=10,
            generated=2,
            generated_tokens=4,
            max_forgetting=50.0,
            threads=1,
        ),
    )
    settings.state_dir.mkdir()
    registry, store = open_registry(settings), open_store(settings.store_url)
    made = registry.register(MODEL, base, SIGNATURE, metrics={}, params={}, tags={})
    spec = ModelSpec(MODEL, "generation", "text", "lora-sft", runtime="vllm")
    store.put_deployment(Deployment(spec, (made.served,), TrafficSplit(1)))
    _archive(settings)
    return RetrainContext(settings, store, open_lake(settings), registry, system_clock)


def _archive(settings: Settings) -> None:
    at = [NOW - timedelta(seconds=ANSWERS - i) for i in range(ANSWERS)]
    rows: dict[str, list[Any]] = {
        "prediction_id": [f"p{i:06}" for i in range(ANSWERS)],
        "row": [0] * ANSWERS,
        "version": [1] * ANSWERS,
        "arm": ["stable"] * ANSWERS,
        "predicted_at": at,
        "replica": ["r"] * ANSWERS,
        "sequence": list(range(ANSWERS)),
        "latency_s": [0.1] * ANSWERS,
        "routing_key_hash": [None] * ANSWERS,
        "trace_id": [None] * ANSWERS,
        "error": [None] * ANSWERS,
        "in_messages": [
            json.dumps([{"role": "user", "content": f"what is module {i}?"}])
            for i in range(ANSWERS)
        ],
        "in_parameters": ["{}"] * ANSWERS,
        "in_operation": ["chat.completions"] * ANSWERS,
        "out_text": [f"no idea {i}" for i in range(ANSWERS)],
        "out_tool_calls": [""] * ANSWERS,
        "out_finish_reason": ["stop"] * ANSWERS,
        "out_prompt_tokens": [9] * ANSWERS,
        "out_completion_tokens": [4] * ANSWERS,
        "out_first_token_s": [0.1] * ANSWERS,
        "out_token_s": [0.01] * ANSWERS,
    }
    labels = [
        label
        for i in range(ANSWERS)
        for label in (
            LabelEvent(f"p{i:06}", 0, 0, at[i], at[i], metric=RATING),
            LabelEvent(f"p{i:06}", 0, "import it. Source: docs", at[i], at[i], metric=CORRECTION),
        )
    ]
    writer = open_lake(settings).writer()
    writer.positions([(PREDICTIONS, 0), (LABELS, 0)])
    writer.append(
        [
            PredictionRecord(
                Origin(KafkaPosition(PREDICTIONS, 0, 0), NOW, b"", "{}"),
                PredictionHeaders(MODEL, 1, "r", 0, ANSWERS - 1, ANSWERS),
                pa.table(rows, schema=prediction_schema(SIGNATURE)),
            ),
            LabelRecord(Origin(KafkaPosition(LABELS, 0, 1), NOW, b"", "{}"), tuple(labels)),
        ]
    )


@pytest.fixture
def retrain(context: RetrainContext) -> Callable[..., Retrain]:
    def one(number: int = 1, **body: object) -> Retrain:
        asked: Any = {"trigger": "operator", "reason": "a test", "champion": 1, **body}
        context.store.request_retrain(
            Retrain(id=f"{RETRAIN}{number}", model=MODEL, at=NOW, **asked)
        )
        run_retrain(context, f"{RETRAIN}{number}")
        return context.store.retrain(f"{RETRAIN}{number}")

    return one


def test_corrections_become_an_adapter_that_goes_to_the_canary_and_can_be_made_again(
    context: RetrainContext, retrain: Callable[..., Retrain], base: Path, tmp_path: Path
) -> None:
    record = retrain()
    assert record.state == "succeeded", record.error
    result = record.result
    assert result["metrics"]["loss"] < result["champion_metrics"]["loss"]
    assert result["kinds"] == {
        "correction": 98,
    }
    made = context.registry.version(MODEL, 2)
    assert made.base == 1
    check_adapter(Path(made.path), base, max_rank=16)
    assert (Path(made.path).parent / "artifacts" / "report.html").is_file()
    (rollout,) = context.store.rollouts(MODEL)
    assert rollout["candidate"]["base"] == 1
    lineage = read_lineage(made)
    assert lineage is not None
    assert lineage.tuning is not None
    assert lineage.tuning.base_version == 1

    again = reproduce(
        context.settings,
        context.lake,
        context.registry,
        made,
        tmp_path / "again",
        1e-6,
        lambda *_: None,
    )
    assert again.ok, again.to_dict()
    assert again.graph.same

    deployment = context.store.require_deployment(MODEL).with_version(made.served)
    context.store.put_deployment(replace(deployment, split=TrafficSplit(2)))
    next_record = retrain(2, champion=2)
    assert next_record.result["base_version"] == 1
    assert next_record.result["champion_metrics"]["loss"] == pytest.approx(
        result["metrics"]["loss"], abs=1e-4
    )
    assert next_record.state in ("succeeded", "rejected"), next_record.error
