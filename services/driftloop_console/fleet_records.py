"""The records of all models, read anew only of those that changed."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from driftloop_console.model_records import Model, rules
from driftloop_console.views.condition import ModelRecords, condition
from driftloop_contracts.model import Deployment
from driftloop_contracts.retrain import Retrain
from driftloop_settings import Settings
from driftloop_store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Known:
    """stamp: of the store, before these were read. revisions: by model, what was read of it."""

    stamp: tuple[int, ...] | None = None
    revisions: Mapping[str, int | None] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)


class FleetRecords:
    """Of every deployed model. Only those that changed since the last call are read, and of all the
    rows that replicas count. Safe to use from several threads: at worst a model is read twice."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._known = _Known()

    def all(self) -> Collection[Model]:
        """By the name of the model."""
        known, store = self._known, self._store
        stamp = store.stamp()
        if stamp == known.stamp:
            return known.models.values()
        counted = store.revisions()
        deployments = {one.model.name: one for one in store.deployments()}
        revisions = {name: counted.get(name) for name in deployments}
        changed = {n for n in deployments if n not in known.models
                   or revisions[n] != known.revisions[n]}  # fmt: skip
        read = self._read([deployments[name] for name in changed])
        ledger = _by_model((entry["model"], entry) for entry in store.ledger())
        models: dict[str, Model] = {}
        for name, deployment in deployments.items():
            records = read[name] if name in changed else known.models[name][0]
            if name in changed or records.ledger != ledger[name]:
                records = replace(records, ledger=ledger[name])
                models[name] = (
                    records, condition(records, rules(self._settings, deployment.model))
                )  # fmt: skip
            else:
                models[name] = known.models[name]
        self._known = _Known(stamp, revisions, models)
        return models.values()

    def _read(self, deployments: Sequence[Deployment]) -> dict[str, ModelRecords]:
        """In a few queries, whatever the number of models."""
        names, store = [one.model.name for one in deployments], self._store
        if not names:
            return {}
        windows = store.newest_windows(1, names)
        retrains, rollouts = store.newest_retrains(1, names), store.newest_rollouts(names)
        monitors = store.monitor_states(*names)
        alerts = _by_model((alert.model, alert) for alert in reversed(store.open_alerts()))
        decisions = store.newest_decisions(alerts)  # they say what an alert waits for
        degraded = _by_model((found.subject, found) for found in store.degraded())
        return {
            (name := deployment.model.name): ModelRecords(
                deployment=deployment,
                window=_first(windows.get(name)),
                decision=_first(decisions.get(name)),
                retrain=Retrain.from_dict(retrains[name][0]) if name in retrains else None,
                rollout=_first(rollouts.get(name)),
                alerts=alerts[name],
                monitor=monitors.get(name, {}),
                degraded=degraded[name],
            )
            for deployment in deployments
        }


def _first(found: list[T] | None) -> T | None:
    return found[0] if found else None


def _by_model(pairs: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = defaultdict(list)
    for model, value in pairs:
        found[model].append(value)
    return found
