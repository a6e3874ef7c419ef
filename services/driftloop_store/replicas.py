"""Reports of replicas, and the versions that they hold together; stored among the cursors."""

from collections.abc import Iterable

import sqlalchemy as sa

from driftloop_contracts.replica import LoadedVersions, ReplicaReport, ReplicaStatuses
from driftloop_store.readers import Readers
from driftloop_store.tables import cursors


class Replicas(Readers):
    def loaded_versions(self, model: str) -> LoadedVersions:
        """Return the last report of the `serving` role; its revision is -1 before the first one."""
        found = self.cursor(_loaded(model))
        return LoadedVersions() if found is None else LoadedVersions.from_dict(found)

    def all_loaded_versions(self) -> dict[str, LoadedVersions]:
        """Those of all models, by name, as far as they were reported."""
        name = cursors.c.name
        query = sa.select(name, cursors.c.body).where(name.startswith(_loaded("")))
        with self._read() as c:
            return {
                row.name.removeprefix(_loaded("")): LoadedVersions.from_dict(row.body)
                for row in c.execute(query)
            }

    def put_loaded_versions(self, model: str, loaded: LoadedVersions) -> None:
        self.put_cursor(_loaded(model), loaded.to_dict(), model)

    def answered_models(self) -> frozenset[str]:
        """Return the models that some replica may answer for, deployed or not, as the `serving`
        role reported last."""
        return frozenset((self.cursor(_ANSWERED) or {}).get("models", ()))

    def put_answered_models(self, models: Iterable[str]) -> None:
        self.put_cursor(_ANSWERED, {"models": sorted(models)})

    def replica_statuses(self) -> ReplicaStatuses:
        found = self.cursor(_STATUSES)
        return ReplicaStatuses() if found is None else ReplicaStatuses.from_dict(found)

    def put_replica_statuses(self, statuses: ReplicaStatuses) -> None:
        self.put_cursor(_STATUSES, statuses.to_dict(), "")

    def replica_report(self, node: str, pid: int | None) -> ReplicaReport | None:
        """Return a process's report; None if it has not reported yet, or is gone."""
        found = self.cursor(_report(node, pid))
        return None if found is None else ReplicaReport.from_dict(found)

    def put_replica_report(self, report: ReplicaReport) -> None:
        self.put_cursor(_report(report.node, report.pid), report.to_dict())

    def drop_replica_report(self, node: str, pid: int) -> None:
        self.drop_cursor(_report(node, pid))


_STATUSES = "replicas"
_ANSWERED = "answered-models"


def _loaded(model: str) -> str:
    return f"loaded:{model}"


def _report(node: str, pid: int | None) -> str:
    return f"replica:{node}:{pid}" if node else f"replica:{pid}"
