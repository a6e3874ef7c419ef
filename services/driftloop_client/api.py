"""What can be asked of a stack, as exchanges: the client and its asynchronous twin send them."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from driftloop_client.columns import columns_of
from driftloop_client.exchange import Call, Exchange, checked
from driftloop_client.prediction import Prediction, joined
from driftloop_client.tensors import HEADER, Arrays, arrays_of, decoded, encoded
from driftloop_contracts.errors import Rejected
from driftloop_contracts.ids import new_prediction_id
from driftloop_contracts.model_archive import pack

CONTROL_PORT = 8001
UPLOAD_TIMEOUT_S = 1800.0
LINES_PER_CALL = 20_000


class Api:
    """`url`: of the serving port. `control`: of the control API; None: port 8001 of the same host.
    `rows_per_request`: a longer frame is sent in parts."""

    def __init__(self, url: str, control: str | None, rows_per_request: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Rejected(f"{url!r} is not an address of a stack, such as http://localhost:8000")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._url = url.rstrip("/")
        self._control = (control or f"{parts.scheme}://{host}:{CONTROL_PORT}").rstrip("/")
        self._rows = rows_per_request
        self._inputs: dict[str, list[dict[str, Any]]] = {}

    def predict(
        self,
        model: str,
        data: Any,
        version: int | None,
        routing_key: str | None,
        prediction_id: str | None,
    ) -> Exchange[Prediction]:
        place = f"{self._url}/v2/models/{quote(model, safe='')}"
        if version is not None:
            place += f"/versions/{version}"
        columns = columns_of(data)
        if place not in self._inputs:
            answer = checked((yield Call("GET", place)))
            self._inputs[place] = answer.json()["inputs"]
        inputs = self._inputs[place]
        try:
            arrays = arrays_of(columns, inputs)
            rows = len(next(iter(arrays.values())))
            if prediction_id is not None:
                _check_one_request(rows, self._rows)
            found = []
            for start in range(0, rows, self._rows):
                part = {name: array[start : start + self._rows] for name, array in arrays.items()}
                name = prediction_id or new_prediction_id()
                found.append((yield from self._ask(model, place, part, name, routing_key)))
        except Rejected:
            self._inputs.pop(place, None)  # the name may have a new model
            raise
        return joined(found)

    def _ask(
        self, model: str, place: str, arrays: Arrays, prediction_id: str, routing_key: str | None
    ) -> Exchange[Prediction]:
        body, head = encoded(arrays, self._inputs[place])
        headers = {
            "content-type": "application/octet-stream",
            "x-prediction-id": prediction_id,  # the same for each retry: one prediction
            HEADER: str(head),
        }
        if routing_key is not None:
            headers["x-routing-key"] = routing_key
        answer = checked((yield Call("POST", f"{place}/infer", body, headers)))
        length = answer.headers.get(HEADER)
        document, outputs = decoded(answer.content, int(length) if length else None)
        rows = len(next(iter(outputs.values())))
        named = answer.headers.get("x-prediction-id", prediction_id)
        version = int(answer.headers.get("x-model-version", document["model_version"]))
        return Prediction(model, outputs, (named,) * rows, tuple(range(rows)), (version,) * rows)

    def feedback(self, labels: Any) -> Exchange[dict[str, Any]]:
        """Sent as a stream of lines, of any length. The answer counts labels, and names the lines
        that were refused."""
        total: dict[str, Any] = {"accepted": 0, "rejected": 0, "errors": []}
        lines = list(_lines(labels))
        for start in range(0, len(lines), LINES_PER_CALL):
            body = "\n".join(lines[start : start + LINES_PER_CALL]).encode()
            headers = {"content-type": "application/x-ndjson"}
            sent = Call("POST", f"{self._url}/feedback", body, headers)
            receipt = checked((yield sent)).json()
            total["accepted"] += receipt["accepted"]
            total["rejected"] += receipt.get("rejected") or 0
            total["errors"] += [
                {**error, "line": error["line"] + start} for error in receipt.get("errors") or ()
            ]
        return total

    def deploy(self, path: str | Path, at_once: bool, spec: Mapping[str, Any]) -> Exchange[Any]:
        archive = io.BytesIO()
        pack(archive, Path(path), spec)
        call = Call(
            "POST",
            f"{self._control}/api/models",
            archive.getvalue(),
            {"content-type": "application/x-tar"},
            {"at_once": str(at_once).lower()},
            timeout_s=UPLOAD_TIMEOUT_S,
            repeatable=False,
        )
        return checked((yield call)).json()

    def get(self, path: str, **params: Any) -> Exchange[Any]:
        given = {name: value for name, value in params.items() if value is not None}
        call = Call("GET", f"{self._control}/api/{path}", params=given)
        return checked((yield call)).json()

    def events(self, model: str | None, headers: Mapping[str, str]) -> Call:
        params = {} if model is None else {"model": model}
        return Call("GET", f"{self._control}/api/events", headers=headers, params=params)

    def post(self, path: str, **body: Any) -> Exchange[Any]:
        call = Call(
            "POST",
            f"{self._control}/api/{path}",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
            repeatable=False,
        )
        return checked((yield call)).json()

    def steer(self, model: str, event: str, reason: str) -> Exchange[Any]:
        """Approve, pause, resume, promote, abort or retry the newest rollout of a model."""
        rows = yield from self.get("rollouts", model=model, limit=1)
        if not rows:
            raise Rejected(f"model {model!r} has no rollout")
        return (yield from self.post(f"rollouts/{rows[0]['id']}/{event}", reason=reason))


def _check_one_request(rows: int, most: int) -> None:
    if rows > most:
        raise Rejected(f"one prediction id for {rows:,} rows: give at most {most:,} at once")


def _lines(labels: Any) -> Iterator[str]:
    """One JSON object for each row."""
    columns = columns_of(labels)
    if isinstance(columns, np.ndarray) or "prediction_id" not in columns:
        raise Rejected("feedback needs the columns prediction_id and label, and row for many rows")
    names = list(columns)
    for row in zip(*(_plain(columns[name]) for name in names), strict=True):
        yield json.dumps(
            {name: value for name, value in zip(names, row, strict=True) if value is not None}
        )


def _plain(values: Any) -> list[Any]:
    found = values.tolist() if hasattr(values, "tolist") else list(values)
    return [_json_value(value) for value in found]


def _json_value(value: Any) -> Any:
    """As JSON has it: a missing number or time is null, a time ISO 8601."""
    if value != value:
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value
