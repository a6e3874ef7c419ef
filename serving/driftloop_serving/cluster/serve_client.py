"""Ray Serve as the `serving` role uses it. Importing this module imports Ray, so set Ray's
environment first."""

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import ray
from ray import serve
from ray.serve._private.api import _create_controller_and_proxy_refs
from ray.serve._private.client import ServeControllerClient
from ray.serve.config import ControllerOptions, HTTPOptions, ProxyLocation
from ray.serve.context import _get_global_client, _set_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ServeDeploySchema

from driftloop_serving.cluster.placement import Placement
from driftloop_serving.cluster.ray_head import address, serve_environment
from driftloop_serving.replicas.application import REPLICA, SHARED_APPLICATION
from driftloop_settings import ServingSettings, Settings
from driftloop_settings.serving_sections import WITH_SECRETS

KEEP_ALIVE_S = 75

Record = dict[str, Any]
"""A document returned by Serve."""


@dataclass(frozen=True, slots=True)
class RunningReplica:
    """A replica as reported by Serve. `pid`: None until its process has started, `node`: empty
    until it is placed; `state`: lower case."""

    application: str
    id: str
    pid: int | None
    state: str
    node: str


def connect(settings: Settings) -> bool:
    """Connect to Ray and start Serve's controller. False while Ray is not running yet."""
    host, _, port = address(settings).rpartition(":")
    try:
        # Ray would wait half a minute for a head that does not listen yet.
        socket.create_connection((host, int(port)), timeout=2.0).close()
        with _own_signals():
            ray.init(
                address(settings),
                namespace="driftloop",
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError, OSError):
        return False
    _start_serve(settings)
    return True


def _start_serve(settings: Settings) -> None:
    """Start Serve like `serve.start`, but without waiting for the proxies, so that deployments
    start meanwhile."""
    with contextlib.suppress(RayServeException):
        _get_global_client()
        return
    proxied = settings.serving.ingress == "haproxy"
    # Our own head has it in its environment.
    options = {"runtime_env": {"env_vars": serve_environment(settings)}}
    foreign = settings.serving.ray_address is not None
    controller, _ = _create_controller_and_proxy_refs(
        http_options=_http_options(settings),
        grpc_options=None,
        global_logging_config=None,
        global_tracing_config=None,
        controller_options=ControllerOptions(**options) if foreign else None,
        proxy_location=ProxyLocation.HeadOnly if proxied else ProxyLocation.Disabled,
    )
    _set_global_client(ServeControllerClient(controller))


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the role's SIGTERM handler. `ray.init` would replace it by one that ends the role at
    once, without shutting Serve down or finishing requests."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def apply(settings: Settings, placement: Placement) -> None:
    """Apply the placement to Serve without restarting running replicas."""
    _get_global_client().deploy_apps(_schema(settings, placement))


def disconnect(*, shut_down: bool) -> None:
    """Disconnect from Ray. `shut_down`: first end Serve's replicas, which drains them."""
    if shut_down and ray.is_initialized():
        with contextlib.suppress(Exception):  # Ray may be gone already
            serve.shutdown()
    ray.shutdown()


# Settings that may change without a restart of the replicas; left out of their arguments.
OURS: Any = {
    "kafka": True,
    "serving": {
        "replicas", "min_replicas", "max_replicas", "target_load", "scale_up_after_s",
        "scale_down_after_s",
    },
}  # fmt: skip


def _schema(settings: Settings, placement: Placement) -> ServeDeploySchema:
    """Build Serve's configuration. Only `user_config` and the scale may change between deployments:
    any other change restarts the replicas, starting new ones before old ones end."""
    serving = settings.serving
    proxied = serving.ingress == "haproxy"
    arguments = {"settings": settings.model_dump_json(exclude=OURS, context=WITH_SECRETS)}
    variables = serve_environment(settings) | {"OMP_NUM_THREADS": "1"}

    def application(
        name: str,
        build: str,
        cpus: float,
        scale: Record,
        user_config: Record,
        route: str | None,
        gpus: float = 0.0,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Record:
        return {
            "name": name,
            "route_prefix": route,
            "import_path": f"driftloop_serving.replicas.application:{build}",
            "args": arguments,
            "runtime_env": {"env_vars": variables | dict(environment)},
            "deployments": [
                {
                    "name": REPLICA,
                    **scale,
                    "max_ongoing_requests": 256,
                    "max_surge_percent": 100,
                    "health_check_period_s": 2.0,
                    "health_check_timeout_s": 10.0,
                    "graceful_shutdown_wait_loop_s": 0.2,
                    "graceful_shutdown_timeout_s": 20.0,
                    "ray_actor_options": {"num_cpus": cpus} | ({"num_gpus": gpus} if gpus else {}),
                    "user_config": user_config,
                }
            ],
        }

    route = "/" if proxied else None
    shared = application(
        SHARED_APPLICATION,
        "build",
        serving.replica_cpus,
        _scale(serving),
        placement.shared.to_dict(),
        route,
    )
    own = [
        application(
            o.application,
            o.build,
            o.cpus,
            {"num_replicas": o.replicas},
            o.user_config.to_dict(),
            None,
            o.gpus,
            o.environment,
        )
        for o in placement.own
    ]
    return ServeDeploySchema.model_validate(
        {
            "proxy_location": "HeadOnly" if proxied else "Disabled",
            "http_options": _http_options(settings).model_dump(exclude_unset=True),
            "logging_config": {"enable_access_log": False},
            "applications": [shared, *own],
        }
    )


def _scale(serving: ServingSettings) -> Record:
    """Return the settings for a fixed number of replicas, or for autoscaling."""
    least, most = serving.scale
    if least == most:
        return {"num_replicas": least}
    policy = {
        "policy_function": "driftloop_serving.replicas.autoscaling:Policy",
        "policy_kwargs": {"target_load": serving.target_load},
    }
    return {
        "num_replicas": "auto",
        "autoscaling_config": {
            "min_replicas": least,
            "max_replicas": most,
            "policy": policy,
            "upscale_delay_s": serving.scale_up_after_s,
            "downscale_delay_s": serving.scale_down_after_s,
            "metrics_interval_s": 1.0,
            "look_back_period_s": 5.0,
        },
    }


def _http_options(settings: Settings) -> HTTPOptions:
    serving = settings.serving
    return HTTPOptions(host=serving.host, port=serving.port, keep_alive_timeout_s=KEEP_ALIVE_S)


def applications() -> dict[str, Record]:
    """Return Serve's status of its applications, by name."""
    found: dict[str, Record] = _get_global_client().get_serve_details().get("applications", {})
    return found


def replicas(applications: Mapping[str, Record]) -> list[RunningReplica]:
    """Return the replicas of these applications."""
    return [
        RunningReplica(
            name,
            replica["replica_id"],
            replica.get("pid"),
            str(replica["state"]).rpartition(".")[2].lower(),
            replica.get("node_id") or "",
        )
        for name, application in applications.items()
        for replica in application["deployments"].get(REPLICA, {}).get("replicas", [])
    ]


def issues(applications: Mapping[str, Record]) -> dict[str, str]:
    """Return why applications cannot start or are unhealthy, by name: the last line of Serve's
    message."""
    return {
        name: application["deployments"]
        .get(REPLICA, application)["message"]
        .strip()
        .split("\n")[-1]
        for name, application in applications.items()
        if application["status"] in ("DEPLOY_FAILED", "UNHEALTHY")
    }
