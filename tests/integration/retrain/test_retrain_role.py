"""The role with its child process, on a Delta lake and MLflow."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from driftloop_contracts.clock import system_clock
from driftloop_contracts.events import (
    LABELS,
    PREDICTIONS,
    LabelEvent,
    PredictionHeaders,
    prediction_schema,
)
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.retrain import Retrain, RetrainEvent
from driftloop_lake.delta_lake import open_lake
from driftloop_lake.records import KafkaPosition, LabelRecord, Origin, PredictionRecord
from driftloop_onnx import OnnxModel
from driftloop_registry.mlflow_registry import open_registry
from driftloop_retrain.job.job import RetrainContext, run_retrain
from driftloop_retrain.job.role import run
from driftloop_retrain.record.graph_identity import graph_hash
from driftloop_retrain.tabular.dataset import Dataset, input_tensors
from driftloop_retrain.tabular.inference import outputs_of
from driftloop_retrain.tabular.initial_training import train_first
from driftloop_retrain.tabular.recipes import FitContext, FittedModel
from driftloop_retrain.tabular.recipes.check import example
from driftloop_retrain.tabular.recipes.gradient_boosting import GradientBoosting
from driftloop_retrain.tabular.several.data import from_file_together
from driftloop_settings import RetrainSettings, RolloutSettings, Settings
from driftloop_store import Store, open_store

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
NOW = datetime.now(UTC)
ENDS = ("succeeded", "rejected", "failed", "cancelled")
RETRAIN = "0f4f7e7e-4f6d-4a5e-9a57-000000000002"


class Endless:
    """Trains until it is stopped."""

    name = "endless"

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> FittedModel:
        threading.Event().wait()
        raise AssertionError


class Greedy:
    """Takes ever more memory."""

    name = "greedy"

    def fit(self, train: Dataset, validation: Dataset | None, context: FitContext) -> FittedModel:
        kept = []
        while len(kept) < 100:
            kept.append(b"x" * (32 << 20))
            threading.Event().wait(0.05)
        threading.Event().wait()
        raise AssertionError


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A state directory with version 1 serving and 2,000 labelled rows in the lake."""
    settings = Settings(state_dir=tmp_path / "state", retrain={"budget_s": 0})
    settings.state_dir.mkdir()
    data = example("classification", rows=150, seed=5)
    context = FitContext(
        "classification",
        input_tensors(data.features),
        0,
        tmp_path,
        classes=np.unique(data.labels),
        rounds=2,
    )
    (tmp_path / "first").mkdir()
    GradientBoosting().fit(data, None, context).export(tmp_path / "first")
    champion = OnnxModel(tmp_path / "first")
    made = open_registry(settings).register(
        "loans", tmp_path / "first", champion.signature, metrics={}, params={}, tags={}
    )
    spec = ModelSpec("loans", "classification", "label", "tabular")
    served = ServedVersion(made.version, made.path, champion.signature)
    open_store(settings.store_url).put_deployment(Deployment(spec, (served,), TrafficSplit(1)))
    archive(settings, champion, example("classification", rows=2_000))
    return settings


def archive(
    settings: Settings, champion: OnnxModel, data: Dataset, model: str = "loans", offset: int = 0
) -> None:
    n = data.rows
    at = [NOW - timedelta(seconds=n - i) for i in range(n)]
    rows: dict[str, Any] = {
        "prediction_id": [f"{model}{i:06}" for i in range(n)],
        "row": [0] * n,
        "version": [1] * n,
        "arm": ["stable"] * n,
        "predicted_at": at,
        "replica": ["r"] * n,
        "sequence": list(range(n)),
        "latency_s": [0.01] * n,
        "routing_key_hash": [None] * n,
        "trace_id": [None] * n,
        "error": [None] * n,
    }
    rows |= {f"in_{name}": data.features[name].to_pylist() for name in data.features.column_names}
    outputs = outputs_of(champion, data.features)
    rows |= {f"out_{name}": values.tolist() for name, values in outputs.items()}
    table = pa.table(rows, schema=prediction_schema(champion.signature))
    labels = tuple(
        LabelEvent(f"{model}{i:06}", 0, label, at[i], at[i])
        for i, label in enumerate(data.label_values)
    )
    writer = open_lake(settings).writer()
    writer.positions([(PREDICTIONS, 0), (LABELS, 0)])
    writer.append(
        [
            PredictionRecord(
                Origin(KafkaPosition(PREDICTIONS, 0, offset), NOW, b"", json.dumps({})),
                PredictionHeaders(model, 1, "r", 0, n - 1, n),
                table,
            ),
            LabelRecord(
                Origin(KafkaPosition(LABELS, 0, offset + 1), NOW, b"", json.dumps({})), labels
            ),
        ]
    )


