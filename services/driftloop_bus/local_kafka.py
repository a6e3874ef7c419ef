"""Runs the single-node Apache Kafka of this machine: builds its command line, starts and stops it.

All its files are in `kafka` under the state directory. A stack has one broker: the first role to
start it ends the one left by a killed supervisor. Only processes that run with this state
directory's `server.properties` are ever signalled.
"""

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
import structlog

from driftloop_bus import bootstrap_servers
from driftloop_bus.broker_properties import (
    BrokerFolder,
    java_options,
    log_tail,
    server_properties,
)
from driftloop_bus.class_archive import archive_options
from driftloop_bus.java import find_java
from driftloop_bus.kafka_distribution import cache_folder, class_path
from driftloop_bus.zstd_library import zstd_options
from driftloop_contracts.errors import RetryLater, Unavailable
from driftloop_settings import Settings
from driftloop_settings.ports import free_port
from driftloop_settings.private_files import private_folder

__all__ = ["command", "find_java", "start", "status", "stop"]

log = structlog.get_logger()

READY_S = 60.0
STOP_S = 15.0


def command(settings: Settings) -> list[str]:
    """Return the command line of the broker, after preparing everything: finding Java, fetching
    jars, writing properties, formatting the storage. Safe to repeat after a kill at any point. The
    caller is expected to exec the command, since its own process id is recorded. Raises
    Unavailable."""
    folder = _folder(settings)
    private_folder(settings.state_dir)
    folder.root.mkdir(parents=True, exist_ok=True)
    java, jars = find_java(), class_path()
    _end(folder)
    shutil.rmtree(folder.scratch, ignore_errors=True)
    folder.scratch.mkdir()
    port = settings.kafka.port or _remembered_port(folder) or free_port()
    _write(folder.properties, server_properties(folder.data, port, free_port()))
    options = [*java_options(folder, settings.kafka.heap_mb), "-cp", jars]
    if not folder.formatted.exists():
        _format(folder, [str(java), *options])
    _remember(folder, os.getpid(), port)
    cached = [*archive_options(java, jars, cache_folder()), *zstd_options(jars, cache_folder())]
    return [str(java), *cached, *options, "kafka.Kafka", str(folder.properties)]


def start(settings: Settings) -> dict[str, Any]:
    """Start a broker that outlives this process, unless one runs. Returns its `status` once it
    answers. Raises Unavailable if it cannot be provided or does not start."""
    if settings.kafka.bootstrap_servers:
        raise Unavailable(
            f"kafka.bootstrap_servers names another cluster, {settings.kafka.bootstrap_servers}"
        )
    folder = _folder(settings)
    process = _process(folder)
    if process is None:
        argv = command(settings)
        with (folder.root / "console.log").open("wb") as console:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        port = _remembered_port(folder)
        assert port is not None, "command notes the port"
        _remember(folder, child.pid, port)
        process = psutil.Process(child.pid)
        log.info("kafka.started", pid=child.pid, port=port)
    deadline = time.monotonic() + READY_S
    while True:
        document = status(settings)
        if document["answers"]:
            return document
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            raise Unavailable(f"Apache Kafka ended at once; {folder.log} ends:\n{log_tail(folder)}")
        if time.monotonic() > deadline:
            raise Unavailable(
                f"Apache Kafka does not answer after {READY_S:.0f} s; see {folder.log}"
            )
        time.sleep(0.1)


def stop(settings: Settings) -> dict[str, Any]:
    """Stop the broker of this state directory if it runs, and return its `status`."""
    _end(_folder(settings))
    return status(settings)


def status(settings: Settings) -> dict[str, Any]:
    """Return `running` (whether our broker's process lives), `answers`, `pid`, `port`,
    `bootstrap_servers`, `version`, `topics` and `log`. For a cluster of the user's own, only what
    the cluster reports."""
    own = settings.kafka.bootstrap_servers is None
    folder = _folder(settings)
    process = _process(folder) if own else None
    port = None
    if own:
        noted = _remembered_port(folder)
        port = noted if process else settings.kafka.port or noted
    document: dict[str, Any] = {
        "running": process is not None,
        "answers": False,
        "pid": process.pid if process else None,
        "port": port,
        "bootstrap_servers": bootstrap_servers(with_port(settings, port or 0)),
        "version": None,
        "topics": [],
        "log": str(folder.log) if own else None,
    }
    if process is not None and port:
        if not _listens(port):
            return document
    elif own:
        return document
    from driftloop_bus.kafka_bus import KafkaBus

    with contextlib.suppress(RetryLater):
        bus = KafkaBus(document["bootstrap_servers"], settings.kafka)
        document |= {"topics": bus.topics(), "version": bus.version(), "answers": True}
    return document


def with_port(settings: Settings, port: int) -> Settings:
    """Return the settings with the broker's port; `start` uses it if the configured port is 0."""
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"port": port})})


def _folder(settings: Settings) -> BrokerFolder:
    return BrokerFolder(settings.state_dir.absolute() / "kafka")


def _format(folder: BrokerFolder, argv: list[str]) -> None:
    # Without the marker, formatting was interrupted: no broker ever ran on this data.
    shutil.rmtree(folder.data, ignore_errors=True)
    # The id may begin with "-", which a separate command-line argument must not.
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    done = subprocess.run(
        [
            *argv,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster}",
            "-c",
            str(folder.properties),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Unavailable(f"Apache Kafka's storage cannot be formatted: {done.stdout}{done.stderr}")
    _write(folder.formatted, cluster)


def _end(folder: BrokerFolder) -> None:
    process = _process(folder)
    if process is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
        try:
            process.wait(STOP_S)
        except psutil.TimeoutExpired:
            log.warning("kafka.killed", pid=process.pid)
            process.kill()
            process.wait(STOP_S)
        log.info("kafka.stopped", pid=process.pid)


def _process(folder: BrokerFolder) -> psutil.Process | None:
    """Return the broker's process on this folder. Identified by its command line, since the process
    id may have been reused."""
    noted = _noted(folder).get("pid")
    if noted is None:
        return None
    try:
        process = psutil.Process(noted)
        line = process.cmdline()
        alive = process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    ours = "kafka.Kafka" in line and str(folder.properties) in line
    return process if alive and ours else None


def _noted(folder: BrokerFolder) -> dict[str, int]:
    try:
        return dict(json.loads(folder.process.read_text()))
    except (OSError, ValueError):
        return {}


def _remember(folder: BrokerFolder, pid: int, port: int) -> None:
    _write(folder.process, json.dumps({"pid": pid, "port": port}))


def _remembered_port(folder: BrokerFolder) -> int | None:
    return _noted(folder).get("port")


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(text)
    partial.replace(path)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
