"""The role `serving`: brings the store's deployments into Ray Serve and reports the replicas.

The desired state is the store's; each round reads it and applies what differs, so a restart at any
point goes on where it was. A change of deployments travels as Serve's `user_config`: replicas are
reconfigured, never restarted.
"""

import os
import threading
import time
from typing import TYPE_CHECKING, Any

import structlog

from driftloop_contracts.model import Deployment
from driftloop_serving.cluster.ray_head import environment
from driftloop_serving.replicas.replica_report import PREFIX
from driftloop_settings import Settings
from driftloop_store import Store, open_store

if TYPE_CHECKING:
    from driftloop_serving.cluster.placement import Placement

log = structlog.get_logger()

INTERVAL_S = 0.25
REPORT_S = 1.0

Record = dict[str, Any]


def run(settings: Settings, stop: threading.Event) -> None:
    os.environ.update(environment(settings))
    from driftloop_serving.cluster import serve_client

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
    from driftloop_serving.cluster import serve_client
    from driftloop_serving.cluster.placement import place

    applied: Placement | None = None
    reported_at = 0.0
    known_issues: dict[str, str] = {}
    while not stop.is_set():
        deployments = store.deployments()
        told = {d.model.name: _loaded(store, d) for d in deployments}
        wanted = place(deployments, told)
        if wanted != applied:
            serve_client.apply(settings, wanted)
            log.info("serving.applied", models=[d.model.name for d in deployments])
            applied = wanted
        is_told = all(told[d.model.name]["revision"] == d.revision for d in deployments)
        if time.monotonic() - reported_at > REPORT_S or not is_told:
            applications = serve_client.applications()
            _report(store, deployments, serve_client.replicas(applications))
            issues = serve_client.issues(applications)
            for application, why in issues.items():
                if why != known_issues.get(application):
                    log.warning("serving.trouble", application=application, why=why)
            known_issues = issues
            reported_at = time.monotonic()
        stop.wait(INTERVAL_S)


ANSWERING = frozenset({"running", "updating"})
"""States of a replica that answers: while it takes new settings it goes on with the old ones."""


def _loaded(store: Store, deployment: Deployment) -> Record:
    """What the last report says of a model."""
    nothing = {"versions": [], "revision": -1, "failed": {}}
    return store.cursor(f"loaded:{deployment.model.name}") or nothing


def _report(store: Store, deployments: list[Deployment], replicas: list[Record]) -> None:
    """Write the cursors `replicas` (for `status`) and `loaded:<model>` (for rollouts)."""
    from driftloop_serving.cluster.placement import applications_of, placement_of
    from driftloop_serving.replicas.application import SHARED_APPLICATION
    from driftloop_serving.replicas.replica_status import loaded

    before = store.cursor("replicas") or {"replicas": []}
    deaths = before.get("deaths", 0) + _retire(store, before["replicas"], replicas)
    rows = [
        {
            "name": f"replica:{replica['replica_id']}",
            "pid": replica.get("pid"),
            "state": str(replica["state"]).rpartition(".")[2].lower(),
            "restarts": deaths,
        }
        for replica in replicas
    ]
    body = {"deaths": deaths, "replicas": rows}
    if body != before:
        store.put_cursor("replicas", body)
    running = [
        (replica["application"], store.cursor(f"{PREFIX}{row['pid']}") or {})
        for replica, row in zip(replicas, rows, strict=True)
        if row["state"] in ANSWERING
    ]
    for deployment in deployments:
        name = deployment.model.name
        applications = applications_of(deployment)
        by_application = [
            [report for application, report in running if application == where]
            for where in applications
        ]
        told = [
            report.get("told", {}).get(name, ())
            for application, report in running
            if application == SHARED_APPLICATION
        ]
        now = loaded(
            name,
            by_application,
            deployment.revision,
            told=None if applications == (SHARED_APPLICATION,) else told,
            addressed="addresses" in placement_of(deployment).reported,
        )
        if now != store.cursor(f"loaded:{name}"):
            store.put_cursor(f"loaded:{name}", now)


def _retire(store: Store, before: list[Record], replicas: list[Record]) -> int:
    """Drop the reports of replicas that are no more; how many of them nobody had asked to end."""
    alive = {replica.get("pid") for replica in replicas}
    deaths = 0
    for row in before:
        if row["pid"] is not None and row["pid"] not in alive:
            report = store.cursor(f"{PREFIX}{row['pid']}")
            deaths += report is not None and not report.get("left", False)
            store.drop_cursor(f"{PREFIX}{row['pid']}")
    return deaths
