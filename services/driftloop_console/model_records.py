"""Reading what the pages of one model show."""

from driftloop_console.views.condition import Condition, ModelRecords, condition
from driftloop_contracts.errors import Rejected
from driftloop_contracts.model import Deployment, ModelSpec
from driftloop_settings import Settings
from driftloop_store import Store

Model = tuple[ModelRecords, Condition]


def one_model(settings: Settings, store: Store, deployment: Deployment) -> Model:
    name = deployment.model.name
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
    return records, condition(records, rules(settings, deployment.model))


def rules(settings: Settings, spec: ModelSpec) -> Settings:
    """With the model's policy; without it if this release refuses it, as the monitor reports."""
    if not spec.policy:
        return settings
    try:
        return settings.for_model(spec)
    except Rejected:
        return settings
