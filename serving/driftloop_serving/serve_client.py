"""Ray Serve, as the role `serving` uses it. Importing this imports Ray: set its environment first."""

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import ray
from ray import serve
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from driftloop_serving.ray_head import address
from driftloop_serving.replica import NAME
from driftloop_settings import Settings

APPLICATION = "driftloop"

Record = dict[str, Any]


def connect(settings: Settings) -> bool:
    """Connect to Ray and start Serve's controller; False while Ray is not there yet."""
    host, _, port = address(settings).rpartition(":")
    try:
        # Ray itself waits half a minute for a head that does not listen yet.
        socket.create_connection((host, int(port)), timeout=2.0).close()
        with _own_signals():
            ray.init(
                address(settings), namespace="driftloop", log_to_driver=False,
                logging_level=logging.ERROR,
            )  # fmt: skip
    except (ConnectionError, RuntimeError, OSError):
        return False
    proxied = settings.serving.ingress == "haproxy"
    serve.start(
        proxy_location=ProxyLocation.HeadOnly if proxied else ProxyLocation.Disabled,
        http_options=HTTPOptions(host=settings.serving.host, port=settings.serving.port),
    )
    return True


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """`ray.init` puts a SIGTERM handler of its own over the role's, which would end the role at once:
    Serve would not be shut down, nor answers under way be sent."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def apply(settings: Settings, user_config: Record) -> None:
    """Bring a user configuration to the replicas, without restarting those that run."""
    _get_global_client().deploy_apps(_schema(settings, user_config))


def disconnect(*, shut_down: bool) -> None:
    """Leave Ray; `shut_down` ends Serve's replicas first, which drains them."""
    if shut_down and ray.is_initialized():
        with contextlib.suppress(Exception):  # Ray may be gone already
            serve.shutdown()
    ray.shutdown()


def _schema(settings: Settings, user_config: Record) -> ServeDeploySchema:
    """Only `user_config` changes from one deploy to the next: anything else restarts replicas."""
    serving = settings.serving
    proxied = serving.ingress == "haproxy"
    return ServeDeploySchema.model_validate(
        {
            "proxy_location": "HeadOnly" if proxied else "Disabled",
            "http_options": {"host": serving.host, "port": serving.port},
            "applications": [
                {
                    "name": APPLICATION,
                    "route_prefix": "/" if proxied else None,
                    "import_path": "driftloop_serving.replica:build",
                    "args": {"settings": settings.model_dump_json(exclude={"kafka"})},
                    "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}},
                    "deployments": [
                        {
                            "name": NAME,
                            "num_replicas": serving.replicas,
                            "max_ongoing_requests": 256,
                            "health_check_period_s": 2.0,
                            "health_check_timeout_s": 10.0,
                            "graceful_shutdown_timeout_s": 12.0,
                            "ray_actor_options": {"num_cpus": serving.replica_cpus},
                            "user_config": user_config,
                        }
                    ],
                }
            ],
        }
    )


def replicas() -> list[Record]:
    """What Serve says of its replicas: `replica_id`, `pid`, `state`, …"""
    details = _get_global_client().get_serve_details()
    application = details.get("applications", {}).get(APPLICATION, {})
    deployment = application.get("deployments", {}).get(NAME, {})
    found: list[Record] = deployment.get("replicas", [])
    return found
