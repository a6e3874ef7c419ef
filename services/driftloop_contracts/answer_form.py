"""Checks whether a language model's answer has the requested format. Pure."""

import json
from collections.abc import Mapping
from typing import Any

JSON_FORMATS = ("json_object", "json_schema")


def well_formed(
    text: str, tool_calls: str, finish_reason: str, parameters: Mapping[str, Any]
) -> bool | None:
    """Whether the answer is not empty, and is JSON if the request asked for JSON; None if the
    client disconnected before its end. Texts as in `driftloop_contracts.language.SIGNATURE`."""
    if finish_reason == "abort":
        return None
    if tool_calls:
        return _is_json(tool_calls)
    if not text.strip():
        return False
    return _is_json(text) if _asks_for_json(parameters) else True


def _asks_for_json(parameters: Mapping[str, Any]) -> bool:
    wanted = parameters.get("response_format")  # of chat and completions
    if not isinstance(wanted, Mapping) and isinstance(parameters.get("text"), Mapping):
        wanted = parameters["text"].get("format")  # of responses
    return isinstance(wanted, Mapping) and wanted.get("type") in JSON_FORMATS


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
