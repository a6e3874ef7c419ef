"""The local Ray head, small and on loopback only."""

import hashlib
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from driftloop_settings import Settings

OBJECT_STORE_BYTES = 80 << 20
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Despite its name it says, on every system, whether Ray may replace loopback by this machine's
    # address; a head of our own must not listen to the network.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # The role `serving` drains the replicas; where it is dead, nobody is there to wait half a minute for.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "5",
    # Idle workers kept warm would take the memory and the start-up time of two cores.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",
}


def address(settings: Settings) -> str:
    """Where the Ray of these settings is: the one they name, or this machine's own head."""
    return settings.serving.ray_address or f"127.0.0.1:{settings.serving.ray_port}"


def temp_dir(settings: Settings) -> Path:
    """Ray's sockets must have short paths (107 bytes), so its scratch is not in the state
    directory; the name is made of it, so that two stacks do not meet."""
    digest = hashlib.sha256(str(settings.state_dir).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"driftloop-{digest}"


def command(settings: Settings) -> list[str]:
    """The argv that becomes the Ray head; removes what an earlier one left."""
    clean(settings)
    os.environ.update(ENVIRONMENT)
    return [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
        "--node-ip-address=127.0.0.1", f"--port={settings.serving.ray_port}",
        "--include-dashboard=false", "--no-monitor", "--include-log-monitor=false",
        "--disable-usage-stats", "--num-cpus=2", "--num-gpus=0",
        f"--object-store-memory={OBJECT_STORE_BYTES}", f"--temp-dir={temp_dir(settings)}",
        f"--ray-client-server-port={_free_port()}", "--dashboard-agent-listen-port=0",
        "--dashboard-agent-grpc-port=0", "--metrics-export-port=0", "--min-worker-port=0",
        "--max-worker-port=0",
    ]  # fmt: skip


def _free_port() -> int:
    """For a port that Ray does not take as 0, and that nobody asks for."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean(settings: Settings) -> None:
    """Remove the scratch of a head that was killed; its processes are the supervisor's to end."""
    shutil.rmtree(temp_dir(settings), ignore_errors=True)
