"""Accepts a model: an archive with the graph and its spec becomes a version that serves.

The first version of a model serves at once. A later one is a candidate and starts a rollout, so
that a deployment cannot replace a better model either.
"""

import json
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from driftloop_contracts.capture import check_capture
from driftloop_contracts.errors import Conflict, Rejected, listed
from driftloop_contracts.kind import LANGUAGE, TABULAR, ModelKind, kind_of
from driftloop_contracts.model import (
    Deployment,
    ModelSpec,
    ServedVersion,
    TrafficSplit,
    check_new_name,
)
from driftloop_contracts.safe_tar import unpack
from driftloop_contracts.signature import Signature
from driftloop_gateway.incoming_version import SPEC_FILE, Reader
from driftloop_gateway.intake_graph import read_graph
from driftloop_gateway.intake_language import read_language
from driftloop_registry.port import BASE_TAG, Registry
from driftloop_settings import Settings
from driftloop_store import Store

READERS: Mapping[ModelKind, Reader] = {TABULAR: read_graph, LANGUAGE: read_language}


def take_in(
    archive: BinaryIO,
    store: Store,
    registry: Registry,
    now: datetime,
    *,
    at_once: bool,
    settings: Settings,
    scratch_dir: Path | None = None,
) -> dict[str, Any]:
    """Check, register and deploy the model in a tar archive. `at_once`: replace a serving champion
    without a rollout; `settings`: what the model's policy is checked against; `scratch_dir`: a
    folder with space for the files. Raises Rejected with the reason, before any change."""
    with tempfile.TemporaryDirectory(dir=scratch_dir) as scratch:
        folder = Path(scratch)
        document = _unpack(archive, folder)
        current = store.deployment(str(document.get("name")))
        if current is None:
            check_new_name(str(document.get("name")))
        read = READERS[kind_of(str(document.get("runtime", TABULAR.runtime)))]
        try:
            found = read(document, folder, current, folder / "fetched", settings)
        except TypeError as error:
            raise Rejected(f"model spec: {str(error).rpartition('() ')[2]}") from None
        spec, signature, base = found.spec, found.signature, found.base
        check_capture(spec, signature, has_key=settings.capture.hash_key is not None)
        settings.for_model(spec)
        if "tune" in (document.get("options") or ()):
            raise Rejected("`options.tune` is `policy.tuning` now")
        if current is not None:
            _check_same(current, spec, signature)
        record = registry.register(
            spec.name,
            found.folder,
            signature,
            metrics={},
            params={},
            tags={
                "source": "deploy",
                "deploy_id": uuid4().hex,
                **({} if base is None else {BASE_TAG: str(base)}),
            },
        )
    served = ServedVersion(record.version, record.path, signature, base, spec)
    answer: dict[str, Any] = {"model": spec.name, "version": record.version, "rollout": None}
    if found.judged_by:
        answer["judged_by"] = found.judged_by
    if current is None:
        split = TrafficSplit(stable=record.version)
        store.put_deployment(Deployment(spec, (served,), split))
    elif at_once:
        changed = replace(current.with_version(served), split=TrafficSplit(stable=record.version))
        store.put_deployment(replace(changed, model=spec))
    else:
        _change_policy(store, spec)
        rollout = store.request_rollout(
            str(uuid4()), served, spec.name, now, f"version {record.version} was deployed"
        )
        answer["rollout"] = rollout["id"]
        registry.set_alias(spec.name, "challenger", record.version)
        return answer
    registry.set_alias(spec.name, "champion", record.version)
    return answer


def _change_policy(store: Store, spec: ModelSpec) -> None:
    """Apply the policy of the spec. A policy belongs to the model, not to a version, so it takes
    effect at once, also for the rollout of this deployment."""
    while (current := store.require_deployment(spec.name)).model.policy != spec.policy:
        with suppress(Conflict):  # the rollout controller also writes it
            store.put_deployment(replace(current, model=replace(current.model, policy=spec.policy)))


def _unpack(archive: BinaryIO, folder: Path) -> dict[str, Any]:
    try:
        with tarfile.open(fileobj=archive) as tar:
            unpack(tar, folder)
        spec = json.loads((folder / SPEC_FILE).read_text())
    except (tarfile.TarError, OSError, ValueError):
        raise Rejected(
            "the body must be a tar archive with model.json and model.onnx (or weights/)"
        ) from None
    if not isinstance(spec, dict):
        raise Rejected("model.json must contain an object")
    return spec


def _check_same(current: Deployment, spec: ModelSpec, signature: Signature) -> None:
    """Raises Rejected unless the version has the kind and the inputs of the deployed model: both
    arms of a rollout answer the same requests."""
    if current.model.kind is not spec.kind:
        raise Rejected(
            f"{spec.name!r} already serves as {current.model.runtime}; deploy it under another name"
        )
    stable = current.version(current.split.stable)
    assert stable is not None
    theirs, ours = stable.signature, signature
    for side in ("inputs", "outputs"):
        a = {(t.name, t.datatype, t.row_shape) for t in getattr(theirs, side)}
        b = {(t.name, t.datatype, t.row_shape) for t in getattr(ours, side)}
        if a != b:
            names = listed(sorted({name for name, *_ in a ^ b}))
            raise Rejected(
                f"{current.model.name!r} already serves with other {side}: {names} differ; "
                "deploy it under another name"
            )
    lost = {t.name for t in theirs.optional} - {t.name for t in ours.optional}
    if lost:
        raise Rejected(
            f"{current.model.name!r} already serves with the optional inputs "
            f"{listed(sorted(lost))}, which this version does not take; deploy it "
            "under another name"
        )
