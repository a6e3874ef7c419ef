"""What the replicas of a model hold together, by their reports. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Record = dict[str, Any]


def loaded(
    model: str,
    by_application: Sequence[Sequence[Mapping[str, Any]]],
    revision: int,
    *,
    told: Sequence[Iterable[int]] | None = None,
    addressed: bool = False,
) -> Record:
    """The cursor `loaded:<model>`: a version is `held` when all replicas of an application hold it,
    a revision is when all of them have come to it; where there is no application, all has come to
    `revision`. One that is held counts among the `versions` when those who are asked for it know
    where it is.

    by_application: the reports (`replica_report`) of the running replicas of each application that
    holds some of the model's versions. told: what each shared replica knows to be held elsewhere;
    None: they hold the model themselves. addressed: with `addresses`, where the replicas answer
    that hold a version.
    """
    all_held: set[int] = set()
    revisions: list[int] = []
    failed: dict[str, str] = {}
    addresses: dict[str, list[str]] = {}
    for reports in by_application:
        held = [report.get("models", {}).get(model, {}) for report in reports]
        all_held |= _common(h.get("versions", ()) for h in held)
        revisions.append(min((h.get("revision", 0) for h in held), default=0))
        for report, h in zip(reports, held, strict=True):
            failed |= h.get("failed", {})
            for version in h.get("versions", ()):
                if report.get("address"):
                    addresses.setdefault(str(version), []).append(report["address"])
    known = all_held if told is None else all_held & _common(told)
    found: Record = {
        "versions": sorted(known),
        "held": sorted(all_held),
        "revision": min(revisions, default=revision),
        "failed": failed,
    }
    if addressed:
        found["addresses"] = {version: sorted(where) for version, where in addresses.items()}
    return found


def _common(sets: Iterable[Iterable[int]]) -> set[int]:
    first, *others = [set(each) for each in sets] or [set()]
    return first.intersection(*others)
