"""The headers by which the replica that takes a request passes it on to the engine's replica."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from driftloop_contracts.errors import Rejected
from driftloop_contracts.ids import PredictionId
from driftloop_contracts.likelihood import HOP_PREFIX as _PREFIX
from driftloop_contracts.model import Arm

NOT_BEGUN = f"{_PREFIX}not-begun"
"""Header of an engine's refusal of a call that it did nothing for: another engine may be asked."""
GIVEN_ID = "id:"
"""Begins a `retry_key` that is the prediction id which the client chose."""


@dataclass(frozen=True, slots=True)
class UpstreamHeaders:
    """`retry_key`: what the client's other tries have in common with this one, if it may repeat a
    call; `is_retry`: whether this try says that there was one before it; `affinity`: what chooses
    one of several engines, which need not know it; `key_hash`: see `PredictionBatch`."""

    model: str
    version: int
    arm: Arm
    prediction_id: PredictionId
    retry_key: str = ""
    is_retry: bool = False
    affinity: str = ""
    key_hash: int | None = None

    @property
    def client_chose_id(self) -> bool:
        return self.retry_key.startswith(GIVEN_ID)

    def headers(self) -> dict[str, str]:
        return {
            f"{_PREFIX}model": self.model,
            f"{_PREFIX}version": str(self.version),
            f"{_PREFIX}arm": self.arm,
            f"{_PREFIX}prediction-id": self.prediction_id,
            f"{_PREFIX}retry-key": self.retry_key,
            f"{_PREFIX}is-retry": "1" if self.is_retry else "",
            f"{_PREFIX}key-hash": "" if self.key_hash is None else str(self.key_hash),
        }

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> "UpstreamHeaders":
        """Raises Rejected if the call comes from elsewhere."""
        try:
            arms: dict[str, Arm] = {arm: arm for arm in get_args(Arm)}
            return cls(
                headers[f"{_PREFIX}model"],
                int(headers[f"{_PREFIX}version"]),
                arms[headers[f"{_PREFIX}arm"]],
                PredictionId(headers[f"{_PREFIX}prediction-id"]),
                headers[f"{_PREFIX}retry-key"],
                bool(headers[f"{_PREFIX}is-retry"]),
                key_hash=int(hashed) if (hashed := headers.get(f"{_PREFIX}key-hash")) else None,
            )
        except (KeyError, ValueError):
            raise Rejected("this port answers the serving port's replicas only") from None