@pytest.fixture(autouse=True)
def recipes_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child process finds this module's recipes as it would a user's."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


@pytest.fixture
def start() -> Iterator[Callable[[Settings], threading.Event]]:
    """Starts the role beside the test; what it returns stops it."""
    running: list[tuple[threading.Thread, threading.Event]] = []

    def one(settings: Settings) -> threading.Event:
        stop = threading.Event()
        thread = threading.Thread(target=run, args=(settings, stop))
        thread.start()
        running.append((thread, stop))
        return stop

    yield one
    for thread, stop in running:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def request(store: Store, **body: object) -> None:
    asked: Any = {"trigger": "operator", "reason": "a test", "champion": 1, **body}
    store.request_retrain(Retrain(id=RETRAIN, model="loans", at=NOW, **asked))


def until(store: Store, wanted: Callable[[Retrain], bool], id_: str = RETRAIN) -> Retrain:
    for _ in range(3_000):
        record = store.retrain(id_)
        if wanted(record):
            return record
        assert not over(record), record
        threading.Event().wait(0.1)  # another process works: all we can do is look again
    raise AssertionError(record)


def over(record: Retrain) -> bool:
    return record.state in ENDS


def training(record: Retrain) -> bool:
    return record.progress is not None and record.progress.stage == "train"


def child() -> psutil.Process:
    running = [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    found = [p for p in running if "driftloop_retrain.job.worker_process" in p.cmdline()]
    assert len(found) == 1
    return found[0]


def test_a_retrain_whose_process_is_killed_goes_on_and_succeeds_once(
    settings: Settings, start: Callable[[Settings], threading.Event]
) -> None:
    store = open_store(settings.store_url)
    request(store)
    start(settings)
    until(store, training)
    child().kill()
    record = until(store, over)
    assert record.state == "succeeded", record
    assert [v.version for v in open_registry(settings).versions("loans")] == [1, 2]
    assert open_registry(settings).aliases("loans") == {"challenger": 2}
    assert len(store.rollouts("loans")) == 1


def run_in_a_process(settings: Settings, retrain_id: str) -> None:
    """As the role's process does, but in one whose modules are imported already."""
    context = RetrainContext(
        settings,
        open_store(settings.store_url),
        open_lake(settings),
        open_registry(settings),
        system_clock,
    )
    run_retrain(context, retrain_id)


@pytest.mark.faults
@pytest.mark.timeout(1_200)
def test_a_retrain_killed_at_any_of_ten_random_moments_ends_with_the_same_version(
    settings: Settings,
) -> None:
    """Trees and a network whose parameters are searched. The moments are drawn from the time of a
    retrain that is not killed; one that was killed may be killed again."""
    retrain = RetrainSettings(budget_s=1_200, trials=3)
    rollout = RolloutSettings(auto_start=False)
    settings = settings.model_copy(update={"retrain": retrain, "rollout": rollout})
    store, random = open_store(settings.store_url), np.random.default_rng(22)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__, "torch", "optuna", "lightgbm", "mlflow"])

    def asked(number: int) -> str:
        id_ = f"{RETRAIN[:-2]}{number:02}"
        store.request_retrain(
            Retrain(id=id_, model="loans", at=NOW, trigger="operator", champion=1)
        )
        return id_

    def life(id_: str, most_s: float | None) -> bool:
        """Whether it was killed after `most_s`."""
        process = processes.Process(target=run_in_a_process, args=(settings, id_))
        process.start()
        process.join(most_s)
        process.kill()
        process.join()
        return process.exitcode == -signal.SIGKILL

    life(asked(10), None)  # imports
    begun = time.monotonic()
    life(asked(11), None)
    whole_s, kills, ids = time.monotonic() - begun, 0, [10, 11]
    while kills < 10:
        ids.append(ids[-1] + 1)
        id_ = asked(ids[-1])
        while not over(store.retrain(id_)):
            kills += life(id_, None if kills == 10 else random.uniform(0, whole_s))
    records = [store.retrain(f"{RETRAIN[:-2]}{each:02}") for each in ids]
    assert [record.state for record in records] == ["succeeded"] * len(records)
    versions = [open_registry(settings).version("loans", record.version) for record in records]
    assert len({graph_hash(Path(version.path)) for version in versions}) == 1
    found = [
        (record.metrics, [trial["parameters"] for trial in record.result["trials"]])
        for record in records
    ]
    assert all(each == found[0] for each in found)
    assert len(found[0][1]) >= 4


