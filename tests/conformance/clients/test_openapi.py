"""schemathesis: what the API says of itself is what it does."""

import os

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

schema = schemathesis.openapi.from_url(f"{os.environ['DRIFTLOOP_HTTP']}/openapi.json")
CHECKS = [
    not_a_server_error, status_code_conformance,
    content_type_conformance, response_schema_conformance,
]  # fmt: skip


@schema.parametrize()
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_an_answer_is_as_described(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS, timeout=30)
