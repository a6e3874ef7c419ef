"""A zip file with which somebody else can see what happened on a stack, without its data.

Read from files and from the store, not from the control API: the stack may be what fails.
"""

import json
import os
import platform
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from driftloop_cli.confidential import Confidential, secrets_of
from driftloop_cli.doctor import examine
from driftloop_cli.log_events import LogEvent
from driftloop_cli.log_files import Logs, log_files
from driftloop_cli.roles import ROLES
from driftloop_contracts.errors import Conflict, DriftloopError, Unavailable
from driftloop_contracts.model import Deployment
from driftloop_settings import Settings
from driftloop_settings.private_files import FILE_MODE
from driftloop_settings.run_state import read_run_state
from driftloop_settings.shown import shown_settings
from driftloop_store import Schema, Store, look_at_store

NEWEST = 500
Part = Callable[[], Any]
_MODEL_FIELDS = ("name", "task", "output", "recipe", "policy", "objective")


def write_bundle(
    settings: Settings,
    path: Path,
    since: datetime,
    now: datetime,
    check: Callable[[Settings], Any] = examine,
) -> list[str]:
    """Write the file, which only its owner can read; return the names of its members. What could
    not be read is in `missing.json`. check: asks the machine and the broker. Raises Conflict if
    the file exists."""
    missing: dict[str, str] = {}
    deployments, store = _store(settings, missing)
    confidential = Confidential(set(secrets_of(settings)), set(_names(deployments)))
    parts: dict[str, Part] = {
        "versions.json": lambda: _versions(now),
        "settings.json": lambda: shown_settings(settings),
        "doctor.json": lambda: check(settings),
        "status.json": lambda: _status(settings, deployments, store),
    }
    if store is not None:
        parts |= _records(store)
    written = []
    try:
        with _private(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:

            def put(name: str, text: str) -> None:
                archive.writestr(name, text)
                written.append(name)

            for name, part in parts.items():
                try:
                    document = confidential.value(part())
                except (DriftloopError, OSError) as error:
                    missing[name] = confidential.text(str(error))
                else:
                    put(name, json.dumps(document, indent=1, default=str))
            for name, lines in _logs(settings, since, confidential, missing):
                put(name, lines)
            if missing:
                put("missing.json", json.dumps(missing, indent=1))
    finally:
        if store is not None:
            store.close()
    return written


def _private(path: Path) -> Any:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb")
    except FileExistsError:
        raise Conflict(f"{path} exists; name another file with --output") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from error


def _store(settings: Settings, missing: dict[str, str]) -> tuple[list[Deployment], Store | None]:
    store = look_at_store(settings.store_url)
    try:
        found = store.schema()
        if found is Schema.CURRENT:
            return list(store.deployments()), store
        missing["store"] = found
    except DriftloopError as error:
        missing["store"] = type(error).__name__
    store.close()
    return [], None


def _records(store: Store) -> dict[str, Part]:
    return {
        "windows.json": lambda: store.windows(limit=NEWEST),
        "findings.json": lambda: store.findings(limit=NEWEST),
        "decisions.json": lambda: store.decisions(limit=NEWEST),
        "alerts.json": lambda: [alert.to_dict() for alert in store.alerts(limit=NEWEST)],
        "incidents.json": lambda: [found.to_dict() for found in store.incidents(limit=NEWEST)],
        "retrains.json": lambda: [found.to_dict() for found in store.retrains(limit=NEWEST)],
        "rollouts.json": lambda: store.rollouts(limit=100),
        "counts.json": store.ledger,
        "audit.json": lambda: store.audits(NEWEST),
    }


def _status(settings: Settings, deployments: list[Deployment], store: Store | None) -> Any:
    running = read_run_state(settings.state_dir)
    models = []
    for deployment in deployments:
        found = deployment.to_dict()
        spec = {name: found["model"].get(name) for name in _MODEL_FIELDS}
        models.append({"model": spec, "split": found["split"], "revision": deployment.revision})
    return {
        "running": running is not None and running.supervisor.alive(),
        "roles": [
            {"name": r.name, "state": r.state, "restarts": r.restarts, "code": r.code}
            for r in (running.roles if running else ())
        ],
        "endpoints": dict(running.endpoints) if running else {},
        "models": models,
        "degraded": [found.to_dict() for found in store.degraded()] if store else [],
        "replicas": store.replica_statuses().to_dict() if store else {},
    }


def _versions(now: datetime) -> dict[str, Any]:
    packages = {found.metadata["Name"]: found.version for found in distributions()}
    return {
        "written_at": now.isoformat(),
        "driftloop": packages.get("driftloop", "unknown"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def _names(deployments: list[Deployment]) -> Iterator[str]:
    yield from (role.name for role in ROLES)
    for deployment in deployments:
        yield deployment.model.name
        for version in deployment.versions:
            for tensor in (*version.signature.inputs, *version.signature.outputs):
                yield tensor.name


def _logs(
    settings: Settings, since: datetime, confidential: Confidential, missing: dict[str, str]
) -> Iterator[tuple[str, str]]:
    try:
        files = log_files(settings.state_dir)
    except DriftloopError:
        missing["logs"] = "there are none"
        return
    for role, path in files.items():
        recent = Logs({role: path}, lambda event: event.at is None or event.at >= since, None)
        found = recent.read()
        yield f"logs/{role}.jsonl", "".join(f"{_shown(e, confidential)}\n" for e in found)


def _shown(event: LogEvent, confidential: Confidential) -> str:
    """Lines of other programs may quote anything in any way: a traceback's message is not known to
    be one."""
    fields = confidential.value(dict(event.fields))
    text = confidential.text(event.event)
    return LogEvent(event.role, event.at, event.level, text, fields).to_json()
