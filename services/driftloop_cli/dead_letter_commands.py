"""The command that shows and replays records that could not be archived."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftloop_cli.options import Invocation, logged, stack_command
from driftloop_cli.table_layout import Rows
from driftloop_cli.terminal import console, styled
from driftloop_contracts.errors import Rejected

if TYPE_CHECKING:
    from driftloop_lake.records import KafkaPosition
    from driftloop_settings import Settings

_SHOWN = 50


@stack_command
@logged
def dead_letters(
    run: Invocation,
    places: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TOPIC:PARTITION:OFFSET]…", help="Only these records.  [default: all]"
        ),
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Archive the records that can now be read.")
    ] = False,
) -> None:
    """List the records that could not be archived, and why; or replay them.

    A replay may be interrupted and repeated: no row is written twice.
    """
    settings = run.settings
    wanted = [_place(text) for text in places] if places else None
    found = _replayed(settings, wanted) if replay else _listed(settings, wanted)
    run.emit(found, lambda: _show(found))


def _listed(settings: "Settings", wanted: "list[KafkaPosition] | None") -> list[dict[str, Any]]:
    from driftloop_lake.dead_letters import places
    from driftloop_lake.delta_lake import open_lake

    rows = open_lake(settings).dead_letters().list()
    return [
        {
            "place": _text(place),
            "at": row["at"].isoformat(),
            "reason": row["reason"],
            "headers": row["headers"],
        }
        for place, row in zip(places(rows), rows.to_pylist(), strict=True)
        if wanted is None or place in wanted
    ]


def _replayed(settings: "Settings", wanted: "list[KafkaPosition] | None") -> list[dict[str, Any]]:
    from driftloop_lake.delta_lake import open_lake
    from driftloop_monitoring.archive.replay import replay
    from driftloop_store import open_store

    names = set(open_store(settings.store_url).known_models())
    letters = open_lake(settings).dead_letters()
    return [
        {"place": _text(one.place), "rows": one.rows, "reason": one.reason}
        for one in replay(letters, names.__contains__, wanted)
    ]


def _show(found: list[dict[str, Any]]) -> None:
    columns = [name for name in ("place", "at", "rows", "reason") if found and name in found[0]]
    rows = [
        ["" if one[name] is None else str(one[name]) for name in columns] for one in found[:_SHOWN]
    ]
    if found:
        console.show(Rows(columns, rows, frozenset({"reason"})).lines(console.width_limit))
    more = f", {_SHOWN} shown; --json gives all" if len(found) > _SHOWN else ""
    console.print(styled((f"{len(found)} dead letters{more}", "dim")))


def _place(text: str) -> "KafkaPosition":
    from driftloop_lake.records import KafkaPosition

    topic, _, rest = text.partition(":")
    partition, _, offset = rest.partition(":")
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        raise Rejected(f"{text}: write TOPIC:PARTITION:OFFSET, such as driftloop.labels:0:17")
    return KafkaPosition(topic, int(partition), int(offset))


def _text(place: "KafkaPosition") -> str:
    return f"{place.topic}:{place.partition}:{place.offset}"
