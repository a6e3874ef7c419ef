"""The `serving` role: applies the store's deployments to Ray Serve and reports the replicas.

The store holds the desired state. Each round reads it and applies the differences, so a restart at
any point resumes where it stopped. Changed deployments are sent as Serve's `user_config`: replicas
are reconfigured, not restarted. Of several such roles on one store one acts: each would overwrite
what the other reports of its replicas.
"""

import os
import threading
import time
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from driftloop_contracts.model import Deployment
from driftloop_contracts.replica import (
    LoadedVersions,
    ReplicaReport,
    ReplicaStatus,
    ReplicaStatuses,
)
from driftloop_serving.cluster.ray_head import environment
from driftloop_serving.cluster.serve_import import leave_pandas_out
from driftloop_settings import Settings
from driftloop_settings.this_process import ThisProcess
from driftloop_store import Store, StoreAway, await_store
from driftloop_store.cycle_health import CycleHealth
from driftloop_store.standby import Lease

if TYPE_CHECKING:
    from driftloop_serving.cluster.placement import Placement
    from driftloop_serving.cluster.serve_client import RunningReplica

log = structlog.get_logger()

INTERVAL_S = 0.25
REPORT_S = 1.0
SILENCE_S = 900.0
"""Ray takes as long to apply a deployment as large weights take to load."""


def run(settings: Settings, stop: threading.Event) -> None:
    os.environ.update(environment(settings))
    leave_pandas_out()
    from driftloop_serving.cluster import serve_client

    store = await_store(settings.store_url, stop)
    if store is None:
        return
    process = ThisProcess.of(settings)
    health = CycleHealth(store, "serving", silence_s=SILENCE_S, process=process)
    lease = Lease(store, "serving", process.machine)
    while not stop.is_set():
        try:
            if not lease.held(store.now()):
                health.succeeded()
            elif serve_client.connect(settings):
                _reconcile(settings, store, stop, health, lease)
            else:
                health.failed("Ray does not answer")
        except StoreAway:
            pass  # logged once by the store
        # the errors of Ray have no common base; the next round reconnects
        except Exception as error:
            health.failed(error)
        own = settings.serving.ray_address is None
        serve_client.disconnect(shut_down=stop.is_set() and own)
        stop.wait(0.5)
    health.ended()
    lease.give_back()
    store.close()


def _reconcile(
    settings: Settings, store: Store, stop: threading.Event, health: CycleHealth, lease: Lease
) -> None:
    """Until `stop` is set or the lease is lost."""
    from driftloop_serving.cluster import serve_client
    from driftloop_serving.cluster.placement import has_applied, place
    from driftloop_serving.replicas.application import SHARED_APPLICATION

    applied: Placement | None = None
    answered: frozenset[str] | None = None
    reported_at = 0.0
    known_issues: dict[str, str] = {}
    while not stop.is_set():
        with suppress(StoreAway):  # replicas continue with the configuration that they have
            if not lease.held(store.now()):
                return
            deployments = store.deployments()
            known = store.all_loaded_versions()
            loaded = {d.model.name: known.get(d.model.name, UNKNOWN) for d in deployments}
            wanted = place(deployments, loaded)
            if answered is None:
                answered = store.answered_models()
            if not wanted.models <= answered:
                answered |= wanted.models
                store.put_answered_models(answered)
            if wanted != applied:
                serve_client.apply(settings, wanted)
                log.info("serving.applied", models=len(deployments))
                applied = wanted
            is_applied = all(loaded[d.model.name].revision == d.revision for d in deployments)
            is_applied &= answered == wanted.models
            if time.monotonic() - reported_at > REPORT_S or not is_applied:
                applications = serve_client.applications()
                if SHARED_APPLICATION not in applications:
                    # Serve's controller lost them with the head of a cluster, or somebody else
                    # replaced them.
                    applied = None
                replicas = serve_client.replicas(applications)
                running = _report(store, deployments, replicas, loaded)
                if answered != wanted.models and has_applied(wanted, running):
                    answered = wanted.models
                    store.put_answered_models(answered)
                issues = serve_client.issues(applications)
                for application, why in issues.items():
                    if why != known_issues.get(application):
                        log.warning("serving.issue", application=application, why=why)
                known_issues = issues
                if issues:
                    health.failed("; ".join(f"{name}: {why}" for name, why in issues.items()))
                else:
                    health.succeeded()
                reported_at = time.monotonic()
        stop.wait(INTERVAL_S)


ANSWERING = frozenset({"running", "updating"})
"""The states of a replica that answers. While it is updated, it answers with its old
configuration."""
UNKNOWN = LoadedVersions()
NO_REPORT = ReplicaReport(pid=0)


def _report(
    store: Store,
    deployments: Sequence[Deployment],
    replicas: "Sequence[RunningReplica]",
    reported: Mapping[str, LoadedVersions],
) -> list[tuple[str, ReplicaReport]]:
    """Write the replicas (for `status`) and the versions that they hold (for rollouts) to the
    store, if they differ from those `reported`. Returns the application and the report of each
    replica that answers."""
    from driftloop_serving.cluster.placement import applications_of
    from driftloop_serving.replicas.application import SHARED_APPLICATION
    from driftloop_serving.replicas.replica_status import loaded_versions

    before = store.replica_statuses()
    deaths = before.deaths + _retire(store, before.replicas, {(r.node, r.pid) for r in replicas})
    now = ReplicaStatuses(
        deaths=deaths,
        replicas=tuple(
            ReplicaStatus(
                name=f"replica:{r.id}", pid=r.pid, state=r.state, restarts=deaths, node=r.node
            )
            for r in replicas
        ),
    )
    if now != before:
        store.put_replica_statuses(now)
    running = [
        (replica.application, store.replica_report(replica.node, replica.pid) or NO_REPORT)
        for replica in replicas
        if replica.state in ANSWERING
    ]
    for deployment in deployments:
        name = deployment.model.name
        applications = applications_of(deployment)
        by_application = [
            [report for application, report in running if application == where]
            for where in applications
        ]
        known = [
            report.remote.get(name, ())
            for application, report in running
            if application == SHARED_APPLICATION
        ]
        loaded = loaded_versions(
            name,
            by_application,
            deployment.revision,
            known=None if applications == (SHARED_APPLICATION,) else known,
        )
        if loaded != reported[name]:
            store.put_loaded_versions(name, loaded)
    return running


def _retire(
    store: Store, before: Sequence[ReplicaStatus], alive: Container[tuple[str, int | None]]
) -> int:
    """Delete the reports of replicas that have ended. alive: node and pid of the others. Returns
    how many ended without being asked to."""
    deaths = 0
    for replica in before:
        if replica.pid is not None and (replica.node, replica.pid) not in alive:
            report = store.replica_report(replica.node, replica.pid)
            deaths += report is not None and not report.left
            store.drop_replica_report(replica.node, replica.pid)
    return deaths
