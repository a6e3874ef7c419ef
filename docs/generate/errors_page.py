"""docs/reference/errors.md, from the error classes and the statuses that they become."""

import inspect

from layout import page, table

from driftloop_contracts import errors
from driftloop_http.http_errors import status_of
from driftloop_serving.grpc.grpc_server import CODES

INTRODUCTION = """\
Every error is `{"error": "a sentence that names the input"}`; gRPC has the same sentence as its
details. Classes are named after what the caller should do, and a class inherits the advice of its
base. The sentence never shows internals, so it may be shown to a client."""


def render() -> str:
    classes = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.DriftloopError) and kind is not errors.DriftloopError
    ]
    classes.sort(key=lambda kind: inspect.getsourcelines(kind)[1])
    rows = []
    for kind in classes:
        status = status_of(kind.__new__(kind))
        rows.append(
            (f"`{kind.__name__}`", str(status), CODES[status].name, inspect.getdoc(kind) or "")
        )
    return page("Errors", INTRODUCTION, table(("class", "HTTP", "gRPC", "meaning"), rows))
