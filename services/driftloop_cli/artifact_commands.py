"""The commands for the files that machines share."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftloop_cli.options import Invocation, logged, stack_command
from driftloop_cli.terminal import console
from driftloop_contracts.clock import system_clock
from driftloop_contracts.errors import Rejected

if TYPE_CHECKING:
    from driftloop_artifacts import Artifacts
    from driftloop_registry.port import Registry, VersionRecord
    from driftloop_store import Store

artifacts = typer.Typer(
    help="The files that machines share (registry.artifacts).", no_args_is_help=True
)
LEAST_DAYS = 2
_ADDRESS = re.compile(r"sha256:[0-9a-f]{64}")


@artifacts.command()
@stack_command
@logged
def clean(
    run: Invocation,
    older_than_days: Annotated[
        int,
        typer.Option(help="Only what was stored this long ago.", min=LEAST_DAYS),
    ] = 7,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Delete the files that no version, deployment, rollout, retrain or alert names any more."""
    from driftloop_artifacts import open_artifacts
    from driftloop_artifacts.garbage import delete, find_garbage
    from driftloop_registry.mlflow_registry import open_registry
    from driftloop_store import open_store

    settings = run.settings
    blobs = open_artifacts(settings).blobs
    before = system_clock() - timedelta(days=older_than_days)
    store, registry = open_store(settings.store_url), open_registry(settings)
    try:
        named = Named(store, registry)
        garbage = find_garbage(blobs, named.addresses, named.is_named, before)
    finally:
        store.close()
    if not dry_run:
        delete(blobs, garbage)
    document = {
        "place": blobs.place,
        "deleted": not dry_run,
        "folders": len(garbage.folders),
        "files": len(garbage.files) + len(garbage.named),
        "bytes": garbage.size,
        "keys": [file.key for file in garbage.all],
    }
    done = "would be deleted" if dry_run else "were deleted"
    run.emit(
        document,
        lambda: console.print(
            f"{document['folders']} folders and {document['files']} files, "
            f"{garbage.size / 1e6:.1f} MB, {done} from {blobs.place}"
        ),
    )


class Named:
    """What the store and the registry name. What is named anywhere in a record counts."""

    def __init__(self, store: "Store", registry: "Registry") -> None:
        self._store = store
        self._text = "\n".join(json.dumps(r, default=str) for r in _records(store))
        self._versions = {(v.model, v.version): v for v in _versions(registry)}

    @property
    def addresses(self) -> set[str]:
        registered = (
            text for v in self._versions.values() for text in (v.path, v.report, *v.tags.values())
        )
        texts = (self._text, *(text for text in registered if text))
        return {address for text in texts for address in _ADDRESS.findall(text)}

    def is_named(self, name: str) -> bool:
        """name: of a report, a live reference or the copy of a retrain's work; others are kept."""
        kind, _, rest = name.partition("/")
        if kind == "reports":
            return Path(rest).name in self._text
        if kind == "references":
            model, _, version = Path(rest).stem.rpartition("-")
            return not version.isdigit() or (model, int(version)) in self._versions
        if kind == "retrains":
            known = self._store.cursor(f"retrain-work/{rest.partition('/')[0]}")
            return known is not None and known.get("copy") == name
        return True


def _records(store: "Store") -> Iterator[Any]:
    yield from (deployment.to_dict() for deployment in store.deployments())
    yield from store.rollouts(limit=None)
    yield from (retrain.to_dict() for retrain in store.retrains(limit=None))
    yield from (alert.to_dict() for alert in store.alerts(limit=None))


def _versions(registry: "Registry") -> "Iterator[VersionRecord]":
    for model in registry.models():
        yield from registry.versions(model)


@artifacts.command()
@stack_command
@logged
def adopt(run: Invocation) -> None:
    """Store the versions that are folders of this machine, so that others can serve them.

    For versions that were registered before `registry.artifacts` was set. Run it on the machine
    that has the folders; it may be repeated. Models with an active rollout are left for later.
    """
    from driftloop_artifacts import open_artifacts
    from driftloop_registry.mlflow_registry import open_registry
    from driftloop_store import open_store

    settings = run.settings
    shared = open_artifacts(settings)
    if shared.place is None:
        raise Rejected("registry.artifacts is not set: there is no place to store versions in")
    store = open_store(settings.store_url)
    try:
        moved, left = adopted(store, open_registry(settings), shared)
    finally:
        store.close()
    document = {"place": shared.place, "moved": moved, "left": left}

    def show() -> None:
        console.print(f"{len(moved)} versions are stored in {shared.place}")
        for line in left:
            console.print(f"  left: {line}")

    run.emit(document, show)


def adopted(
    store: "Store", registry: "Registry", shared: "Artifacts"
) -> tuple[list[str], list[str]]:
    """Store every version that is a folder here. Returns those that were moved, and why others
    were not. A deployment that changes meanwhile is written by the next call."""
    from driftloop_artifacts.manifest import is_address

    moved, left = [], []
    busy = {rollout["model"] for rollout in store.active_rollouts()}
    for record in list(_versions(registry)):
        name = f"{record.model} {record.version}"
        folder = Path(record.path)
        if is_address(record.path):
            continue
        if record.model in busy:
            left.append(f"{name}: a rollout is active")
        elif not folder.is_dir():
            left.append(f"{name}: {folder} is not on this machine")
        else:
            report = Path(record.report) if record.report else None
            own = shared.put(report) if report is not None and report.is_dir() else None
            registry.move(record, shared.put(folder), own)
            moved.append(name)
    _redeploy(store, registry, [model for model in registry.models() if model not in busy])
    return moved, left


def _redeploy(store: "Store", registry: "Registry", models: Iterable[str]) -> None:
    """Replace the folders that deployments name by the addresses in the registry."""
    from driftloop_artifacts.manifest import is_address

    for model in models:
        deployment = store.deployment(model)
        if deployment is None:
            continue
        versions = registry.versions(model)
        paths = {v.version: v.path for v in versions if is_address(v.path)}
        served_now = tuple(
            replace(served, path=paths.get(served.version, served.path))
            for served in deployment.versions
        )
        if served_now != deployment.versions:
            store.put_deployment(replace(deployment, versions=served_now))
