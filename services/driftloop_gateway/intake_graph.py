"""Reads a model that is an ONNX graph; its spec must agree with the graph."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.graph_files import check_graph_width, external_files
from driftloop_contracts.input_rules import parse_rules
from driftloop_contracts.model import Deployment, ModelSpec
from driftloop_contracts.signature import Signature
from driftloop_evaluation.chosen_objective import chosen_objective
from driftloop_evaluation.labels import label_names
from driftloop_evaluation.served_objectives import served_objectives
from driftloop_evaluation.slices import slice_columns
from driftloop_gateway.incoming_version import IncomingVersion, only_holds
from driftloop_onnx import first_load, parse_options, require_providers
from driftloop_settings import Settings

MODEL, REFERENCE = "model.onnx", "reference.parquet"


def read_graph(
    document: dict[str, Any],
    folder: Path,
    current: Deployment | None,
    cache: Path,
    settings: Settings,
) -> IncomingVersion:
    """See `Reader`. The document may contain the `signature` that the team expects."""
    del current, cache
    declared = document.pop("signature", {})
    spec = ModelSpec.from_dict(document)
    parse_rules(spec.options)
    options = parse_options(spec.options)
    require_providers(options)
    graph = folder / MODEL
    if not graph.is_file():
        raise Rejected(f"there is no model file {MODEL!r} in the archive")
    check_graph_width(graph)  # before it is loaded
    known = {MODEL, REFERENCE, *external_files(graph)}
    only_holds(folder, known.__contains__, f"{MODEL}, {REFERENCE} and the files that it names")
    signature = first_load(
        folder,
        options,
        timeout_s=settings.serving.load_timeout_s,
        memory_bytes=settings.serving.load_memory_bytes,
    )
    signature.check_width()
    _check_signature(signature, declared)
    _check_spec(spec, signature)
    spec, judged_by = _judged(served_objectives(spec, signature), signature, folder / REFERENCE)
    return IncomingVersion(spec, folder, signature, judged_by=judged_by)


def _judged(spec: ModelSpec, signature: Signature, reference: Path) -> tuple[ModelSpec, str]:
    """The spec with an objective by the labels of the reference, and why, if it names none."""
    if spec.objective is not None or spec.task != "classification" or not reference.is_file():
        return spec, ""
    import pyarrow.parquet as pq

    if "label" not in pq.read_schema(reference).names:
        return spec, ""
    labels = pq.read_table(reference, columns=["label"]).column("label")
    objective, why = chosen_objective(label_names(labels).to_pylist())
    if objective is None:
        return spec, why
    try:
        return served_objectives(replace(spec, objective=objective), signature), why
    except Rejected as error:
        return spec, f"judged by its error: {error}"


def _check_signature(signature: Signature, declared: dict[str, Any]) -> None:
    for side in ("inputs", "outputs"):
        actual = {t.name: t for t in getattr(signature, side)}
        for tensor in declared.get(side) or ():
            name = tensor.get("name")
            if name not in actual:
                raise Rejected(
                    f"the spec names the {side[:-1]} {name!r}; "
                    f"the graph has {listed(sorted(actual))}"
                )
            for key, found in (
                ("datatype", actual[name].datatype),
                ("shape", actual[name].to_dict()["shape"]),
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
        names = listed(sorted(t.name for t in signature.outputs))
        raise Rejected(f"the spec's output {spec.output!r} is not in the graph; it has {names}")
    inputs = {t.name for t in signature.inputs}
    for column in (*slice_columns(spec), *spec.options.get("inputs", {})):
        if column not in inputs:
            raise Rejected(
                f"the spec names the column {column!r}; the inputs are {listed(sorted(inputs))}"
            )
    if spec.recipe is not None and spec.labels:
        raise Rejected(
            f"the labels are objects with {listed(spec.labels)}, and the recipe {spec.recipe!r} "
            "trains one output on one label; deploy without a recipe"
        )
    if spec.recipe is not None and signature.optional:
        raise Rejected(
            f"the input {signature.optional[0].name!r} has a default, and the recipe "
            f"{spec.recipe!r} would train versions that do not take it; make it a constant of the "
            "graph or an input without a default, or deploy without a recipe"
        )
