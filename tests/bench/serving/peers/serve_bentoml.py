"""BentoML: a service with one worker. Started by `bentoml serve serve_bentoml:Model`."""

from typing import Any

import bentoml
from session import Session


@bentoml.service(workers=1, traffic={"timeout": 60})
class Model:
    def __init__(self) -> None:
        self._session = Session()

    @bentoml.api
    def infer(self, inputs: list[list[float]]) -> dict[str, Any]:
        return self._session.answer(inputs)
