"""The load: wrk for closed loops, openloop.c for open ones. Both run on a core of their own."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SERVER_CORE, CLIENT_CORE = 0, 1


@dataclass(frozen=True)
class Sample:
    """One measurement. `failed`: answers that were not 2xx; `broken`: connections that were."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    p999_us: float
    failed: int
    broken: int

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def require_tools() -> None:
    """End the program with what to install where a tool is missing."""
    missing = [name for name in ("wrk", "cc", "taskset") if shutil.which(name) is None]
    if missing:
        raise SystemExit(
            f"the serving bench needs {', '.join(missing)}: on Debian and Ubuntu"
            " `apt-get install wrk gcc libc6-dev util-linux`, see docs/benchmarks/serving.md"
        )
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("the serving bench needs two cores: one serves, one asks")


def pinned(argv: list[str], core: int | None) -> list[str]:
    return argv if core is None else ["taskset", "-c", str(core), *argv]


def closed_loop(port: int, requests: Path, connections: int, seconds: float) -> Sample:
    """wrk: each connection asks again as soon as it is answered."""
    argv = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "10s",
        "-s",
        str(HERE / "requests.lua"),
        f"http://127.0.0.1:{port}",
        "--",
        str(requests),
    ]
    return _run(argv)


def build_open_loop(folder: Path) -> Path:
    """Compile openloop.c; returns the program."""
    program = folder / "openloop"
    argv = ["cc", "-O2", "-o", str(program), str(HERE / "openloop.c"), "-lm"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"openloop.c does not compile (glibc 2.35 or later?): {done.stderr}")
    return program


def open_loop(
    program: Path, port: int, requests: Path, connections: int, rate: float, seconds: float
) -> Sample:
    """Requests fall due at random times, `rate` a second, whether answers are there or not."""
    argv = [str(program), str(port), str(requests), str(connections), f"{rate:.1f}", str(seconds)]
    return _run(argv)


def _run(argv: list[str]) -> Sample:
    out = subprocess.run(pinned(argv, CLIENT_CORE), capture_output=True, text=True, check=False)
    line = next((x for x in out.stdout.splitlines() if x.startswith("RESULT ")), None)
    if line is None:
        raise RuntimeError(
            f"{argv[0]} gave no result ({out.returncode}): {out.stdout[-500:]}{out.stderr[-500:]}"
        )
    return Sample(**json.loads(line.removeprefix("RESULT ")))
