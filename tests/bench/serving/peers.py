"""Other servers of Python models, each in an environment of its own, each with its own way of JSON.

They are set up as their documentation begins, and serve the same graph with ONNX Runtime on one
thread.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from subjects import (
    Endpoint,
    Place,
    Skipped,
    Subject,
    plain_probabilities,
    serving,
    v2_probabilities,
)
from traffic import Writer, arrays, plain_json, v2_json

from driftloop_settings.ports import free_port

PEERS = Path(__file__).parent / "peers"
Command = Callable[[Path, Path, int], list[str]]
"""The environment's `bin`, a scratch folder and the port, to an argv."""


def _environment(name: str, folder: Path) -> Path:
    """The environment's `bin`, made where it is missing or its requirements have changed."""
    requirements = PEERS / f"{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    home, stamp = folder / name, folder / name / "requirements.sha256"
    if not stamp.is_file() or stamp.read_text() != digest:
        uv = Path(sys.executable).parent / "uv"
        for argv in (
            [str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(home)],
            [
                str(uv),
                "pip",
                "install",
                "--quiet",
                "--python",
                str(home / "bin" / "python"),
                "-r",
                str(requirements),
            ],
        ):
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode:
                lines = done.stderr.strip().splitlines() or ["uv gave no reason"]
                raise Skipped(f"does not install: {lines[-1]}")
        stamp.write_text(digest)
    return home / "bin"


def versions() -> dict[str, str]:
    """The peers' versions, as their requirements pin them."""
    pinned: dict[str, str] = {}
    for path in sorted(PEERS.glob("*.txt")):
        lines = (line.partition("==") for line in path.read_text().splitlines())
        pinned[path.stem] = next(number for name, _, number in lines if name == path.stem)
    return pinned


def _mosec(binaries: Path, _: Path, port: int) -> list[str]:
    script = str(PEERS / "serve_mosec.py")
    return [str(binaries / "python"), script, "--address", "127.0.0.1", "--port", str(port)]


def _litserve(binaries: Path, _: Path, port: int) -> list[str]:
    return [str(binaries / "python"), str(PEERS / "serve_litserve.py")]


def _bentoml(binaries: Path, _: Path, port: int) -> list[str]:
    words = ["serve", "serve_bentoml:Model", "--host", "127.0.0.1", "--port", str(port)]
    return [str(binaries / "bentoml"), *words, "--working-dir", str(PEERS)]


def _mlserver(binaries: Path, scratch: Path, port: int) -> list[str]:
    folder = scratch / "mlserver"
    folder.mkdir(exist_ok=True)
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
    }
    model = {"name": "m", "implementation": "serve_mlserver.OnnxRuntime"}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(binaries / "mlserver"), "start", str(folder)]


def _peer(
    name: str,
    label: str,
    requirements: str,
    command: Command,
    write: Writer,
    environment: Mapping[str, str] = {},
) -> Subject:
    @contextmanager
    def start(place: Place) -> Iterator[Endpoint]:
        binaries = _environment(requirements, place.environments)
        port = free_port()
        variables = {
            "PATH": f"{binaries}:/usr/bin:/bin",
            "PYTHONPATH": str(PEERS),
            "BENCH_GRAPH": str(place.graph),
            "BENCH_PORT": str(port),
            "BENTOML_HOME": str(place.scratch / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "true",
            **environment,
        }
        argv = command(binaries, place.scratch, port)
        probe, log = write(arrays([1])[0]), place.scratch / f"{name}.log"
        context: AbstractContextManager[Endpoint] = serving(
            argv, port, probe, log, environment=variables, folder=place.scratch
        )
        with context as endpoint:
            yield endpoint

    read = v2_probabilities if write is v2_json else plain_probabilities
    return Subject(name, label, "peer", start, write, read)


ALL = (
    _peer("mosec", "mosec", "mosec", _mosec, plain_json("/inference"), {"BENCH_BATCH": "1"}),
    _peer("mosec-batch", "mosec, batches of 32", "mosec", _mosec, plain_json("/inference"),
          {"BENCH_BATCH": "32"}),
    _peer("litserve", "LitServe", "litserve", _litserve, plain_json("/predict")),
    _peer("bentoml", "BentoML", "bentoml", _bentoml, plain_json("/infer")),
    _peer("mlserver", "MLServer", "mlserver", _mlserver, v2_json),
)  # fmt: skip
