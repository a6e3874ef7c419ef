"""`driftloop migrate`: brings the databases of a release up to date before its roles start."""

from driftloop_cli.options import Invocation, logged, stack_command
from driftloop_cli.terminal import console
from driftloop_contracts.errors import DriftloopError


@stack_command
@logged
def migrate(run: Invocation) -> None:
    """Bring the store's tables and MLflow's up to date, or make them.

    Roles do that to the store at their start, too, but only make MLflow's tables. Run before an
    upgrade, it refuses databases that a newer release has written while the old roles still work.
    """
    from driftloop_cli.role_checks import reach_registry
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
    tables = reach_registry(settings, lambda found: found.bring_up_to_date())
    registry = None if tables is None else {"before": tables.value, "now": "current"}
    document = {"store": {"before": before.value, "now": "current"}, "registry": registry}

    def show() -> None:
        console.print(f"the store was {before.value}, and is current")
        what = "belong to its server" if tables is None else f"were {tables}, and are current"
        console.print(f"MLflow's tables {what}")

    run.emit(document, show)
