"""The demo as its users run it, once left alone and once with every role killed in its middle."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from command_line import eventually
from postgres_server import find_programs
from receiver import receiving
from trace_collector import LOOP, followed, spans_of

from driftloop_settings.run_state import read_run_state

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1000)]

ROLES = (
    "shipper", "archiver", "kafka", "replica", "serving", "ray", "gateway", "monitor", "retrain",
    "rollout", "alerts",
)  # fmt: skip


def start_demo(home: Path, *words: str, **environ: str) -> "subprocess.Popen[str]":
    argv = [sys.executable, "-m", "driftloop_cli", "demo", "--state-dir", str(home)]
    argv += ["--json", str(home.parent / "summary.json"), *words]
    return subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environ},
    )


def finish(demo: "subprocess.Popen[str]", home: Path, timeout: float = 900) -> dict[str, Any]:
    try:
        said, _ = demo.communicate(timeout=timeout)
    finally:
        demo.terminate()
        demo.wait(60)
    assert demo.returncode == 0, said
    summary: dict[str, Any] = json.loads((home.parent / "summary.json").read_text())
    return summary


def assert_nothing_was_lost(summary: dict[str, Any]) -> None:
    counts = summary["counts"]
    assert counts["served"] == counts["lake_rows"] + counts["retries"]
    assert counts["lake_rows"] >= summary["answered"] > 0
    assert counts["dropped"] == counts["spooled"] == counts["duplicates"] == 0
    assert counts["acked"] == counts["served"]


def assert_the_loop_closed(summary: dict[str, Any]) -> None:
    assert summary["accuracy"]["drifted"] <= 0.92
    assert summary["accuracy"]["recovered"] >= 0.93
    assert summary["versions"]["champion"] > summary["versions"]["first"] == 1
    assert summary["alerts"]
    assert all(alert["live_row"] >= 25_000 for alert in summary["alerts"])
    assert summary["rollout"]["state"] == "promoted"
    assert_nothing_was_lost(summary)


@pytest.mark.faults
def test_a_harmful_candidate_ends_in_the_shadow_and_no_user_meets_it(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    summary = finish(start_demo(home, "--scenario", "bad-candidate"), home)
    assert summary["versions"] == {"first": 1, "champion": 1}
    assert summary["rollout"]["state"] == "rolled_back"
    assert summary["rollout"]["steps"] == []  # it never had a share of the traffic
    assert summary["rollout"]["answered_unseen"] > 0
    assert_nothing_was_lost(summary)


@pytest.mark.faults
def test_a_recall_that_collapses_is_seen_and_repaired_though_accuracy_hardly_moves(
    tmp_path: Path,
) -> None:
    """Where a proxy is set that reaches nothing, as on machines of a company."""
    home = tmp_path / "demo"
    dead_proxy = {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    summary = finish(start_demo(home, "--scenario", "rare", **dead_proxy), home)
    accuracy, recall = summary["accuracy"], summary["recall"]
    assert recall["before_drift"] > 0.8
    assert recall["drifted"] < 0.3
    assert recall["recovered"] > 0.4
    assert abs(accuracy["before_drift"] - accuracy["drifted"]) < 0.01
    assert summary["versions"]["champion"] > summary["versions"]["first"] == 1
    assert summary["alerts"]
    assert "quality" in summary["rollout"]["proven_unseen"]  # by pairs, before any user met it
    assert summary["rollout"]["state"] == "promoted"
    assert_nothing_was_lost(summary)


def test_a_demo_says_first_where_its_console_is_and_stops_its_stack_when_terminated(
    tmp_path: Path,
) -> None:
    home = tmp_path / "demo"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a script's `driftloop demo &` has it
    try:
        demo = start_demo(home)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        assert demo.stdout is not None
        first = demo.stdout.readline()
        stack = eventually(lambda: read_run_state(home), lambda found: found is not None)
        address = f"{stack.endpoints['control']}/"
        eventually(lambda: _answered(address), lambda found: found)
    finally:
        demo.terminate()
    said, _ = demo.communicate(timeout=120)
    assert first.startswith(f"watch it in the console: {address} ")
    assert not stack.supervisor.alive(), said
    assert demo.returncode != 0


def _answered(address: str) -> bool:
    try:
        return httpx.get(address, timeout=5.0).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def on_postgresql(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Words that put a stack's store on PostgreSQL; none on a machine that has no PostgreSQL, so
    that the test is run there, too."""
    if find_programs() is None and not os.environ.get("CI"):
        return ()
    return ("--set", f"store.url={request.getfixturevalue('postgres_url')}")


def test_the_loop_closes_though_every_role_is_killed(
    tmp_path: Path, on_postgresql: tuple[str, ...]
) -> None:
    """Each role is killed once, one after another: the story stays the same. On PostgreSQL, which
    all other stacks of the tests are not. Its traces lead from the promotion to predictions."""
    home = tmp_path / "demo"
    with receiving() as collector:
        demo = start_demo(home, *on_postgresql, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        killer = Killer(home)
        killer.start()
        try:
            summary = finish(demo, home)
        finally:
            killer.stop.set()
            killer.join()
    assert killer.killed == list(ROLES)
    assert_the_loop_closed(summary)
    assert followed(spans_of(collector)) == list(LOOP)


class Killer(threading.Thread):
    """Kills one role after another, each when the one before is back."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.home, self.stop = home, threading.Event()
        self.killed: list[str] = []

    def run(self) -> None:
        for role in ROLES:
            while not self.stop.is_set():
                pid = self._pid(role)
                if pid is not None and self._serving():
                    os.kill(pid, signal.SIGKILL)
                    self.killed.append(role)
                    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], 5)
                    self.stop.wait(2.0)
                    break
                self.stop.wait(0.3)

    def _serving(self) -> bool:
        """Whether the model answers, so that each death is met by a whole stack."""
        status = self._status()
        if not status or not status["models"] or not status["models"][0]["counts"]["lake_rows"]:
            return False
        try:
            url = status["endpoints"]["inference"] + "/v2/models/car_loan/ready"
            return httpx.get(url, timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    def _pid(self, role: str) -> int | None:
        for entry in (self._status() or {}).get("roles", []):
            if entry["name"].startswith(role) and entry["state"] == "running" and entry["pid"]:
                return int(entry["pid"])
        return None

    def _status(self) -> dict[str, Any] | None:
        try:
            running = json.loads((self.home / "run" / "supervisor.json").read_text())
            answer = httpx.get(running["endpoints"]["control"] + "/api/status", timeout=5.0)
            found: dict[str, Any] = answer.raise_for_status().json()
            return found
        except (OSError, ValueError, httpx.HTTPError):
            return None
