"""Combines the reports of a model's replicas. Pure."""

from collections.abc import Iterable, Sequence

from driftloop_contracts.replica import HeldVersions, LoadedVersions, ReplicaReport, Versions


def loaded_versions(
    model: str,
    by_application: Sequence[Sequence[ReplicaReport]],
    revision: int,
    *,
    known: Sequence[Versions] | None = None,
) -> LoadedVersions:
    """Return the versions held and the revision applied by a model's replicas together.

    A version is `held` if all replicas of one application hold it. The revision counts as applied
    when all replicas have applied it; without applications, `revision` is returned. A held version
    is listed in `versions` once the replicas that receive requests know that it is held.

    by_application: the reports of the running replicas of each application that holds versions of
    the model. known: the versions that each shared replica knows to be held elsewhere; None if the
    shared replicas hold the model themselves.
    """
    all_held: set[int] = set()
    revisions: list[int] = []
    failed: dict[int, str] = {}
    addresses: dict[int, list[str]] = {}
    for reports in by_application:
        held = [report.models.get(model, HeldVersions()) for report in reports]
        all_held |= _common(each.versions for each in held)
        revisions.append(min((each.revision for each in held), default=0))
        for report, each in zip(reports, held, strict=True):
            failed |= each.failed
            if report.address:
                for version in each.versions:
                    addresses.setdefault(version, []).append(report.address)
    reachable = all_held if known is None else all_held & _common(known)
    return LoadedVersions(
        revision=min(revisions, default=revision),
        versions=tuple(sorted(reachable)),
        held=tuple(sorted(all_held)),
        failed=failed,
        addresses={version: tuple(sorted(found)) for version, found in addresses.items()},
    )


def _common(sets: Iterable[Iterable[int]]) -> set[int]:
    first, *others = [set(each) for each in sets] or [set()]
    return first.intersection(*others)
