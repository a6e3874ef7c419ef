"""The stack that most fault tests harm, one after another, and the report: what was done to it, and
what was missing afterwards."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_stack import FaultStack, fault_stack
from lake_account import Report

REPORT = pytest.StashKey[Report]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills",
        type=int,
        default=100,
        help="how often tests/faults kills -9 in one running stack",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORT] = Report(Path(config.rootpath) / "build" / "faults.md")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultStack]:
    """Two replicas, so that most requests are answered whatever happens to one of them, and
    segments so small that they are used again and again."""
    limits = "serving.replicas=2", "capture.segment_bytes=65536"
    with fault_stack(tmp_path_factory.mktemp("faults"), *limits) as stack:
        yield stack


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    """What tests add their outcome to."""
    return pytestconfig.stash[REPORT]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    report = config.stash[REPORT]
    if report.outcomes:
        terminalreporter.section("faults")
        terminalreporter.write_line(report.table())
        terminalreporter.write_line(f"(also in {report.path})")
