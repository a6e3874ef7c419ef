"""Reading what the pages of models show, in a few queries whatever the number of models."""

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

from driftloop_console.context import ConsoleContext
from driftloop_console.views.condition import Condition, ModelRecords, condition
from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import Deployment, ModelSpec
from driftloop_contracts.retrain import Retrain
from driftloop_settings import Settings

T = TypeVar("T")


def all_models(context: ConsoleContext) -> list[tuple[ModelRecords, Condition]]:
    store = context.store
    windows = store.newest_windows(1)
    retrains, rollouts = store.newest_retrains(1), store.newest_rollouts()
    monitors = store.monitor_states()
    alerts = _by_model((alert.model, alert) for alert in reversed(store.open_alerts()))
    decisions = store.newest_decisions(alerts)  # they say what an alert waits for
    ledger = _by_model((entry["model"], entry) for entry in store.ledger())
    degraded = _by_model((found.subject, found) for found in store.degraded())
    found = []
    for deployment in store.deployments():
        name = deployment.model.name
        records = ModelRecords(
            deployment=deployment,
            window=_first(windows.get(name)),
            decision=_first(decisions.get(name)),
            retrain=Retrain.from_dict(retrains[name][0]) if name in retrains else None,
            rollout=_first(rollouts.get(name)),
            alerts=alerts[name],
            ledger=ledger[name],
            monitor=monitors.get(name, {}),
            degraded=degraded[name],
        )
        found.append((records, condition(records, rules(context.settings, deployment.model))))
    return found


def one_model(context: ConsoleContext, deployment: Deployment) -> tuple[ModelRecords, Condition]:
    store, name = context.store, deployment.model.name
    records = ModelRecords(
        deployment=deployment,
        window=next(iter(store.windows(name, 1)), None),
        decision=next(iter(store.decisions(name, 1)), None),
        retrain=next(iter(store.retrains(name, 1)), None),
        rollout=next(iter(store.rollouts(name, 1)), None),
        alerts=list(reversed(store.open_alerts(name))),
        ledger=store.ledger(name),
        monitor=store.monitor_states(name).get(name, {}),
        degraded=[found for found in store.degraded() if found.subject == name],
    )
    return records, condition(records, rules(context.settings, deployment.model))


def rules(settings: Settings, spec: ModelSpec) -> Settings:
    """With the model's policy; without it if this release refuses it, as the monitor reports."""
    if not spec.policy:
        return settings
    try:
        return settings.for_model(spec)
    except Rejected:
        return settings


def _first(found: list[T] | None) -> T | None:
    return found[0] if found else None


def _by_model(pairs: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = defaultdict(list)
    for model, value in pairs:
        found[model].append(value)
    return found
