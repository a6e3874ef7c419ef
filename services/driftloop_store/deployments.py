"""The desired state of serving: one deployment per model, with optimistic locking by revision."""

from datetime import datetime

import sqlalchemy as sa

from driftloop_contracts.errors import Conflict, NotFound
from driftloop_contracts.model import Deployment
from driftloop_store.database import Record
from driftloop_store.readers import Readers
from driftloop_store.tables import cursors
from driftloop_store.tables import deployments as table

_REMOVED = "removed:"


class Deployments(Readers):
    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self._parsed: dict[tuple[str, int], Deployment] = {}

    def deployments(self) -> list[Deployment]:
        """By the name of the model. Only those that changed since the last call are read."""
        parsed, revisions = self._parsed, sa.select(table.c.model, table.c.revision)
        with self._read() as c:
            now = [(model, revision) for model, revision in c.execute(revisions)]
            changed = [model for model, revision in now if (model, revision) not in parsed]
            bodies = sa.select(table.c.body)
            if len(changed) < len(now):
                bodies = bodies.where(table.c.model.in_(changed))
            read = [Deployment.from_dict(body) for (body,) in c.execute(bodies)] if changed else []
        known = [parsed[key] for key in now if key in parsed]
        by_name = {one.model.name: one for one in (*known, *read)}
        found = [by_name[name] for name in sorted(by_name)]
        self._parsed = {(one.model.name, one.revision): one for one in found}
        return found

    def deployment(self, model: str) -> Deployment | None:
        with self._read() as c:
            body = c.execute(sa.select(table.c.body).where(table.c.model == model)).scalar()
        return Deployment.from_dict(body) if body else None

    def require_deployment(self, model: str) -> Deployment:
        """Return the deployment. Raises NotFound, listing the deployed models."""
        found = self.deployment(model)
        if found is None:
            known = ", ".join(d.model.name for d in self.deployments()) or "none is deployed"
            raise NotFound(f"model {model!r} is not deployed; known: {known}")
        return found

    def put_deployment(self, deployment: Deployment) -> Deployment:
        """Write a deployment if `deployment.revision` is still current (0 creates), and return it
        with its new revision. A model that was removed continues after its last revision, so that
        no replica confuses the new deployment with the old one. Raises Conflict."""
        name, revision = deployment.model.name, deployment.revision
        if revision == 0:
            first = self._removed(name).get("revision", 0) + 1
            body = {**deployment.to_dict(), "revision": first}
            if not self._insert(table, {"model": name, "revision": first, "body": body}):
                raise Conflict(f"model {name!r} is already deployed")
            return Deployment.from_dict(body)
        body = {**deployment.to_dict(), "revision": revision + 1}
        update = (
            table.update()
            .where(table.c.model == name, table.c.revision == revision)
            .values(revision=revision + 1, body=body)
        )
        with self._begin() as c:
            if c.execute(update).rowcount != 1:
                raise Conflict(f"model {name!r} was changed by someone else; read it again")
            self._count_change(c, name)
        return Deployment.from_dict(body)

    def remove_deployment(self, model: str) -> Deployment:
        """Remove a model's deployment and return it. Raises NotFound."""
        while True:
            found = self.require_deployment(model)
            body = {**self._removed(model), "revision": found.revision}
            where = (table.c.model == model, table.c.revision == found.revision)
            with self._begin() as c:
                if c.execute(sa.delete(table).where(*where)).rowcount == 1:
                    insert = self._insert_into(cursors).values(name=_REMOVED + model, body=body)
                    c.execute(
                        insert.on_conflict_do_update(index_elements=["name"], set_={"body": body})
                    )
                    self._count_change(c, model)
                    return found

    def known_models(self) -> list[str]:
        """Return the names of all models that were ever deployed, including removed ones, whose
        last predictions may still be on their way to the lake."""
        query = sa.select(cursors.c.name).where(cursors.c.name.startswith(_REMOVED))
        with self._read() as c:
            removed = [name.removeprefix(_REMOVED) for (name,) in c.execute(query)]
            deployed = [name for (name,) in c.execute(sa.select(table.c.model))]
        return sorted({*removed, *deployed})

    def put_erased(self, model: str, at: datetime) -> None:
        """Record that a removed model's rows were deleted from the lake, so that versions no longer
        pin earlier rows."""
        self.put_cursor(_REMOVED + model, {**self._removed(model), "erased_at": at.isoformat()})

    def erased_at(self, model: str) -> datetime | None:
        text = self._removed(model).get("erased_at")
        return None if text is None else datetime.fromisoformat(text)

    def _removed(self, model: str) -> Record:
        return self.cursor(_REMOVED + model) or {}
