"""Renders the Helm chart, and checks manifests with the schemas of Kubernetes and of the operators.

`helm` is taken from the PATH or from the user's cache, where `make tools` builds it from its Go
module; without it the tests that render are skipped.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm" / "driftloop"
SCHEMAS = Path(__file__).parent / "fixtures" / "kubernetes" / "schemas.json"

KUBERNETES = "1.30.0"
"""The oldest release that the chart asks for, and that of the schemas."""
Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rendered:
    """error: what helm says if it refuses the values; "" otherwise."""

    manifests: tuple[Manifest, ...]
    error: str

    def of(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def one(self, kind: str, name: str) -> Manifest:
        (found,) = [m for m in self.of(kind) if m["metadata"]["name"] == name]
        return found


def helm() -> str:
    """Its path; without it the test is skipped."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = shutil.which("helm", path=f"{os.environ['PATH']}:{cache / 'driftloop' / 'tools'}")
    if found is None:
        pytest.skip("helm is not installed: `make tools` builds it with Go")
    return found


def render(values: Mapping[str, Any], scratch: Path, release: str = "loop") -> Rendered:
    """`helm template` with these values over the chart's own."""
    file = scratch / "values.json"
    file.write_text(json.dumps(values))
    command = [
        *(helm(), "template", release, str(CHART), "--namespace", "ml", "--values", str(file)),
        *("--kube-version", KUBERNETES),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        return Rendered((), run.stderr)
    documents = yaml.load_all(run.stdout, Loader=yaml.CSafeLoader)
    return Rendered(tuple(document for document in documents if document), "")


@cache
def _schemas() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SCHEMAS.read_text())
    return found


@cache
def _validator(kind: str) -> Draft202012Validator:
    schemas = _schemas()
    return Draft202012Validator({**schemas["kinds"][kind], "$defs": schemas["$defs"]})


def problems(manifest: Manifest) -> list[str]:
    """What the API server, or an operator's schema, would refuse or drop."""
    return list(_problems(json.dumps(manifest)))


@cache
def _problems(text: str) -> list[str]:
    """Most manifests are the same with most values."""
    manifest = json.loads(text)
    kind = f"{manifest['apiVersion']}/{manifest['kind']}"
    if kind not in _schemas()["kinds"]:
        return [f"there is no {kind}"]
    return [
        f"{manifest['kind']} {manifest['metadata']['name']}: {error.json_path}: {error.message}"
        for error in _validator(kind).iter_errors(manifest)
    ]


def pod_specs(manifest: Manifest) -> Iterator[Manifest]:
    """Of whatever makes pods."""
    spec = manifest.get("spec", {})
    if manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
        yield spec["template"]["spec"]
    elif manifest["kind"] == "RayCluster":
        yield spec["headGroupSpec"]["template"]["spec"]
        for group in spec["workerGroupSpecs"]:
            yield group["template"]["spec"]
