"""A store as a stack of some weeks leaves it: models in every state, with windows and findings."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import sin

import numpy as np
from incident_cases import incident_of

from driftloop_contracts.alert import Alert
from driftloop_contracts.incident import IncidentChange
from driftloop_contracts.judgement import CheckKind, Decision, Finding, Severity, Window
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.retrain import Retrain, RetrainEvent, Stage
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_rollout.curve import CurvePoint
from driftloop_rollout.evidence import ChampionBaseline, RolloutEvidence
from driftloop_rollout.machine import Event, Rollout, apply
from driftloop_rollout.outlook import Outlook
from driftloop_rollout.pairs import PairMetric, PairTrial
from driftloop_rollout.shadow_stage import Agreement, ShadowStage
from driftloop_rollout.units import Units
from driftloop_rollout.verdict import Metric, Rule, Trial
from driftloop_store import Store

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SIGNATURE = Signature((TensorSpec("income", "FP32", (-1, 1)),), (TensorSpec("y", "INT64", (-1,)),))
HOSTILE = '<script>alert("x")</script> & "quotes" 🙂 ' * 40
BASELINE = 0.08


def served(version: int) -> ServedVersion:
    return ServedVersion(version, f"models/{version}", SIGNATURE)


def deploy(store: Store, name: str, *versions: int) -> Deployment:
    spec = ModelSpec(name, "classification", "y", recipe="tabular")
    held = tuple(served(v) for v in versions)
    return store.put_deployment(Deployment(spec, held, TrafficSplit(versions[0])))


def window(model: str, number: int, end: datetime = NOW) -> Window:
    """The one that ended `number` hours before `end`."""
    ended = end - timedelta(hours=number)
    error = BASELINE + 0.01 * sin(number)
    return Window(
        window_id=f"{model}-w{number}",
        model=model,
        kind="count",
        lake_version=number,
        started_at=ended - timedelta(minutes=50),
        ended_at=ended,
        rows=2_000,
        labelled=1_900,
        status="judged",
        mean_loss=error,
        estimated_loss=error + 0.002,
        estimated_low=error - 0.01,
        estimated_high=error + 0.014,
        performance={
            "mean_loss": error, "baseline": BASELINE, "ceiling": BASELINE + 0.01, "log_e": 0.3,
            "rows": 1_900.0,
        },
    )  # fmt: skip


def drift(model: str, number: int, column: str, end: datetime = NOW) -> Finding:
    return Finding(
        finding_id=f"{model}-{column}-f{number}",
        model=model,
        version=1,
        kind=CheckKind.DRIFT,
        check="distance",
        severity=Severity.WARNING,
        columns=(column,),
        effect=0.12 + 0.02 * (number % 5),
        significance=1e-6,
        window_id=f"{model}-w{number}",
        at=end - timedelta(hours=number),
    )


def sketch(number: int) -> dict[str, list[float | None]]:
    """Of the window `number` hours ago: income moved most in the newest one."""
    income = [0.3 - 0.001 * number, 0.0, number - 1.0, float(number), number + 1.0]
    return {"in_income": income, "in_job": [0.1, 0.02, 0.45, 0.4]}


REFERENCE_SKETCH = {
    "columns": {
        "in_income": {"kind": "number", "names": [], "shown": [1.0, 2.0, 3.0]},
        "in_job": {"kind": "category", "names": ["baker", "smith"], "shown": [0.5, 0.4]},
    },
    "measures": {"slice new_customers": 0.1, "miss_rate": 0.2},
}


def monitor_state(at: datetime, drifted: tuple[str, ...] = ()) -> dict[str, object]:
    """The fields that pages read."""
    tested = at - timedelta(minutes=40)
    return {
        "windowed": {"at": at.isoformat()},
        "tested": {"at": tested.isoformat()},
        "drifted": list(drifted),
        "broken": [],
        "label_delays_s": [60.0, 300.0, None],
        "tests": {
            name: {"rows": 900, "loss": loss, "log_e": 0.2, "alert": None}
            for name, loss in (("miss_rate", 170.0), ("slice new_customers", 130.0))
        },
    }


def alert(model: str, kind: CheckKind = CheckKind.PERFORMANCE, message: str = "worse") -> Alert:
    return Alert(
        id=f"{model}-alert",
        model=model,
        at=NOW - timedelta(hours=2),
        kind=kind,
        severity=Severity.CRITICAL,
        message=message,
        version=1,
        findings=("f",),
        window=f"{model}-w1",
        change_at=NOW - timedelta(hours=3),
    )


def units(rows: int, canary_loss: float, seed: int = 0) -> Units:
    """`rows` requests of one row each, half of them drawn for the canary."""
    random = np.random.default_rng(seed)
    canary = random.random(rows) < 0.5
    mean = np.where(canary, canary_loss, BASELINE)
    return Units(
        canary=canary,
        loss=(random.random(rows) < mean).astype(np.float64),
        rows=np.ones(rows),
        expected=np.full(rows, BASELINE),
        share=np.full(rows, 0.5),
        spread=np.zeros(rows),
    )


def shadow_stage() -> ShadowStage:
    """Of a candidate that answered two thousand rows, with one slice."""
    agreed = np.arange(2_000) % 25 > 0
    lost = (~agreed).astype(np.float64), np.zeros(2_000)
    trial = PairTrial((PairMetric.start(Rule("quality", 0.02, True, share=0.5)),))
    parts = (Agreement(""), Agreement("new_customers"))
    since = NOW - timedelta(hours=1)
    stage = ShadowStage(since, since, NOW, NOW, trial.update({"quality": lost}), agreement=parts)
    stage = stage.with_agreement([agreed, agreed[:300]])
    return replace(stage, answered=2_000, request_s=0.001, champion_s=0.002, memory_bytes=1 << 26)


def running_rollout(store: Store, model: str) -> Rollout:
    """A canary of version 2 at its second step, with evidence and a curve."""
    record = store.request_rollout(f"{model}-rollout", served(2), model, NOW, "the gate passed it")
    steps = (0.05, 0.25, 0.5, 1.0)
    planned = replace(
        Rollout.from_record(record),
        steps=steps,
        champion=served(1),
        deadline_at=NOW + timedelta(days=7),
        outlook=Outlook(7_200.0),
    )
    names = (("quality", True), ("errors", False), ("latency", False))
    metrics = [Metric.start(Rule(n, 0.02, d), steps[:-1], BASELINE) for n, d in names]
    curve = []
    for hour in range(24):
        metrics = [m.update(units(300, 0.06, hour)) for m in metrics]
        logs = {m.rule.name: (m.worse.best, m.proof.best) for m in metrics}
        curve.append(CurvePoint(NOW - timedelta(hours=24 - hour), logs))
    past = ChampionBaseline(0.05, 0.0, 0.05, BASELINE, None, 20.0, 20.0)
    evidence = RolloutEvidence(past, Trial(tuple(metrics)), NOW, NOW)
    shadowed = replace(apply(planned, Event.ADOPT, NOW, "adopted"), shadow=shadow_stage())
    passed = apply(shadowed, Event.PASS, NOW, "pairs prove it")
    after = replace(
        apply(passed, Event.LOADED, NOW, "replicas hold it"),
        evidence=evidence,
        curve=tuple(curve),
    )
    saved = store.save_rollout(after.id, record["revision"], after.state, after.to_body())
    return Rollout.from_record(saved)


def running_retrain(store: Store, model: str) -> Retrain:
    decision = Decision(
        decision_id=f"{model}-decision",
        model=model,
        at=NOW,
        trigger="alert",
        verdict="retrain",
        reason="the measured error rose by 0.031",
        evidence={"rise": 0.031, "labels_since_change": 4_000, "drifted": ["income"]},
        policy={},
    )
    store.add_decision(decision)
    asked = Retrain(
        id=f"{model}-retrain",
        model=model,
        at=NOW,
        trigger="alert",
        reason=decision.reason,
        decision_id=decision.decision_id,
        champion=1,
    )
    store.request_retrain(asked)
    progress = Stage("search", 0.4, "trial 2 of 5: gradient-boosting")
    return store.change_retrain(
        asked.id,
        lambda r: replace(r.after(RetrainEvent.START), started_at=NOW, progress=progress),
    )


def waited(model: str, number: int = 0) -> Decision:
    return Decision(
        decision_id=f"{model}-waited-{number}",
        model=model,
        at=NOW - timedelta(hours=number),
        trigger="alert",
        verdict="wait",
        reason="the measured error rose by 0.030, but only 900 of 2000 fresh labels are there",
        evidence={},
        policy={},
    )


def deploy_language(store: Store, name: str, end: datetime = NOW) -> None:
    """A language model with a judge, whose newest fine-tune has answers before and after."""
    deployed = deploy(store, name, 1)
    spec = replace(deployed.model, runtime="vllm", task="generation", output="text", recipe=None)
    store.put_deployment(replace(deployed, model=spec))
    judged = {"judge_answers": 32.0, "judge_score": 0.8, "judge_auc": 0.9, "judge_auc_lower": 0.8}
    store.add_window(replace(window(name, 0, end), performance=judged))
    sample = {"prompt": "Hi?", "champion": "No.", "candidate": "Hello!", "wanted": "Hello."}
    asked = Retrain(id=f"{name}-tuned", model=name, at=end, trigger="corrections")
    store.request_retrain(asked)
    for event, result in ((RetrainEvent.START, None), (RetrainEvent.REJECT, {"samples": [sample]})):
        store.change_retrain(asked.id, lambda r, e=event, f=result: replace(r.after(e), result=f))


def fill(store: Store, hours: int = 48, end: datetime = NOW) -> Iterator[str]:
    """One model in each state; yields their names."""
    for name in ("healthy", "watching", "alert", "retraining", "canary", "unwatched"):
        deploy(store, name, 1, *((2,) if name == "canary" else ()))
        yield name
        if name == "unwatched":
            continue
        for number in range(hours):
            store.add_window(window(name, number, end))
            store.add_sketch(window(name, number, end), 1, sketch(number))
        store.put_reference_sketch(name, 1, REFERENCE_SKETCH)
        drifted = ("income", "age") if name == "watching" else ()
        for column in drifted:
            for number in range(0, hours, 3):
                store.add_finding(drift(name, number, column, end))
        store.put_cursor(f"monitor/{name}", monitor_state(end, drifted))
        store.put_ledger(
            "replica-1", name, 1, served=96_010, acked=96_000, spooled=7, dropped={"quota": 3}
        )
    opened = incident_of(end, id="incident", model="alert", happened=f"It is worse. {HOSTILE}")
    store.write_incidents([IncidentChange(opened, "opened")])
    store.raise_alert(alert("alert", message=f"the error rose from 0.08 to 0.11 {HOSTILE}"))
    store.add_decision(waited("alert"))
    running_retrain(store, "retraining")
    running_rollout(store, "canary")
