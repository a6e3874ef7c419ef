"""Errors in OpenAI's format: `{"error": {"message", "type", "param", "code"}}`."""

from fastapi.responses import JSONResponse

from driftloop_contracts.errors import DriftloopError, NotFound
from driftloop_http.http_errors import headers_of, status_of

TYPES = {400: "invalid_request_error", 404: "invalid_request_error", 413: "invalid_request_error",
         415: "invalid_request_error",
         409: "conflict_error", 429: "rate_limit_error", 503: "overloaded_error"}  # fmt: skip


def error_document(error: DriftloopError) -> dict[str, object]:
    status = status_of(error)
    code = "model_not_found" if isinstance(error, NotFound) else status
    kind = TYPES.get(status, "server_error")
    return {"error": {"message": str(error), "type": kind, "param": None, "code": code}}


def error_response(error: DriftloopError) -> JSONResponse:
    return JSONResponse(error_document(error), status_of(error), headers_of(error))