def test_a_cancelled_retrain_ends_its_process(
    settings: Settings, start: Callable[[Settings], threading.Event]
) -> None:
    store = open_store(settings.store_url)
    request(store, recipes=(f"{__name__}:Endless",))
    start(settings)
    until(store, training)
    process = child()
    store.change_retrain(RETRAIN, lambda r: r.after(RetrainEvent.CANCEL))
    assert psutil.wait_procs([process], timeout=30)[1] == []
    assert store.retrain(RETRAIN).state == "cancelled"


def test_a_stopped_role_leaves_a_retrain_to_the_next_one(
    settings: Settings, start: Callable[[Settings], threading.Event]
) -> None:
    store = open_store(settings.store_url)
    request(store, recipes=("gradient-boosting",))
    stop = start(settings)
    until(store, lambda record: record.state == "running")
    stop.set()
    start(settings)
    assert until(store, over).state == "succeeded"


def request_cards(settings: Settings, store: Store, recipe: str) -> Retrain:
    """Of a second model, with rows and a champion like the first one's."""
    (deployment,) = store.deployments()
    champion = OnnxModel(deployment.versions[0].path)
    archive(settings, champion, example("classification", rows=2_000), "cards", 1)
    spec = replace(deployment.model, name="cards", policy={})
    store.put_deployment(Deployment(spec, deployment.versions, deployment.split))
    cards = Retrain(
        id=RETRAIN[:-1] + "7", model="cards", at=NOW, trigger="operator", champion=1,
        recipes=(recipe,),
    )  # fmt: skip
    store.request_retrain(cards)
    return cards


def test_two_models_retrain_at_once_if_there_are_two_cores(
    settings: Settings, start: Callable[[Settings], threading.Event]
) -> None:
    store = open_store(settings.store_url)
    endless = f"{__name__}:Endless"
    cards = request_cards(settings, store, endless)
    request(store, recipes=(endless,))
    start(settings.model_copy(update={"retrain": RetrainSettings(cores=2)}))
    until(store, lambda record: training(record) and training(store.retrain(cards.id)))
    for running in (RETRAIN, cards.id):
        store.change_retrain(running, lambda r: r.after(RetrainEvent.CANCEL))


def test_a_retrain_over_the_deadline_of_its_models_policy_fails_and_the_next_one_begins(
    settings: Settings, start: Callable[[Settings], threading.Event]
) -> None:
    store = open_store(settings.store_url)
    (deployment,) = store.deployments()
    spec = replace(deployment.model, policy={"retrain": {"deadline_s": 0.1}})
    store.put_deployment(replace(deployment, model=spec))
    request(store, recipes=(f"{__name__}:Endless",))
    cards = request_cards(settings, store, f"{__name__}:Endless")
    start(settings)
    record = until(store, over)
    assert record.state == "failed"
    assert "0.1 s" in (record.error or "")
    assert store.require_deployment("loans").split.stable == 1
    until(store, training, cards.id)
    store.change_retrain(cards.id, lambda r: r.after(RetrainEvent.CANCEL))


