"""What the replicas of a model hold together, by their reports. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

Record = dict[str, Any]


def loaded(
    model: str, by_application: Sequence[Sequence[Mapping[str, Any]]], revision: int, *,
    addressed: bool = False,
) -> Record:  # fmt: skip
    """The cursor `loaded:<model>`: a version counts when all replicas of an application hold it, a
    revision when all of them have come to it; where there is no application, all has come to `revision`.

    by_application: the reports (`replica_report`) of the running replicas of each application that
    holds some of the model's versions. addressed: with `addresses`, where the replicas answer that hold
    a version.
    """
    versions: set[int] = set()
    revisions: list[int] = []
    failed: dict[str, str] = {}
    addresses: dict[str, list[str]] = {}
    for reports in by_application:
        held = [report.get("models", {}).get(model, {}) for report in reports]
        sets = [set(h.get("versions", ())) for h in held]
        common = set.intersection(*sets) if sets else set()
        versions |= common
        revisions.append(min((h.get("revision", 0) for h in held), default=0))
        for report, h in zip(reports, held, strict=True):
            failed |= h.get("failed", {})
            for version in h.get("versions", ()):
                if report.get("address"):
                    addresses.setdefault(str(version), []).append(report["address"])
    found: Record = {
        "versions": sorted(versions),
        "revision": min(revisions, default=revision),
        "failed": failed,
    }
    if addressed:
        found["addresses"] = {version: sorted(known) for version, known in addresses.items()}
    return found
