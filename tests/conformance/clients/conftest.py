"""These suites know a server by its addresses only, and no code of ours."""

import os

import pytest


@pytest.fixture(scope="session")
def http() -> str:
    """http://host:port"""
    return os.environ["DRIFTLOOP_HTTP"]


@pytest.fixture(scope="session")
def grpc() -> str:
    """host:port"""
    return os.environ["DRIFTLOOP_GRPC"]