def test_a_retrain_that_takes_too_much_memory_fails_with_its_stage(
    settings: Settings, start: Callable[[Settings], threading.Event]
) -> None:
    store = open_store(settings.store_url)
    (deployment,) = store.deployments()
    spec = replace(deployment.model, policy={"retrain": {"memory_mb": 2_048}})
    store.put_deployment(replace(deployment, model=spec))
    request(store, recipes=(f"{__name__}:Greedy",))
    start(settings)
    record = until(store, over)
    assert record.state == "failed"
    assert record.reasons[0].startswith("train: its process uses ")
    assert "retrain.memory_mb" in record.reasons[0]


def test_a_retrained_version_is_reproduced_from_what_it_names(
    settings: Settings, start: Callable[[Settings], threading.Event]
) -> None:
    store = open_store(settings.store_url)
    request(store, recipes=("gradient-boosting",))
    start(settings)
    assert until(store, over).state == "succeeded"

    def command(*words: str) -> Any:
        argv = [sys.executable, "-m", "driftloop_cli", *words, "--json"]
        argv += ["--state-dir", str(settings.state_dir)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=150, check=False)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    lineage = command("lineage", "loans", "2")
    assert (lineage["source"], lineage["parent_version"]) == ("retrain", 1)
    assert lineage["data"]["offsets"] == {
        "predictions": {"driftloop.predictions:0": 0},
        "labels": {"driftloop.labels:0": 1},
    }
    assert Path(lineage["report"]).is_file()
    before = open_registry(settings).aliases("loans")
    found = command("reproduce", "loans", "2")
    assert found["ok"]
    assert all(item["same"] for item in found["compared"])
    assert open_registry(settings).aliases("loans") == before


def test_a_model_with_two_labels_is_trained_and_retrained_on_real_rows(tmp_path: Path) -> None:
    """Whether a car kept an eighth of its value, and its price, which a third of the rows lack."""
    settings = Settings(
        state_dir=tmp_path / "state",
        retrain={"budget_s": 0, "families": ("gradient-boosting",), "min_improvement": 0.0},
    )
    settings.state_dir.mkdir()
    table = pq.read_table(Path(__file__).parents[2] / "fixtures" / "car_price.parquet")
    kept = pc.greater(pc.divide(table["price"], table["price_new"]), 0.125)
    table = table.append_column("kept", kept.cast(pa.int64()))
    pq.write_table(table.slice(0, 300), tmp_path / "first.parquet")
    tasks: Any = {"kept": "classification", "price": "regression"}
    first = train_first(
        settings, tmp_path / "first.parquet", name="offers", label=list(tasks), task=tasks,
        output=tmp_path / "first", time_column=None, drop=(), families=("gradient-boosting",),
        say=lambda _: None,
    )  # fmt: skip
    document = yaml.safe_load(Path(first["spec"]).read_text())
    spec = ModelSpec.from_dict(
        {k: v for k, v in document.items() if k not in ("model", "reference")}
    )
    champion = OnnxModel(tmp_path / "first")
    registry, store = open_registry(settings), open_store(settings.store_url)
    made = registry.register(
        "offers", tmp_path / "first", champion.signature, metrics={}, params={}, tags={}
    )
    served = ServedVersion(made.version, made.path, champion.signature)
    store.put_deployment(Deployment(spec, (served,), TrafficSplit(1)))
    pq.write_table(table.slice(300), tmp_path / "rest.parquet")
    rest = from_file_together(tmp_path / "rest.parquet", tasks, None)
    labels = rest.labels.copy()
    labels["price"][::3] = np.nan  # type: ignore[call-overload]
    archive(settings, champion, replace(rest, labels=labels), "offers")
    store.request_retrain(
        Retrain(id=RETRAIN, model="offers", at=NOW, trigger="operator", reason="a test", champion=1)
    )
    run_in_a_process(settings, RETRAIN)
    assert store.retrain(RETRAIN).state == "succeeded", store.retrain(RETRAIN)
    result = store.retrain(RETRAIN).result
    assert result["data_checks"]["labelled"] == {"kept": 1200, "price": 800}
    assert result["search"]["chosen"] in ("one model for each label", "multi-task-network")
    assert len(result["search"]["losses"]) == 2
    names = [check["name"] for check in result["gate"]["checks"]]
    assert names[:3] == ["overall", "error kept", "squared price"]
    after = OnnxModel(registry.version("offers", 2).path)
    assert after.signature == champion.signature
    assert set(result["outputs"]) == set(tasks)
