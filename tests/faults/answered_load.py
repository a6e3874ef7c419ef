"""Clients that note every answer they get: its prediction id and how many rows it had."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit
from uuid import uuid4

import orjson

TIMEOUT_S = 40
ROWS = (1, 1, 2, 1, 5)
LABELLED = 10
"""One answer in so many gets a label."""


@dataclass
class Answered:
    """What clients were told. `rows`: of each answered prediction; `labels`: accepted (id,
    row)s."""

    rows: dict[str, int] = field(default_factory=dict)
    labels: set[tuple[str, int]] = field(default_factory=set)
    failures: Counter[str] = field(default_factory=Counter)
    repeated_ids: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, prediction_id: str, rows: int) -> None:
        with self.lock:
            if prediction_id in self.rows:
                self.repeated_ids.append(prediction_id)
            self.rows[prediction_id] = rows

    def failed(self, reason: str) -> None:
        with self.lock:
            self.failures[reason] += 1


@contextmanager
def answered_load(
    inference: str, model: str, *, clients: int = 3, pause_s: float = 0.01, own_ids: bool = False
) -> Iterator[Answered]:
    """Clients that ask, one request after another, until the block ends. A request that fails is
    counted; where clients choose the ids of their predictions they ask it again under its id, else
    not."""
    answered, stop = Answered(), threading.Event()
    threads = [
        threading.Thread(target=_ask, args=(inference, model, pause_s, own_ids, answered, stop))
        for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def body_of(rows: int) -> bytes:
    """A request of the model that `fault_stack` deploys."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 1], "data": [1.5] * rows}
    return orjson.dumps({"inputs": [tensor]})


def _ask(
    inference: str,
    model: str,
    pause_s: float,
    own_ids: bool,
    answered: Answered,
    stop: threading.Event,
) -> None:
    address = urlsplit(inference).netloc
    connection = HTTPConnection(address, timeout=TIMEOUT_S)
    number, chosen = 0, None
    while not stop.wait(pause_s):
        if own_ids and chosen is None:
            chosen = str(uuid4())
        rows = ROWS[number % len(ROWS)]
        headers = {} if chosen is None else {"x-prediction-id": chosen}
        try:
            connection.request("POST", f"/v2/models/{model}/infer", body_of(rows), headers)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                answered.failed(str(response.status))
                continue
            prediction_id = response.headers["x-prediction-id"]
            answered.answer(prediction_id, rows)
            number, chosen = number + 1, None
            if number % LABELLED == 0:
                _label(connection, prediction_id, answered)
        except (HTTPException, OSError) as error:
            answered.failed(type(error).__name__)
            connection.close()
    connection.close()


def _label(connection: HTTPConnection, prediction_id: str, answered: Answered) -> None:
    label = {"prediction_id": prediction_id, "label": 1}
    connection.request(
        "POST", "/feedback", orjson.dumps(label), {"content-type": "application/json"}
    )
    response = connection.getresponse()
    response.read()
    if response.status == 200:
        with answered.lock:
            answered.labels.add((prediction_id, 0))
