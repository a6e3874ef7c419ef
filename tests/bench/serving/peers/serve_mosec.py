"""mosec: a Rust front and a Python worker. BENCH_BATCH: how many requests may share a run (1:
none)."""

import os
from typing import Any

import numpy as np
from mosec import Server, Worker
from session import Session

BATCH = int(os.environ["BENCH_BATCH"])


class Model(Worker):
    def __init__(self) -> None:
        self._session = Session()

    def forward(self, data: Any) -> Any:
        if BATCH == 1:
            return self._session.answer(data["inputs"])
        arrays = [np.asarray(one["inputs"], np.float32) for one in data]
        labels, probabilities = self._session.run(np.concatenate(arrays))
        ends = np.cumsum([len(array) for array in arrays])[:-1]
        return [
            {"label": label.tolist(), "probabilities": probability.tolist()}
            for label, probability in zip(
                np.split(labels, ends), np.split(probabilities, ends), strict=True
            )
        ]


if __name__ == "__main__":  # address and port are mosec's own arguments
    server = Server()
    server.append_worker(Model, num=1, max_batch_size=BATCH, max_wait_time=1)
    server.run()
