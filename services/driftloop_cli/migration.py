"""`driftloop migrate`: brings the databases of a release up to date before its roles start."""

from driftloop_cli.options import Invocation, logged, stack_command
from driftloop_cli.terminal import console
from driftloop_contracts.errors import DriftloopError


@stack_command
@logged
def migrate(run: Invocation) -> None:
    """Bring the store's tables up to date, and make MLflow's if there are none.

    Roles do that at their start, too. Run before an upgrade, it refuses a store that a newer
    release has written while the old roles still work.
    """
    from driftloop_cli.role_checks import registry
    from driftloop_store import StoreAway, look_at_store

    settings = run.settings
    store = look_at_store(settings.store_url)
    try:
        before = store.schema()
        store.bring_up_to_date()
    except StoreAway as away:
        raise DriftloopError(f"the database does not answer: {away.reason}") from away
    finally:
        store.close()
    registry(settings)
    document = {"store": {"before": before.value, "now": "current"}, "registry": "current"}
    run.emit(document, lambda: console.print(f"the store was {before.value}, and is current"))
