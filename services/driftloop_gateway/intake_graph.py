"""Reading a model that is an ONNX graph: its spec must agree with what the graph says of itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import Rejected
from driftloop_contracts.input_rules import parse_rules
from driftloop_contracts.model import Deployment, ModelSpec
from driftloop_contracts.signature import Signature
from driftloop_gateway.incoming_version import IncomingVersion
from driftloop_onnx import parse_options, require_providers, signature_of


def read_graph(
    document: dict[str, Any],
    folder: Path,
    current: Deployment | None,
    cache: Path,
    roots: Sequence[str],
) -> IncomingVersion:
    """See `Reader`; the document may hold the `signature` that the team expects."""
    del current, cache, roots
    declared = document.pop("signature", {})
    spec = ModelSpec.from_dict(document)
    signature = signature_of(folder)
    _check_signature(signature, declared)
    _check_spec(spec, signature)
    return IncomingVersion(spec, folder, signature)


def _check_signature(signature: Signature, declared: dict[str, Any]) -> None:
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


def _check_spec(spec: ModelSpec, signature: Signature) -> None:
    if spec.output and spec.output not in {t.name for t in signature.outputs}:
        names = sorted(t.name for t in signature.outputs)
        raise Rejected(f"the spec's output {spec.output!r} is not in the graph; it has {names}")
    parse_rules(spec.options)
    require_providers(parse_options(spec.options))
    inputs = {t.name for t in signature.inputs}
    for column in (*spec.slices, *spec.options.get("inputs", {})):
        if column not in inputs:
            raise Rejected(f"the spec names the column {column!r}; the inputs are {sorted(inputs)}")
