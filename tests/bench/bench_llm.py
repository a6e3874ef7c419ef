"""Tokens per second and time to the first token: driftloop against bare vLLM with the same
settings, and against `ray.serve.llm` where it starts. All servers are started first and asked in
turns, so that what else the machine does meets all of them.

    python tests/bench/bench_llm.py [--model FOLDER | --tiny] [--rounds 3] [--tokens 64] [--peers]

Without --model it is SmolLM2-135M-Instruct, which is fetched once. About 10 minutes on two cores.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from command_line import FREE_PORTS, Driftloop
from tiny_llama import tiny_llama

from driftloop_serving.openai.openai_upstream import Upstreams
from driftloop_settings.ports import free_port
from driftloop_vllm.options import parse_options, process_environment
from driftloop_vllm.plugin import SLEEPS

NAME = "bench"
START_S = 600
OPTIONS = {"engine": {"max_model_len": 512, "max_lora_rank": 16, "max_loras": 2}}
CONCURRENCY = (1, 16)
# Bare vLLM is measured at the priority of ours.
SETTINGS = (*FREE_PORTS, "llm.nice=0", "monitoring.interval_s=60")


@dataclass(frozen=True)
class Server:
    name: str
    address: str


@dataclass(frozen=True)
class Measured:
    tokens_per_s: float
    first_token_ms: float


@contextmanager
def bare_vllm(model: Path) -> Iterator[Server]:
    port = free_port()
    options = parse_options(OPTIONS)
    words = ["--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port)]
    given = {**options.engine.arguments(), "enforce_eager": True, "gpu_memory_utilization": 0.3}
    for key, value in given.items():
        flag = f"--{key.replace('_', '-')}"
        words += ([flag] if value else []) if isinstance(value, bool) else [flag, str(value)]
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(model),
        *words,
        "--disable-uvicorn-access-log",
    ]
    environment = process_environment(options) | {SLEEPS: ""}
    with started(command, environment, "vllm"):
        wait_for(f"http://127.0.0.1:{port}/health")
        yield Server("bare vLLM", f"127.0.0.1:{port}")


@contextmanager
def driftloop(model: Path, folder: Path) -> Iterator[Server]:
    command = Driftloop(folder / "state")
    spec = folder / "bench.yaml"
    spec.write_text(
        json.dumps({"name": NAME, "runtime": "vllm", "model": str(model), "options": OPTIONS})
    )
    try:
        sets = [word for each in SETTINGS for word in ("--set", each)]
        command("up", "--detach", *sets, timeout=START_S)
        command("deploy", str(spec), timeout=START_S)
        url = command("status")["endpoints"]["inference"]
        yield Server("driftloop", url.removeprefix("http://"))
    finally:
        command("down", check=False)


RAY_LLM = """
import sys
import ray
from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app
config = LLMConfig(
    model_loading_config={"model_id": sys.argv[2], "model_source": sys.argv[1]},
    accelerator_type=None, accelerator_config={"kind": "cpu"},
    deployment_config={"num_replicas": 1},
    engine_kwargs={"max_model_len": 512, "enforce_eager": True, "gpu_memory_utilization": 0.3},
)
# Its actors ask for whole CPUs, more than a small machine has.
ray.init(num_cpus=8, include_dashboard=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[3])})
serve.run(build_openai_app({"llm_configs": [config]}), blocking=True)
"""


@contextmanager
def ray_serve_llm(model: Path) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-c", RAY_LLM, str(model), NAME, str(port)]
    environment = process_environment(parse_options(OPTIONS)) | {SLEEPS: ""}
    with started(command, environment, "ray.serve.llm"):
        wait_for(f"http://127.0.0.1:{port}/v1/models")
        yield Server("ray.serve.llm", f"127.0.0.1:{port}")


@contextmanager
def started(command: list[str], environment: dict[str, str], name: str) -> Iterator[None]:
    log = Path(tempfile.gettempdir()) / f"bench-{name}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=os.environ | environment, start_new_session=True
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(url: str) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} does not answer") from error
            time.sleep(1.0)


async def measure(server: Server, concurrency: int, requests: int, tokens: int) -> Measured:
    upstreams = Upstreams()
    numbers = iter(range(requests))
    firsts: list[float] = []

    async def ask(number: int) -> None:
        body = {
            "model": NAME,
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
            "temperature": 0,
            "messages": [
                {"role": "user", "content": f"Tell me a story about the number {number}."}
            ],
        }
        began = time.perf_counter()
        connection = await upstreams.ask(
            (server.address,),
            "/v1/chat/completions",
            {"content-type": "application/json"},
            json.dumps(body).encode(),
        )
        status, _ = await connection.head()
        assert status == 200, status
        first = True
        while await connection.chunk() is not None:
            if first:
                firsts.append(time.perf_counter() - began)
                first = False

    async def client() -> None:
        for number in numbers:
            await ask(number)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    took_s = time.perf_counter() - began
    return Measured(requests * tokens / took_s, statistics.median(firsts) * 1e3)


def wanted_model(wanted: argparse.Namespace, folder: Path) -> Path:
    """Of --model and --tiny; a tiny one is made in `folder`."""
    if wanted.tiny:
        return tiny_llama(folder / "tiny")
    if wanted.model is None:
        from driftloop_demo.language_model import smollm2

        return smollm2(say=print)
    return Path(wanted.model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--peers", action="store_true", help="also ray.serve.llm")
    wanted = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = wanted_model(wanted, folder)
        servers = [
            stack.enter_context(bare_vllm(model)),
            stack.enter_context(driftloop(model, folder)),
        ]
        if wanted.peers:
            try:
                servers.append(stack.enter_context(ray_serve_llm(model)))
            except (TimeoutError, OSError) as error:
                print(f"ray.serve.llm did not start: {error}")
        for server in servers:
            asyncio.run(measure(server, 2, 4, wanted.tokens))  # warm
        print("| c | server | tokens/s | of bare vLLM | first token, ms | more than bare vLLM |")
        print("|---|---|---|---|---|---|")
        for concurrency in CONCURRENCY:
            report(servers, concurrency, wanted.rounds, wanted.tokens)


def report(servers: list[Server], concurrency: int, rounds: int, tokens: int) -> None:
    """Medians over rounds, in which every server has its turn."""
    found: dict[str, list[Measured]] = {server.name: [] for server in servers}
    for number in range(rounds):
        for server in servers if number % 2 == 0 else reversed(servers):
            requests = max(8, concurrency * 3)
            found[server.name].append(asyncio.run(measure(server, concurrency, requests, tokens)))
    bare = found[servers[0].name]
    base_rate = statistics.median(m.tokens_per_s for m in bare)
    base_first = statistics.median(m.first_token_ms for m in bare)
    for name, measured in found.items():
        rate = statistics.median(m.tokens_per_s for m in measured)
        first = statistics.median(m.first_token_ms for m in measured)
        print(
            f"| {concurrency} | {name} | {rate:.1f} | {rate / base_rate:.1%} | {first:.1f} "
            f"| {first - base_first:+.1f} ms |"
        )


if __name__ == "__main__":
    main()
