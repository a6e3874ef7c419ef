"""driftloop as `driftloop up` starts it: Kafka, Ray Serve, archiver, monitor and all, capture on.

The replica of ingress `direct` stays on the servers' core. All that takes no part in an answer runs
when a core has nothing else to do: on machines of its own it would not compete with the replica and
the client.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psutil
from load import CLIENT_CORE, SERVER_CORE
from process import cpu_seconds, family, post, settle
from subjects import Endpoint, Place, Subject
from traffic import arrays, v2_json

PORTS = ("serving.port=0", "serving.grpc_port=0", "control.port=0", "kafka.port=0")


def driftloop(state: Path, *words: str) -> Any:
    argv = [sys.executable, "-m", "driftloop_cli", *words, "--state-dir", str(state), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        ends = [_end(log) for log in (state / "logs").glob("*.log")]
        said = done.stdout[-800:] + done.stderr[-800:]
        raise RuntimeError("\n".join([f"driftloop {words[0]}: {said}", *ends]))
    return json.loads(done.stdout)


def _end(log: Path) -> str:
    return f"{log.name}: {log.read_text(errors='replace').strip()[-200:]}"


def _takes_part(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        words: list[str] = process.cmdline()[:1]  # none, of a process that has just ended
        return process.name() == "haproxy" or "".join(words).startswith("ray::ServeReplica")
    return False


def _cpu(root: int, *, serves: bool) -> float:
    return cpu_seconds(p for p in family(root) if _takes_part(p) == serves)


def _threads(process: psutil.Process) -> list[int]:
    with contextlib.suppress(psutil.Error):
        return [thread.id for thread in process.threads()]
    return []


def arrange(processes: list[psutil.Process], ingress: str) -> None:
    """Priorities and cores, of every thread: both are a thread's own on Linux."""
    for process in processes:
        serves = _takes_part(process)
        for thread in _threads(process):
            with contextlib.suppress(ProcessLookupError):
                if not serves:
                    os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
                if ingress == "direct":
                    os.sched_setaffinity(thread, {SERVER_CORE if serves else CLIENT_CORE})


def _start(ingress: str) -> Callable[[Place], AbstractContextManager[Endpoint]]:
    @contextmanager
    def start(place: Place) -> Iterator[Endpoint]:
        settings = (*PORTS, f"serving.ingress={ingress}")
        words = [word for item in settings for word in ("--set", item)]
        with tempfile.TemporaryDirectory(prefix="dlb-") as scratch:
            state = Path(scratch)
            try:
                up = driftloop(state, "up", "--detach", "--timeout-s", "220", *words)
                driftloop(state, "deploy", str(place.graph), "--name", "m")
                port = int(up["endpoints"]["inference"].rpartition(":")[2])
                status, _, body = post(port, v2_json(arrays([1])[0]).raw())
                if status != 200:
                    raise RuntimeError(f"{ingress}: {status} {body[:300]!r}")
                settle(20)
                arrange(family(up["pid"]), ingress)
                yield Endpoint(
                    port,
                    lambda: _cpu(up["pid"], serves=True),
                    lambda: _cpu(up["pid"], serves=False),
                    lambda: int(driftloop(state, "status")["models"][0]["counts"]["dropped"]),
                )
            finally:
                driftloop(state, "down")

    return start


def _subject(name: str, label: str, ingress: str) -> Subject:
    return Subject(name, label, "driftloop", _start(ingress), cells="all")


DIRECT = _subject("direct", "driftloop, direct", "direct")
HAPROXY = _subject("haproxy", "driftloop, haproxy", "haproxy")
