"""The headers with which a replica forwards a request to an engine's replica."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from driftloop_contracts.errors import Rejected
from driftloop_contracts.ids import PredictionId
from driftloop_contracts.likelihood import HOP_PREFIX as _PREFIX
from driftloop_contracts.model import Arm

NOT_BEGUN = f"{_PREFIX}not-begun"
"""Header of a refusal by an engine that has not started the call: another engine may be asked."""
GIVEN_ID = "id:"
"""The prefix of a `retry_key` that is a prediction id chosen by the client."""


@dataclass(frozen=True, slots=True)
class UpstreamHeaders:
    """The metadata of a forwarded call.

    retry_key: what all tries of this call have in common, if it can be a retry. is_retry: whether
    the client marked it as a retry. affinity: chooses one of several engines; not needed by the
    engine. key_hash: see `PredictionBatch`. traceparent: the client's header of this name, or "".
    """

    model: str
    version: int
    arm: Arm
    prediction_id: PredictionId
    retry_key: str = ""
    is_retry: bool = False
    affinity: str = ""
    key_hash: int | None = None
    traceparent: str = ""

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
            f"{_PREFIX}traceparent": self.traceparent,
        }

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> "UpstreamHeaders":
        """Parse the headers. Raises Rejected if the call does not come from a replica."""
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
                traceparent=headers.get(f"{_PREFIX}traceparent", ""),
            )
        except (KeyError, ValueError):
            raise Rejected("this port only answers the replicas of the serving port") from None
