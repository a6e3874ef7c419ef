"""The configuration that the `serving` role sends to replicas as Ray Serve's `user_config`: plain
JSON."""

import hashlib
import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from driftloop_contracts.model import Deployment
from driftloop_contracts.replica import Addresses, Reasons, Versions


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model held by other replicas, and what is known about them."""

    deployment: Deployment
    held: Versions = ()
    addresses: Addresses = field(default_factory=dict)
    failed: Reasons = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "deployment": self.deployment.to_dict(),
            "held": list(self.held),
            "addresses": {str(version): list(a) for version, a in self.addresses.items()},
            "failed": {str(version): reason for version, reason in self.failed.items()},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "RemoteModel":
        return cls(
            Deployment.from_dict(value["deployment"]),
            tuple(value["held"]),
            {int(version): tuple(a) for version, a in value["addresses"].items()},
            {int(version): reason for version, reason in value["failed"].items()},
        )


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """`deployments`: the models that the replica must hold."""

    deployments: tuple[Deployment, ...]
    remote: tuple[RemoteModel, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As one text: Serve's controller copies a configuration many times, and keeps each one. Of
        hundreds of models that took it half a second of CPU, and a gigabyte."""
        document = {
            "deployments": [deployment.to_dict() for deployment in self.deployments],
            "remote": [model.to_dict() for model in self.remote],
        }
        return {"packed": b64encode(zlib.compress(json.dumps(document).encode())).decode()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "ReplicaConfig":
        found = value  # Serve may have kept one of an earlier release
        if "packed" in value:
            found = json.loads(zlib.decompress(b64decode(value["packed"])))
        return cls(
            tuple(Deployment.from_dict(document) for document in found["deployments"]),
            tuple(RemoteModel.from_dict(document) for document in found["remote"]),
        )


def fingerprint(user_config: Mapping[str, Any]) -> str:
    """Return a text that identifies a configuration, on whichever side of Serve it is."""
    return hashlib.sha256(json.dumps(user_config, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """`base`: the version whose weights the engine must hold, together with its adapters."""

    deployment: Deployment
    base: int

    def to_dict(self) -> dict[str, Any]:
        return {"deployment": self.deployment.to_dict(), "base": self.base}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "EngineConfig":
        return cls(Deployment.from_dict(value["deployment"]), value["base"])
