"""One document that says how everything is: the answer of `driftloop status`."""

from typing import Any

from driftloop_lake.port import LakeReader
from driftloop_store import Store

Record = dict[str, Any]


def counts(model: str, store: Store, lake: LakeReader) -> Record:
    """Rows of a model: what replicas answered, where those rows are now, and the labels kept."""
    total: Record = {"served": 0, "acked": 0, "spooled": 0, "dropped": 0}
    reasons: dict[str, int] = {}
    for entry in store.ledger(model):
        for name in ("served", "acked", "spooled"):
            total[name] += entry[name]
        for reason, rows in entry["dropped"].items():
            reasons[reason] = reasons.get(reason, 0) + rows
    total["dropped"] = sum(reasons.values())
    total["dropped_reasons"] = reasons
    pin = lake.pin(model)
    found = lake.count(model, pin) if pin is not None else None
    total["lake_rows"] = found.rows if found else 0
    total["duplicates"] = found.duplicates if found else 0
    total["labels"] = found.labels if found else 0
    return total


def overview(store: Store, lake: LakeReader, run_state: Record | None) -> Record:
    """`run_state`: what the supervisor wrote, or None where roles run apart."""
    running = run_state or {"roles": [], "endpoints": {}, "ready": True}
    replicas = (store.cursor("replicas") or {}).get("replicas", [])
    models = []
    for deployment in store.deployments():
        name = deployment.model.name
        split = deployment.split
        loaded = store.cursor(f"loaded:{name}") or {}
        models.append(
            {
                "name": name,
                "champion": split.stable,
                "challenger": split.canary,
                "split": {"stable": 1.0 - split.weight, "canary": split.weight},
                "versions": sorted(v.version for v in deployment.versions),
                "loaded": loaded.get("versions", []),
                "counts": counts(name, store, lake),
                "window": next(iter(store.windows(name, limit=1)), None),
            }
        )
    return {
        "ready": running["ready"],
        "endpoints": running["endpoints"],
        "roles": [*_roles(running["roles"]), *replicas],
        "models": models,
        "alarms": store.alarms(limit=20),
        "retrains": store.retrains(limit=20),
        "rollouts": store.rollouts(limit=20),
    }


def _roles(roles: list[Record]) -> list[Record]:
    return [{key: role[key] for key in ("name", "pid", "state", "restarts")} for role in roles]
