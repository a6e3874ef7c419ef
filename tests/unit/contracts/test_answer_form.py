from typing import Any

import pytest

from driftloop_contracts.answer_form import well_formed

JSON = {"response_format": {"type": "json_object"}}
RESPONSES_JSON = {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}}


@pytest.mark.parametrize(
    ("text", "tool_calls", "finish_reason", "parameters", "wanted"),
    [
        ("Paris", "", "stop", {}, True),
        (" \n", "", "stop", {}, False),
        ("", '[{"id": "1"}]', "tool_calls", {}, True),
        ("", "[{", "tool_calls", {}, False),
        ("Par", "", "abort", {}, None),
        ('{"a": 1}', "", "stop", JSON, True),
        ('{"a": ', "", "length", JSON, False),
        ("Paris", "", "stop", RESPONSES_JSON, False),
        ("Paris", "", "stop", {"response_format": {"type": "text"}}, True),
        ("Paris", "", "stop", {"text": "odd"}, True),
    ],
)
def test_an_answer_has_the_form_that_was_asked_for(
    text: str, tool_calls: str, finish_reason: str, parameters: dict[str, Any], wanted: bool | None
) -> None:
    assert well_formed(text, tool_calls, finish_reason, parameters) is wanted
