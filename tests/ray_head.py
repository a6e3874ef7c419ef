"""A Ray head of its own for tests, which ends with all its processes."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from command_line import eventually
from ray._private import ray_constants
from ray._raylet import Config

from driftloop_settings.ports import free_port

RAY = {
    "RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_worker_prestart": "0",
}  # fmt: skip


@contextmanager
def ray_head(cpus: int = 1) -> Iterator[str]:
    """HOST:PORT of a Ray head in a session of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in RAY.items():
            patch.setenv(name, value)
        # Ray, long imported, would go by the environment of then.
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
        Config.initialize("")
        address, scratch = f"127.0.0.1:{free_port()}", tempfile.mkdtemp(prefix="dl-")
        head = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "ray.scripts.scripts",
                "start",
                "--head",
                "--block",
                "--node-ip-address=127.0.0.1",
                f"--port={address.split(':')[1]}",
                "--include-dashboard=false",
                "--no-monitor",
                "--include-log-monitor=false",
                "--disable-usage-stats",
                f"--num-cpus={cpus}",
                "--num-gpus=0",
                f"--object-store-memory={80 << 20}",
                f"--temp-dir={scratch}",
                f"--ray-client-server-port={free_port()}",
                "--dashboard-agent-listen-port=0",
                "--dashboard-agent-grpc-port=0",
                "--metrics-export-port=0",
                "--min-worker-port=0",
                "--max-worker-port=0",
            ],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: _listens(address), bool, timeout_s=120)
            yield address
        finally:
            for process in session_of(head.pid):
                process.kill()
            head.wait()
            shutil.rmtree(scratch, ignore_errors=True)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=2.0):
        return True
    return False


def session_of(leader: int) -> list[psutil.Process]:
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader:
                found.append(psutil.Process(pid))
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found
