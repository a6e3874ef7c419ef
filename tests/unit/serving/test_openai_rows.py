"""Tool calls, assembled from vLLM's answers."""

import orjson

from driftloop_serving.openai.openai_rows import StreamedToolCalls, tool_calls_of


def event(index: int, **call: object) -> bytes:
    choice = {"index": index, "delta": {"tool_calls": [{"index": 0, **call}]}}
    return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"


def test_the_parts_of_a_streamed_call_come_together() -> None:
    calls = StreamedToolCalls()
    calls.read(event(0, id="c1", function={"name": "weather", "arguments": ""}))
    calls.read(
        event(0, function={"arguments": '{"city":'}) + event(0, function={"arguments": '"Oslo"}'})
    )
    calls.read(b"data: [DONE]\n\n")
    function = {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert calls.found == {0: [{"id": "c1", "type": "function", "function": function}]}


def test_a_stream_of_responses_tells_its_calls_at_the_end() -> None:
    calls = StreamedToolCalls()
    item = {"type": "function_call", "name": "f", "arguments": "{}"}
    for kind, output in (("response.created", []), ("response.completed", [item])):
        document = orjson.dumps({"type": kind, "response": {"output": output}})
        calls.read(b"event: " + kind.encode() + b"\ndata: " + document + b"\n\n")
    assert calls.found == {0: [item]}


def test_calls_of_a_whole_answer_are_found_in_either_api() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    chat = {
        "choices": [{"index": 0, "message": {"tool_calls": [call]}}, {"index": 1, "message": {}}]
    }
    assert tool_calls_of(chat) == {0: [call]}
    item = {"type": "function_call", "name": "f", "arguments": "{}"}
    assert tool_calls_of({"output": [{"type": "message"}, item]}) == {0: [item]}
    assert tool_calls_of({"output": []}) == {}
