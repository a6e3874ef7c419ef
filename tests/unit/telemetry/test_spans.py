"""Trace contexts, sampling, and that nothing is done without the variables that ask for it."""

import subprocess
import sys

import pytest
from kept_spans import CALLER, PARENT, TRACE_ID, Kept

from driftloop_contracts.errors import Rejected
from driftloop_telemetry import Span, TraceContext, Tracing, open_tracing
from driftloop_telemetry.sampling import Sampler, read_sampler
from driftloop_telemetry.span import (
    linked_prediction,
    parse_traceparent,
    prediction_context,
    record_context,
)
from driftloop_telemetry.tracing import ENDPOINTS, is_wanted

CONTEXT = TraceContext(TRACE_ID, CALLER)


@pytest.mark.parametrize(
    ("value", "context"),
    [
        (PARENT, CONTEXT),
        (f" {PARENT} ", CONTEXT),
        (PARENT[:-2] + "00", TraceContext(TRACE_ID, CALLER, sampled=False)),
        (PARENT[:-2] + "03", CONTEXT),
        ("cc" + PARENT[2:] + "-more", CONTEXT),  # of a later version
        (PARENT + "-more", None),
        ("ff" + PARENT[2:], None),
        (f"00-{'0' * 32}-{CALLER}-01", None),
        (f"00-{TRACE_ID}-{'0' * 16}-01", None),
        (PARENT.upper(), None),
        ("", None),
        ("x" * 10_000, None),
    ],
)
def test_a_callers_context_is_read_or_ignored(value: str, context: TraceContext | None) -> None:
    assert parse_traceparent(value.encode()) == context


def test_a_prediction_is_in_its_callers_trace_else_in_its_own() -> None:
    within, alone = prediction_context("p", CONTEXT), prediction_context("p", None)
    assert within.trace_id == TRACE_ID
    assert within.span_id == alone.span_id != CALLER
    assert alone.trace_id != prediction_context("q", None).trace_id
    assert linked_prediction(TRACE_ID, "p") == within
    assert not prediction_context("p", TraceContext(TRACE_ID, CALLER, sampled=False)).sampled


def test_records_of_two_kinds_have_different_spans() -> None:
    found = {record_context(kind, "1") for kind in ("window", "decision", "retrain", "rollout")}
    assert len({context.span_id for context in found}) == 4
    for context in found:
        assert (len(context.trace_id), len(context.span_id)) == (32, 16)


@pytest.mark.parametrize(
    ("name", "argument", "sampler"),
    [
        ("", "", Sampler(1.0, by_parent=True)),
        ("always_off", "", Sampler(0.0, by_parent=False)),
        ("parentbased_traceidratio", "0.25", Sampler(0.25, by_parent=True)),
        ("traceidratio", "", Sampler(1.0, by_parent=False)),
    ],
)
def test_the_usual_variables_choose_the_sampler(name: str, argument: str, sampler: Sampler) -> None:
    environ = {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
    assert read_sampler(environ) == sampler


@pytest.mark.parametrize(
    ("name", "argument", "variable"),
    [
        ("jaeger_remote", "", "OTEL_TRACES_SAMPLER"),
        ("traceidratio", "2", "OTEL_TRACES_SAMPLER_ARG"),
        ("traceidratio", "half", "OTEL_TRACES_SAMPLER_ARG"),
    ],
)
def test_a_wrong_variable_is_named(name: str, argument: str, variable: str) -> None:
    environ = {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
    with pytest.raises(Rejected, match=variable):
        read_sampler(environ)
    assert open_tracing("serving", environ | {ENDPOINTS[0]: "http://127.0.0.1:1"}) is None


def test_a_share_of_the_traces_that_begin_here_is_sent() -> None:
    sampler = Sampler(0.25)
    wanted = [sampler.wants(prediction_context(f"p{n}", None), None) for n in range(4_000)]
    assert 880 < sum(wanted) < 1_120  # four standard deviations
    not_sampled = TraceContext(TRACE_ID, CALLER, sampled=False)
    assert sampler.wants(CONTEXT, CONTEXT)
    assert not sampler.wants(CONTEXT, not_sampled)
    kept = Kept()
    for parent in (CONTEXT, not_sampled):
        span = Span(name="x", context=CONTEXT, started_ns=1, ended_ns=2, parent=parent)
        Tracing(kept, sampler).add(span)
    assert [span.parent for span in kept.spans] == [CONTEXT]


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({ENDPOINTS[1]: "http://collector:4318"}, True),
        ({ENDPOINTS[0]: "http://collector:4318/v1/traces"}, True),
        ({ENDPOINTS[1]: " "}, False),
        ({ENDPOINTS[1]: "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({ENDPOINTS[1]: "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_traces_are_sent_only_if_an_address_is_set(environ: dict[str, str], wanted: bool) -> None:
    assert is_wanted(environ) is wanted


def test_opentelemetry_is_not_imported_unless_it_is_on() -> None:
    code = """
import sys
from driftloop_serving.batching import batcher
from driftloop_serving.inference import call_traces
from driftloop_telemetry import open_tracing
assert open_tracing("serving", {}) is None
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
