"""LitServe as its documentation begins: one worker, no batching."""

import os
from typing import Any

import litserve as ls
from session import Session


class Api(ls.LitAPI):
    def setup(self, device: str) -> None:
        self._session = Session()

    def decode_request(self, request: dict[str, Any]) -> Any:
        return request["inputs"]

    def predict(self, x: Any) -> dict[str, Any]:
        return self._session.answer(x)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    server = ls.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        generate_client_file=False,
        log_level="error",
    )
