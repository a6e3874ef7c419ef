"""The messages between the processes of serving, and for those that wait for a version to be
loaded.

A replica reports what it holds (`ReplicaReport`). The `serving` role reads the reports of all
replicas and writes what they hold together (`LoadedVersions`), and which replicas exist
(`ReplicaStatuses`). In the JSON forms, version numbers used as keys are texts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Versions = tuple[int, ...]
"""Version numbers, ascending."""
Reasons = Mapping[int, str]
"""Why versions could not be loaded, by version."""
Addresses = Mapping[int, tuple[str, ...]]
"""For each version, host:port of the engines that answer for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldVersions:
    """The versions of one model that a replica holds. `revision`: of the deployment that it has
    applied."""

    revision: int = 0
    versions: Versions = ()
    failed: Reasons = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "revision": self.revision,
            "versions": list(self.versions),
            "failed": _texts(self.failed),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "HeldVersions":
        return cls(
            revision=value["revision"],
            versions=tuple(value["versions"]),
            failed=_numbers(value["failed"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaReport:
    """A replica's report. `pid` and `node`, Ray's id of its machine (empty outside Ray), name the
    process: two machines may have the same pid. `replica`: the name of its spool. `remote`: for
    each model held by other replicas, the versions that this one knows to be held. `address`:
    host:port of an engine that answers, otherwise empty. `left`: whether it ended on request.
    `config`: identifies the configuration that it has applied."""

    pid: int
    node: str = ""
    replica: str = ""
    models: Mapping[str, HeldVersions] = field(default_factory=dict)
    remote: Mapping[str, Versions] = field(default_factory=dict)
    address: str = ""
    left: bool = False
    config: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "pid": self.pid,
            "node": self.node,
            "replica": self.replica,
            "models": {model: held.to_dict() for model, held in self.models.items()},
            "remote": {model: list(versions) for model, versions in self.remote.items()},
            "address": self.address,
            "left": self.left,
            "config": self.config,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "ReplicaReport":
        """Parse a report, possibly from a replica of an earlier release."""
        return cls(
            pid=value["pid"],
            node=value.get("node", ""),
            replica=value.get("replica", ""),
            models={m: HeldVersions.from_dict(held) for m, held in value["models"].items()},
            remote={m: tuple(v) for m, v in value.get("remote", {}).items()},
            address=value.get("address", ""),
            left=value.get("left", False),
            config=value.get("config", ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedVersions:
    """The versions that the replicas of a model hold together. `held`: those that all replicas of
    one application hold; `versions`: those among them that the replicas that receive requests can
    reach; `revision`: that of the deployment applied by all replicas, -1 before the first
    report."""

    revision: int = -1
    versions: Versions = ()
    held: Versions = ()
    failed: Reasons = field(default_factory=dict)
    addresses: Addresses = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "revision": self.revision,
            "versions": list(self.versions),
            "held": list(self.held),
            "failed": _texts(self.failed),
            "addresses": {str(v): list(found) for v, found in self.addresses.items()},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "LoadedVersions":
        """Parse a record, possibly from an earlier release, which lacks some fields."""
        return cls(
            revision=value["revision"],
            versions=tuple(value["versions"]),
            held=tuple(value.get("held", ())),
            failed=_numbers(value.get("failed", {})),
            addresses={int(v): tuple(a) for v, a in value.get("addresses", {}).items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatus:
    """`state`: Ray Serve's, in lower case; `pid`: None until its process has started; `restarts`:
    unrequested deaths of all replicas; `node`: Ray's id of its machine."""

    name: str
    pid: int | None
    state: str
    restarts: int
    node: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "pid": self.pid,
            "state": self.state,
            "restarts": self.restarts,
            "node": self.node,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatuses:
    deaths: int = 0
    replicas: tuple[ReplicaStatus, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"deaths": self.deaths, "replicas": [r.to_dict() for r in self.replicas]}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "ReplicaStatuses":
        return cls(
            deaths=value.get("deaths", 0),
            replicas=tuple(ReplicaStatus(**row) for row in value["replicas"]),
        )


def _texts(reasons: Reasons) -> dict[str, str]:
    return {str(version): reason for version, reason in reasons.items()}


def _numbers(reasons: Mapping[str, str]) -> dict[int, str]:
    return {int(version): reason for version, reason in reasons.items()}
