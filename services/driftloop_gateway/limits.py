"""How many records one answer has."""

from typing import Annotated

from fastapi import Query

Limit = Annotated[int, Query(ge=1, le=10_000)]
