"""The tables of the lake for a writer: opened once, and created when they are first written."""

import pyarrow as pa

from driftloop_contracts.events import LABEL_SCHEMA
from driftloop_lake import layout
from driftloop_lake.lake_table import LakeTable
from driftloop_lake.records import DEAD_LETTER_SCHEMA

_OFFSETS_SCHEMA = pa.schema([pa.field("unused", pa.string())])


class LakeTables:
    """Caches open tables. Not thread-safe. All methods raise RetryLater."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._opened: dict[str, LakeTable] = {}

    def predictions(self, model: str) -> LakeTable | None:
        """Return the model's table; None if it has none yet."""
        return self._found(layout.predictions_uri(self._uri, model))

    def new_predictions(self, model: str, schema: pa.Schema) -> LakeTable:
        """Create the model's table, or return the one that another writer created meanwhile, with
        its own columns."""
        return self._made(layout.predictions_uri(self._uri, model), schema)

    def labels(self) -> LakeTable:
        uri = layout.labels_uri(self._uri)
        return self._found(uri) or self._made(uri, LABEL_SCHEMA)

    def dead_letters(self) -> LakeTable | None:
        """Return the table; None if there never was a dead letter."""
        return self._found(layout.dead_letters_uri(self._uri))

    def new_dead_letters(self) -> LakeTable:
        return self._made(layout.dead_letters_uri(self._uri), DEAD_LETTER_SCHEMA)

    def offsets(self) -> LakeTable:
        uri = layout.offsets_uri(self._uri)
        found = self._found(uri)
        if found is None:
            found = self._opened[uri] = LakeTable.create(uri, _OFFSETS_SCHEMA, None)
        return found

    def refresh(self) -> None:
        """Move all tables to their newest versions."""
        for table in self._opened.values():
            table.refresh()

    def forget(self) -> None:
        """Close all tables; they are opened again when needed."""
        self._opened.clear()

    def _found(self, uri: str) -> LakeTable | None:
        if uri not in self._opened:
            found = LakeTable.open(uri)
            if found is None:
                return None
            self._opened[uri] = found
        return self._opened[uri]

    def _made(self, uri: str, schema: pa.Schema) -> LakeTable:
        dated = pa.schema([*schema, layout.DATE_FIELD])
        self._opened[uri] = LakeTable.create(uri, dated, layout.DATE)
        return self._opened[uri]
