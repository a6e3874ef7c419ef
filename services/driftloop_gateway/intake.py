"""Taking a model in: an archive with the graph and its spec becomes a version that serves.

The first version of a model serves at once. A later one is a candidate and starts a rollout,
so that a deploy, too, never replaces a better model.
"""

import json
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from driftloop_contracts.capture import check_capture
from driftloop_contracts.errors import Rejected
from driftloop_contracts.input_rules import parse_rules
from driftloop_contracts.language import SIGNATURE, WEIGHTS_SUFFIXES
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.signature import Signature
from driftloop_gateway.intake_language import (
    WEIGHTS,
    check_runtime,
    is_language,
    read_language,
)
from driftloop_onnx import parse_options, require_providers, signature_of
from driftloop_registry.port import BASE_TAG, Registry
from driftloop_store import Store

SPEC_FILE = "model.json"
FILES = {SPEC_FILE, "model.onnx", "model.onnx.data", "reference.parquet"}


def take_in(
    archive: BinaryIO,
    store: Store,
    registry: Registry,
    now: datetime,
    *,
    at_once: bool,
    has_hash_key: bool = False,
    scratch_dir: Path | None = None,
    roots: Sequence[str] = (),
) -> dict[str, Any]:
    """Check, register and deploy the model in a tar archive. `at_once`: replace a serving champion
    without a rollout; `has_hash_key`: whether the capture rule `hash` can be applied;
    `scratch_dir`: where there is room for the files; `roots`: URI prefixes that a language model's
    weights may come from. Raises Rejected with the reason, before anything was changed."""
    with tempfile.TemporaryDirectory(dir=scratch_dir) as scratch:
        folder = Path(scratch)
        document = _unpack(archive, folder)
        declared = document.pop("signature", {})
        base = None
        current = store.deployment(str(document.get("name")))
        try:
            if is_language(document):
                version = read_language(document, folder, current, folder / "fetched", roots)
                spec, folder, base = version.spec, version.folder, version.base
                signature = SIGNATURE
            else:
                spec = ModelSpec.from_dict(document)
                signature = signature_of(folder)
                _check(spec, signature, declared)
        except TypeError as error:
            raise Rejected(f"model spec: {str(error).rpartition('() ')[2]}") from None
        check_capture(spec, signature, has_key=has_hash_key)
        check_runtime(current, spec)
        if current is not None:
            _check_same(current, signature)
        record = registry.register(
            spec.name,
            folder,
            signature,
            metrics={},
            params={},
            tags={
                "source": "deploy",
                "deploy_id": uuid4().hex,
                **({} if base is None else {BASE_TAG: str(base)}),
            },
        )
    served = ServedVersion(record.version, record.path, signature, base)
    answer: dict[str, Any] = {"model": spec.name, "version": record.version, "rollout": None}
    if current is None:
        split = TrafficSplit(stable=record.version)
        store.put_deployment(Deployment(spec, (served,), split))
    elif at_once:
        changed = replace(current.with_version(served), split=TrafficSplit(stable=record.version))
        store.put_deployment(replace(changed, model=spec))
    else:
        rollout = store.request_rollout(
            str(uuid4()), served, spec.name, now, f"version {record.version} was deployed"
        )
        answer["rollout"] = rollout["id"]
        registry.set_alias(spec.name, "challenger", record.version)
        return answer
    registry.set_alias(spec.name, "champion", record.version)
    return answer


def _unpack(archive: BinaryIO, folder: Path) -> dict[str, Any]:
    try:
        with tarfile.open(fileobj=archive) as tar:
            for member in tar:
                if not _is_known(member):
                    raise Rejected(
                        f"the archive may only hold {sorted(FILES)}, "
                        f"or {SPEC_FILE} and {WEIGHTS}/ with *{', *'.join(WEIGHTS_SUFFIXES)}"
                    )
                tar.extract(member, folder, filter="data")
        spec = json.loads((folder / SPEC_FILE).read_text())
    except (tarfile.TarError, OSError, ValueError):
        raise Rejected(
            "the body must be a tar archive with model.json and model.onnx (or weights/)"
        ) from None
    if not isinstance(spec, dict):
        raise Rejected("model.json must hold an object")
    return spec


def _is_known(member: tarfile.TarInfo) -> bool:
    folder, slash, name = member.name.partition("/")
    is_weights = folder == WEIGHTS and slash and "/" not in name and name.endswith(WEIGHTS_SUFFIXES)
    return member.isfile() and (member.name in FILES or bool(is_weights))


def _check(spec: ModelSpec, signature: Signature, declared: dict[str, Any]) -> None:
    """The spec must agree with what the graph says of itself."""
    for side in ("inputs", "outputs"):
        actual = {t.name: t for t in getattr(signature, side)}
        for tensor in declared.get(side) or ():
            name = tensor.get("name")
            if name not in actual:
                raise Rejected(
                    f"the spec names the {side[:-1]} {name!r}; the graph has {sorted(actual)}"
                )
            for key, found in (
                ("datatype", actual[name].datatype),
                ("shape", list(actual[name].shape)),
            ):
                if tensor.get(key, found) != found:
                    raise Rejected(
                        f"{side[:-1]} {name!r}: the spec says {key} {tensor[key]}, "
                        f"the graph says {found}"
                    )
        missing = set(actual) - {t.get("name") for t in declared.get(side) or ()}
        if declared.get(side) and missing:
            raise Rejected(f"the spec lacks the graph's {side[:-1]} {sorted(missing)[0]!r}")
    if spec.output and spec.output not in {t.name for t in signature.outputs}:
        names = sorted(t.name for t in signature.outputs)
        raise Rejected(f"the spec's output {spec.output!r} is not in the graph; it has {names}")
    parse_rules(spec.options)
    require_providers(parse_options(spec.options))
    inputs = {t.name for t in signature.inputs}
    for column in (*spec.slices, *spec.options.get("inputs", {})):
        if column not in inputs:
            raise Rejected(f"the spec names the column {column!r}; the inputs are {sorted(inputs)}")


def _check_same(current: Deployment, signature: Signature) -> None:
    """Both arms of a rollout answer the same requests, so they must take the same inputs."""
    stable = current.version(current.split.stable)
    assert stable is not None
    theirs, ours = stable.signature, signature
    for side in ("inputs", "outputs"):
        a = {(t.name, t.datatype, t.shape[1:]) for t in getattr(theirs, side)}
        b = {(t.name, t.datatype, t.shape[1:]) for t in getattr(ours, side)}
        if a != b:
            names = sorted({name for name, *_ in a ^ b})
            raise Rejected(
                f"{current.model.name!r} already serves with other {side}: {names} differ; "
                "deploy it under another name"
            )
