"""The status of everything in one document: the answer of `driftloop status`."""

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from driftloop_contracts.judgement import unexplained
from driftloop_contracts.replica import LoadedVersions
from driftloop_gateway.lake_counter import Counted
from driftloop_settings.run_state import RoleState, RunState
from driftloop_store import Store

Record = dict[str, Any]
_NOTHING = dict.fromkeys(("served", "acked", "spooled", "dropped", "unexplained"), 0)


def counts(ledger: Iterable[Record], counted: Counted) -> Record:
    """Return the row counts of a model: what replicas answered, where those rows are now, and the
    stored labels. ledger: of the model.

    served = acked + spooled + dropped + unexplained, in total and for each version in `versions`.
    Once everything is archived, acked = lake_rows + retries (`LakeCounts`).
    """
    versions: dict[int, Record] = {}
    for entry in ledger:
        of_version = versions.setdefault(
            entry["version"],
            {"version": entry["version"], **_NOTHING, "dropped_reasons": {}, "replicas": 0},
        )
        of_version["replicas"] += 1
        for name in ("served", "acked", "spooled"):
            of_version[name] += entry[name]
        for reason, rows in entry["dropped"].items():
            reasons = of_version["dropped_reasons"]
            reasons[reason] = reasons.get(reason, 0) + rows
            of_version["dropped"] += rows
        of_version["unexplained"] += unexplained(entry)
    total: Record = {name: sum(v[name] for v in versions.values()) for name in _NOTHING}
    total["dropped_reasons"] = reasons = {}
    for of_version in versions.values():
        for reason, rows in of_version["dropped_reasons"].items():
            reasons[reason] = reasons.get(reason, 0) + rows
    total["versions"] = [versions[version] for version in sorted(versions)]
    found = counted.counts
    total["counted_at"] = counted.at.isoformat() if counted.at else None
    total["lake_rows"] = found.rows if found else 0
    total["duplicates"] = found.duplicates if found else 0
    total["labels"] = found.labels if found else 0
    total["retries"] = found.retries if found else 0
    return total


def newest_metrics(store: Store, model: str) -> Record:
    """Return the metrics of a model's newest labelled rows, as the monitor measured them last, and
    what it is judged by. Raises NotFound."""
    judged_by = store.require_deployment(model).model.judged_in_words
    state = store.monitor_states(model).get(model, {})
    nothing: Record = {"version": state.get("version"), "rows": 0, "outputs": []}
    return {"model": model, "judged_by": judged_by, **(state.get("measured") or nothing)}


def overview(
    store: Store,
    lake_counts: Callable[[Iterable[str]], Mapping[str, Counted]],
    running: RunState | None,
) -> Record:
    """Return the document. running: the supervisor's state, or None if roles run apart."""
    replicas = [status.to_dict() for status in store.replica_statuses().replicas]
    degraded = store.degraded()
    failing = {found.role.partition("/")[0] for found in degraded}
    ledger: dict[str, list[Record]] = {}
    for entry in store.ledger():
        ledger.setdefault(entry["model"], []).append(entry)
    deployments, newest = store.deployments(), store.newest_windows(1)
    counted = lake_counts(deployment.model.name for deployment in deployments)
    everywhere = store.all_loaded_versions()
    models = []
    for deployment in deployments:
        name = deployment.model.name
        split = deployment.split
        loaded = everywhere.get(name, LoadedVersions())
        models.append(
            {
                "name": name,
                "champion": split.stable,
                "challenger": split.canary,
                "split": {"stable": 1.0 - split.weight, "canary": split.weight},
                "versions": sorted(v.version for v in deployment.versions),
                "loaded": list(loaded.versions),
                "failed": loaded.to_dict()["failed"],
                "counts": counts(ledger.get(name, ()), counted[name]),
                "window": next(iter(newest.get(name, ())), None),
            }
        )
    return {
        "ready": running is None or running.ready,
        "endpoints": dict(running.endpoints) if running else {},
        "roles": [
            *(_role(role, failing) for role in (running.roles if running else ())),
            *replicas,
        ],
        "degraded": [found.to_dict() for found in degraded],
        "models": models,
        "alerts": [alert.to_dict() for alert in store.alerts(limit=20)],
        "retrains": [retrain.to_dict() for retrain in store.retrains(limit=20)],
        "rollouts": store.rollouts(limit=20),
    }


def _role(role: RoleState, failing: Container[str]) -> Record:
    works = role.state != "running" or role.name not in failing
    state = role.state if works else "degraded"
    return {"name": role.name, "pid": role.pid, "state": state, "restarts": role.restarts}
