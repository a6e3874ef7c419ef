"""A stack behind HAProxy instead of `direct`, the default of the other tests: what clients get, and
what kills leave."""

from collections.abc import Iterator

import pytest
from client_suites import SUITES, ask_as, deploy_asked_models
from fault_stack import FaultStack, fault_stack
from kills import kills_are_survived
from lake_account import Report

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def behind_haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultStack]:
    state_dir = tmp_path_factory.mktemp("haproxy") / "state"
    with fault_stack(state_dir, "serving.ingress=haproxy") as stack:
        yield stack


@pytest.fixture(scope="module")
def asked(behind_haproxy: FaultStack, tmp_path_factory: pytest.TempPathFactory) -> FaultStack:
    """The stack with the models that the clients' suites ask."""
    deploy_asked_models(behind_haproxy.driftloop, tmp_path_factory.mktemp("asked") / "models")
    return behind_haproxy


@pytest.mark.parametrize("suite", SUITES)
def test_a_client_gets_what_the_protocol_promises(asked: FaultStack, suite: str) -> None:
    ask_as(suite, asked.driftloop)


def test_a_few_kills_lose_and_double_nothing(behind_haproxy: FaultStack, report: Report) -> None:
    kills_are_survived(behind_haproxy, "kill -9, the short form", 6, report)
