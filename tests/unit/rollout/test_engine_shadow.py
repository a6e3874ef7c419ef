"""What is asked of an engine's private port for answers in the shadow, and what comes of it."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from test_language_shadow import GOOD, conversations, polite

from driftloop_contracts.shadow_call import PATH, ShadowCall
from driftloop_rollout.answer_losses import AnswerLosses
from driftloop_rollout.engine_shadow import EngineLimits, EngineShadow, Whereabouts
from driftloop_rollout.output_quality import Scorer
from driftloop_rollout.shadow_process import Answered, ShadowDied, ShadowRefused

ANSWER = {
    "text": "no",
    "tool_calls": "",
    "finish_reason": "stop",
    "prompt_tokens": 3,
    "completion_tokens": 1,
    "first_token_s": 0.1,
    "token_s": None,
}
Reply = Callable[[int], tuple[int, Any]]


class Port:
    """An engine's private port; `reply`: status and document of the n-th call, None: it hangs
    up."""

    def __init__(self, reply: Reply) -> None:
        self.calls: list[ShadowCall] = []
        port = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == PATH
                port.calls.append(
                    ShadowCall.read({k.lower(): v for k, v in self.headers.items()}, body)
                )
                status, document = reply(len(port.calls))
                if document is None:
                    return
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(document).encode())

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Reply], Port]]:
    ports: list[Port] = []

    def made(reply: Reply) -> Port:
        ports.append(Port(reply))
        return ports[-1]

    yield made
    for port in ports:
        port.close()


def rows(count: int) -> pa.Table:
    return pa.table(conversations(0, np.arange(count), [GOOD] * count))


def shadow(*addresses: str, losses: AnswerLosses | None = None, **limits: Any) -> EngineShadow:
    made = EngineLimits(**{"max_tokens": 9, "patience_s": 0.0, "again_s": 0.0, **limits})
    return EngineShadow("chat", 2, lambda: Whereabouts(addresses), losses or AnswerLosses(), made)


def answered(graph: EngineShadow, asked: pa.Table) -> Answered:
    assert graph.idle
    graph.ask(asked)
    assert not graph.idle
    assert graph._order is not None
    assert graph._order.done.wait(120)
    found = graph.answered()
    assert found is not None
    assert graph.answered() is None
    return found


def test_each_conversation_is_asked_again_and_compared(serve: Callable[[Reply], Port]) -> None:
    port = serve(lambda _: (200, ANSWER))
    graph = shadow(port.address, losses=AnswerLosses(Scorer(polite)), busy_above=1)
    found = answered(graph, rows(3))
    assert found.answers["out_text"].to_pylist() == ["no"] * 3
    assert np.isnan(found.answers["out_token_s"].to_numpy()).all()
    assert found.kept is not None
    assert found.kept.all()
    candidate, champion = found.losses["format"]
    assert (candidate.tolist(), champion.tolist()) == ([1.0] * 3, [0.0] * 3)
    call = port.calls[0]
    assert (call.model, call.version, call.max_tokens, call.busy_above) == ("chat", 2, 9, 1)
    assert call.operation == "chat.completions"


def test_an_engine_that_is_busy_has_a_conversation_dropped(serve: Callable[[Reply], Port]) -> None:
    port = serve(lambda n: (503, {}) if n == 2 else (200, ANSWER))
    found = answered(shadow(port.address), rows(3))
    assert found.kept is not None
    assert found.kept.tolist() == [True, False, True]
    assert found.answers.num_rows == 2


def test_another_engine_is_asked_if_one_is_busy_or_gone(serve: Callable[[Reply], Port]) -> None:
    gone = serve(lambda _: (200, ANSWER))
    gone.close()
    busy, free = serve(lambda _: (503, {})), serve(lambda _: (200, ANSWER))
    found = answered(shadow(gone.address, busy.address, free.address), rows(2))
    assert found.kept is not None
    assert found.kept.all()
    assert (len(busy.calls), len(free.calls)) == (2, 2)


def test_a_candidate_that_fails_is_an_error_and_not_a_loss(serve: Callable[[Reply], Port]) -> None:
    port = serve(lambda n: (200, {"failed": "status 500"} if n == 1 else ANSWER))
    found = answered(shadow(port.address), rows(2))
    assert found.answers["failed"].to_pylist() == [True, False]
    assert found.answers["out_text"].to_pylist() == [None, "no"]
    assert np.isnan(found.losses["format"][0]).tolist() == [True, False]


def test_an_engine_that_ends_under_an_answer_is_a_death(serve: Callable[[Reply], Port]) -> None:
    port = serve(lambda _: (200, None))
    with pytest.raises(ShadowDied, match="its engine ended while the candidate answered"):
        answered(shadow(port.address), rows(1))


def test_an_unknown_form_of_answers_refuses_the_shadow(serve: Callable[[Reply], Port]) -> None:
    port = serve(lambda _: (200, {"text": 3}))
    with pytest.raises(ShadowRefused, match="cannot be compared"):
        answered(shadow(port.address), rows(1))


def test_an_order_ends_in_time_and_the_rest_is_dropped(serve: Callable[[Reply], Port]) -> None:
    port = serve(lambda _: (200, ANSWER))
    found = answered(shadow(port.address, order_s=-1.0), rows(4))
    assert found.kept is not None
    assert not found.kept.any()
    assert port.calls == []


def test_it_waits_for_an_engine_and_says_why_none_holds_the_candidate() -> None:
    assert not shadow().idle
    refused = EngineShadow("chat", 2, lambda: Whereabouts(refused="no room for it"), AnswerLosses())
    with pytest.raises(ShadowRefused, match="no room for it"):
        _ = refused.idle


def test_after_its_end_it_asks_nothing_more(serve: Callable[[Reply], Port]) -> None:
    graph: EngineShadow

    def reply(_: int) -> tuple[int, Any]:
        graph.close()
        return 200, ANSWER

    port = serve(reply)
    graph = shadow(port.address)
    found = answered(graph, rows(3))
    assert found.kept is not None
    assert found.kept.tolist() == [True, False, False]
