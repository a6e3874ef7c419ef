"""The role `serving`: brings the store's deployments into Ray Serve and reports the replicas.

The desired state is the store's; each round reads it and applies what differs, so a restart at any
point goes on where it was. A change of deployments travels as Serve's `user_config`: replicas are
reconfigured, never restarted.
"""

import os
import threading
import time
from typing import Any

import structlog

from driftloop_serving.ray_head import ENVIRONMENT
from driftloop_serving.replica_report import PREFIX
from driftloop_settings import Settings
from driftloop_store import Store, open_store

log = structlog.get_logger()

INTERVAL_S = 0.25
REPORT_S = 1.0

Record = dict[str, Any]


def run(settings: Settings, stop: threading.Event) -> None:
    os.environ.update(ENVIRONMENT)
    from driftloop_serving import serve_client

    store = open_store(settings.store_url)
    while not stop.is_set():
        try:
            if serve_client.connect(settings):
                _reconcile(settings, store, stop)
        except Exception as error:  # Ray's errors share no base; the next round connects anew
            log.warning("serving.retry", error=str(error), kind=type(error).__name__)
        own = settings.serving.ray_address is None
        serve_client.disconnect(shut_down=stop.is_set() and own)
        stop.wait(0.5)
    store.close()


def _reconcile(settings: Settings, store: Store, stop: threading.Event) -> None:
    from driftloop_serving import serve_client

    applied: Record | None = None
    reported_at = 0.0
    while not stop.is_set():
        wanted = {"deployments": [d.to_dict() for d in store.deployments()]}
        if wanted != applied:
            serve_client.apply(settings, wanted)
            log.info("serving.applied", models=[d["model"]["name"] for d in wanted["deployments"]])
            applied = wanted
        if time.monotonic() - reported_at > REPORT_S or not _loaded(store, wanted):
            _report(store, serve_client.replicas())
            reported_at = time.monotonic()
        stop.wait(INTERVAL_S)


def _report(store: Store, replicas: list[Record]) -> None:
    """Write the cursors `replicas` (for `status`) and `loaded:<model>` (for rollouts)."""
    before = store.cursor("replicas") or {"known": [], "replicas": []}
    known = [
        *before["known"],
        *(r["replica_id"] for r in replicas if r["replica_id"] not in before["known"]),
    ]
    restarts = max(0, len(known) - len(replicas))
    rows = [
        {
            "name": f"replica:{replica['replica_id']}",
            "pid": replica.get("pid"),
            "state": str(replica["state"]).rpartition(".")[2].lower(),
            "restarts": restarts,
        }
        for replica in replicas
    ]
    body = {"known": known[-100:], "replicas": rows}
    if body != before:
        store.put_cursor("replicas", body)
    reports = [store.cursor(f"{PREFIX}{row['pid']}") for row in rows if row["state"] == "running"]
    for deployment in store.deployments():
        name = deployment.model.name
        held = [(r or {}).get("models", {}).get(name, {}) for r in reports]
        versions = [set(h.get("versions", [])) for h in held]
        loaded: Record = {
            "versions": sorted(set.intersection(*versions)) if versions else [],
            "revision": min((h.get("revision", 0) for h in held), default=0),
            "failed": {k: v for h in held for k, v in h.get("failed", {}).items()},
        }
        if loaded != store.cursor(f"loaded:{name}"):
            store.put_cursor(f"loaded:{name}", loaded)


def _loaded(store: Store, wanted: Record) -> bool:
    """Whether replicas hold what is wanted, as far as the last report says."""
    return all(
        (store.cursor(f"loaded:{d['model']['name']}") or {}).get("revision") == d["revision"]
        for d in wanted["deployments"]
    )
