"""Debian's Prometheus, scraping for a test."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import httpx
import pytest
from ready_server import ready_server

from driftloop_settings.ports import free_port


def program(name: str) -> str:
    """Its path. Skips the test without it; fails it if CI is set."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"install prometheus, which has {name} (.ci/run does)")
        pytest.skip(f"{name} is not installed (Debian: prometheus)")
    return found


class Prometheus:
    def __init__(self, address: str) -> None:
        self._http = httpx.Client(base_url=f"http://{address}/api/v1")

    def values(self, query: str) -> list[float]:
        """What a query returns now, without what is no number."""
        answer = self._http.get("/query", params={"query": query})
        assert answer.is_success, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return [value for each in found if isfinite(value := float(each["value"][1]))]


@contextmanager
def prometheus(folder: Path, job: str, targets: Sequence[str]) -> Iterator[Prometheus]:
    """targets: host:port of each, scraped every second."""
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": job, "static_configs": [{"targets": list(targets)}]}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(json.dumps(configuration))  # JSON is YAML
    address = f"127.0.0.1:{free_port()}"
    command = [
        program("prometheus"), f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}",
    ]  # fmt: skip
    with ready_server(command, address, folder / "prometheus.log"):
        yield Prometheus(address)
