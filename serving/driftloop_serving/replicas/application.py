"""The applications that Serve's declarative deploy imports by name, and their names.

Serve starts a process only to import this, before the first replica may start: so it names the
classes instead of importing them, which would take longer than all the rest.
"""

from typing import Any

from ray import serve
from ray.serve import Application

SHARED_APPLICATION = "driftloop"
REPLICA = "replica"
"""The deployment of every application."""


def own_application(model: str) -> str:
    """Of a model that has replicas of its own."""
    return f"model-{model}"


def engine_application(model: str, base: int) -> str:
    """Of a language model's version with weights of its own, and the adapters that go with it."""
    return f"engine-{model}-{base}"


def build(arguments: dict[str, Any]) -> Application:
    """The replicas that take requests. `arguments["settings"]`: the stack's settings as JSON."""
    return _bound("driftloop_serving.replicas.replica.Replica", arguments["settings"])


def build_own(arguments: dict[str, Any]) -> Application:
    """The replicas of one model, which answer for the others. Arguments as for `build`."""
    return _bound("driftloop_serving.replicas.own_replica.OwnReplica", arguments["settings"])


def build_engine(arguments: dict[str, Any]) -> Application:
    """The replicas of a language model's engine. Arguments as for `build`."""
    return _bound("driftloop_serving.replicas.engine_replica.EngineReplica", arguments["settings"])


def _bound(cls: str, *arguments: Any) -> Application:
    decorated: Any = serve.deployment(name=REPLICA)
    application: Application = decorated(cls).bind(*arguments)
    return application
