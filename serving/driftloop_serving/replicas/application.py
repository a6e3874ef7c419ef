"""The applications that Serve's declarative deployment imports by name, and their names.

Serve starts a process just to import this module before the first replica can start. The module
therefore names the classes instead of importing them, which would take most of that time.
"""

from typing import Any

from ray import serve
from ray.serve import Application

SHARED_APPLICATION = "driftloop"
REPLICA = "replica"
"""The name of the deployment in every application."""


def own_application(model: str) -> str:
    """Return the application of a model with dedicated replicas."""
    return f"model-{model}"


def engine_application(model: str, base: int) -> str:
    """Return the application of a language model's version with full weights, and of its
    adapters."""
    return f"engine-{model}-{base}"


def build(arguments: dict[str, Any]) -> Application:
    """Build the replicas that receive requests. `arguments["settings"]`: the stack's settings as
    JSON."""
    return _bound("driftloop_serving.replicas.replica.Replica", arguments["settings"])


def build_own(arguments: dict[str, Any]) -> Application:
    """Build the dedicated replicas of one model, which the other replicas forward to. Arguments as
    for `build`."""
    return _bound("driftloop_serving.replicas.own_replica.OwnReplica", arguments["settings"])


def build_engine(arguments: dict[str, Any]) -> Application:
    """Build the replicas of a language model's engine. Arguments as for `build`."""
    return _bound("driftloop_serving.replicas.engine_replica.EngineReplica", arguments["settings"])


def _bound(cls: str, *arguments: Any) -> Application:
    decorated: Any = serve.deployment(name=REPLICA)
    application: Application = decorated(cls).bind(*arguments)
    return application
