"""What the replicas of a model hold together, by their reports. Pure."""

from collections.abc import Iterable, Sequence

from driftloop_contracts.replica import HeldVersions, LoadedVersions, ReplicaReport, Versions


def loaded_versions(
    model: str,
    by_application: Sequence[Sequence[ReplicaReport]],
    revision: int,
    *,
    known: Sequence[Versions] | None = None,
) -> LoadedVersions:
    """A version is `held` when all replicas of an application hold it, a revision is when all of
    them have applied it; without applications, `revision` has been applied. A version that is held
    counts among the `versions` when those who are asked for it know if it is.

    by_application: the reports of the running replicas of each application that holds some of the
    model's versions. known: what each shared replica knows to be held by others; None: they hold
    the model themselves.
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
