"""What is to be served: one deployment for each model, written on top of the revision read."""

import sqlalchemy as sa

from driftloop_contracts.errors import Conflict, NotFound
from driftloop_contracts.model import Deployment
from driftloop_store.database import Database
from driftloop_store.tables import deployments as table


class Deployments(Database):
    def deployments(self) -> list[Deployment]:
        with self._begin() as c:
            rows = c.execute(sa.select(table.c.body).order_by(table.c.model))
            return [Deployment.from_dict(body) for (body,) in rows]

    def deployment(self, model: str) -> Deployment | None:
        with self._begin() as c:
            body = c.execute(sa.select(table.c.body).where(table.c.model == model)).scalar()
        return Deployment.from_dict(body) if body else None

    def require_deployment(self, model: str) -> Deployment:
        """Raises NotFound with the names of the models that are deployed."""
        found = self.deployment(model)
        if found is None:
            known = ", ".join(d.model.name for d in self.deployments()) or "none is deployed"
            raise NotFound(f"model {model!r} is not deployed; known: {known}")
        return found

    def put_deployment(self, deployment: Deployment) -> Deployment:
        """Write on top of `deployment.revision` (0 creates); returns it with its new revision."""
        name, revision = deployment.model.name, deployment.revision
        body = {**deployment.to_dict(), "revision": revision + 1}
        if revision == 0:
            if not self._insert(table, {"model": name, "revision": 1, "body": body}):
                raise Conflict(f"model {name!r} is already deployed")
            return Deployment.from_dict(body)
        update = (
            table.update()
            .where(table.c.model == name, table.c.revision == revision)
            .values(revision=revision + 1, body=body)
        )
        with self._begin() as c:
            if c.execute(update).rowcount != 1:
                raise Conflict(f"model {name!r} was changed by someone else; read it again")
        return Deployment.from_dict(body)
