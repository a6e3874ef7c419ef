"""How a call for an unseen answer is turned into one that vLLM understands."""

import json
from typing import Any

import pytest

from driftloop_contracts.errors import Rejected
from driftloop_contracts.shadow_call import ShadowCall

HI = [{"role": "user", "content": "hi"}]


def body(operation: str, limit: int = 100, **asked: Any) -> dict[str, Any]:
    call = ShadowCall("chat", 2, operation, json.dumps(HI), json.dumps(asked), limit)
    assert ShadowCall.read(call.headers(), call.body()) == call
    return call.request("chat@sha")


def test_what_was_asked_is_asked_again_with_a_bound() -> None:
    assert body("chat.completions", temperature=0, max_completion_tokens=9, n=3) == {
        "model": "chat@sha",
        "messages": HI,
        "temperature": 0,
        "max_tokens": 9,
    }
    assert body("completions", echo=True) == {
        "model": "chat@sha",
        "prompt": "hi",
        "max_tokens": 16,
    }
    assert body("responses", max_output_tokens=1_000, instructions="Be kind.", background=True) == {
        "model": "chat@sha",
        "input": HI,
        "max_output_tokens": 100,
        "store": False,
    }


def test_a_least_length_fits_under_the_bound() -> None:
    assert body("chat.completions", 10, min_tokens=50)["min_tokens"] == 10


@pytest.mark.parametrize("content", [b"", b"[]", b'{"operation": "chat.completions"}', b"\xff"])
def test_other_bodies_are_refused(content: bytes) -> None:
    headers = ShadowCall("chat", 2, "completions", "[]", "{}", 1).headers()
    with pytest.raises(Rejected, match="only driftloop's rollout"):
        ShadowCall.read(headers, content)
