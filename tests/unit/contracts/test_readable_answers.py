"""Which answers of a language model a judge and a scorer can read: one rule for both."""

from typing import Any

import pytest

from driftloop_contracts.capture import check_capture
from driftloop_contracts.errors import Rejected
from driftloop_contracts.language import SIGNATURE, readable
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.objective import Objective
from driftloop_judge.judge import judged_answer

HI = [{"role": "user", "content": "hi"}]
ROW = {
    "in_messages": '[{"role": "user", "content": "hi"}]', "in_operation": "chat.completions",
    "out_text": "hello", "out_tool_calls": "", "out_finish_reason": "stop",
}  # fmt: skip


@pytest.mark.parametrize("text", ["hello", "", "\n"])
def test_an_answer_is_read_however_bad_it_is(text: str) -> None:
    row = {**ROW, "out_text": text}
    assert readable(row) == (HI, text)
    answer = judged_answer(row)
    assert answer is not None
    assert (list(answer.messages), answer.text) == (HI, text)


@pytest.mark.parametrize(
    "changed",
    [
        {"out_text": None}, {"out_tool_calls": "[]"}, {"in_operation": "embeddings"},
        {"out_finish_reason": "abort"}, {"out_finish_reason": "error"}, {"in_messages": None},
        {"in_messages": "[]"}, {"in_messages": "{"}, {"in_messages": '["hi"]'},
    ],
)  # fmt: skip
def test_what_answers_no_known_conversation_with_a_text_is_not(changed: dict[str, Any]) -> None:
    assert readable({**ROW, **changed}) is None
    assert judged_answer({**ROW, **changed}) is None


def test_columns_that_are_not_kept_are_as_if_they_were_empty() -> None:
    assert readable({"in_messages": ROW["in_messages"], "out_text": "hello"}) == (HI, "hello")
    assert readable({"out_text": "hello"}) is None


@pytest.mark.parametrize("rule", [{"drop": ["messages"]}, {"truncate": {"tool_calls": 5}}])
def test_what_the_scorer_reads_must_be_captured(rule: dict[str, Any]) -> None:
    spec = ModelSpec(
        "chat", "generation", "text", runtime="vllm", objective=Objective(metric="scorer"),
        options={"capture": rule, "scorer": "json:loads"},
    )  # fmt: skip
    with pytest.raises(Rejected, match="the metric `scorer` reads"):
        check_capture(spec, SIGNATURE, has_key=False)
