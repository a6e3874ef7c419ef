"""Conditions on input columns, such as `tenure < 3 and country in ('DE', 'FR')`: read by a parser
of its own, never run as code.

    condition  = conjunction, { "or", conjunction }
    conjunction = term, { "and", term }
    term       = "not", term | "(", condition, ")" | comparison
    comparison = column, ( "<" | "<=" | ">" | ">=" | "=" | "==" | "!=" ), value
               | column, [ "not" ], "in", "(", value, { ",", value }, ")"
               | column, "is", [ "not" ], "null"
    column     = a name, or any text in double quotes
    value      = a number, true, false, or a text in single quotes (a quote in it is doubled)

A comparison with a value that is missing is false, as is NaN's.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from driftloop_contracts.errors import Rejected, listed
from driftloop_contracts.events import INPUT_PREFIX
from driftloop_evaluation.labels import is_text
from driftloop_evaluation.losses import is_number, one_value

Mask = NDArray[np.bool_]
Value = bool | float | int | str

MAX_LENGTH, MAX_DEPTH = 2_000, 50
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
    |(?P<text>'(?:[^']|'')*')|(?P<quoted>"(?:[^"]|"")*")
    |(?P<op><=|>=|==|!=|<|>|=|\(|\)|,)|(?P<word>[^\W\d]\w*))""",
    re.VERBOSE,
)
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
    "=": pc.equal, "==": pc.equal, "!=": pc.not_equal,
}  # fmt: skip
_WORDS = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})


@dataclass(frozen=True, slots=True)
class Condition:
    """text: as it was written; columns: that it names; parse it with `parse_condition`."""

    text: str
    columns: tuple[str, ...]
    _holds: "Node"

    def holds(self, rows: pa.Table) -> Mask:
        """For which of n rows with `in_<column>` it is true, [n]. Raises Rejected for a column that
        they lack, or whose values are of another kind than what it is compared with."""
        return self._holds(rows)


Node = Callable[[pa.Table], Mask]


def parse_condition(text: str) -> Condition:
    """Raises Rejected with the place at which it stops being a condition."""
    if len(text) > MAX_LENGTH:
        raise Rejected(f"a condition has at most {MAX_LENGTH} characters, this one {len(text)}")
    parser = _Parser(text, _tokens(text))
    node = parser.condition(0)
    parser.end()
    return Condition(text, tuple(dict.fromkeys(parser.columns)), node)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise _error(text, at, "this is not understood")
        kind = str(match.lastgroup)
        found.append(_Token(kind, match[kind], match.start(kind)))
        at = match.end()
    return [*found, _Token("end", "", len(text))]


def _error(text: str, at: int, why: str) -> Rejected:
    rest = text[at : at + 20] or "the end"
    return Rejected(f"condition {text!r}: {why}, at {rest!r}")


class _Parser:
    """By recursive descent, one method for each rule of the grammar."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text, self._tokens, self._next = text, tokens, 0
        self.columns: list[str] = []

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _fail(self, why: str) -> Rejected:
        return _error(self._text, self._token.at, why)

    def _take(self, *texts: str) -> str | None:
        """The next token if it is one of these words or signs."""
        token = self._token
        if token.kind in ("op", "word") and token.text.lower() in texts:
            self._next += 1
            return token.text.lower()
        return None

    def end(self) -> None:
        if self._token.kind != "end":
            raise self._fail("`and`, `or` or the end is expected")

    def condition(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._fail(f"it is nested more than {MAX_DEPTH} deep")
        parts = [self._conjunction(depth)]
        while self._take("or"):
            parts.append(self._conjunction(depth))
        return (
            parts[0] if len(parts) == 1 else lambda rows: np.any([p(rows) for p in parts], axis=0)
        )

    def _conjunction(self, depth: int) -> Node:
        parts = [self._term(depth)]
        while self._take("and"):
            parts.append(self._term(depth))
        return (
            parts[0] if len(parts) == 1 else lambda rows: np.all([p(rows) for p in parts], axis=0)
        )

    def _term(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._fail(f"it is nested more than {MAX_DEPTH} deep")
        if self._take("not"):
            inner = self._term(depth + 1)
            return lambda rows: ~inner(rows)
        if self._take("("):
            found = self.condition(depth + 1)
            if not self._take(")"):
                raise self._fail("`)` is expected")
            return found
        return self._comparison()

    def _comparison(self) -> Node:
        column = self._column()
        if self._take("is"):
            wanted = self._take("not") is None
            if not self._take("null"):
                raise self._fail("`null` is expected")
            return lambda rows: _missing(rows, column) == wanted
        negated = self._take("not") is not None
        if self._take("in"):
            values = self._values()
            return lambda rows: _is_in(rows, column, values, negated)
        operator = None if negated else self._take(*_COMPARE)
        if operator is None:
            raise self._fail("a comparison (<, <=, >, >=, =, !=, in, is null) is expected")
        value = self._value()
        return lambda rows: _compared(rows, column, operator, value)

    def _column(self) -> str:
        token = self._token
        if token.kind == "quoted":
            name = token.text[1:-1].replace('""', '"')
        elif token.kind == "word" and token.text.lower() not in _WORDS:
            name = token.text
        else:
            raise self._fail("a column's name is expected")
        self._next += 1
        self.columns.append(name)
        return name

    def _values(self) -> list[Value]:
        if not self._take("("):
            raise self._fail("`(` is expected")
        found = [self._value()]
        while self._take(","):
            found.append(self._value())
        if not self._take(")"):
            raise self._fail("`,` or `)` is expected")
        return found

    def _value(self) -> Value:
        token = self._token
        if (word := self._take("true", "false")) is not None:
            return word == "true"
        if token.kind == "number":
            self._next += 1
            is_whole = token.text.lstrip("+-").isdigit()
            return int(token.text) if is_whole else float(token.text)
        if token.kind == "text":
            self._next += 1
            return token.text[1:-1].replace("''", "'")
        raise self._fail("a number, true, false or a text in single quotes is expected")


def column_of_input(rows: pa.Table, name: str) -> Any:
    if f"{INPUT_PREFIX}{name}" not in rows.column_names:
        inputs = (n.removeprefix(INPUT_PREFIX) for n in rows.column_names if _is_input(n))
        raise Rejected(f"there is no input {name!r}; the inputs are {listed(sorted(inputs))}")
    column = one_value(rows[f"{INPUT_PREFIX}{name}"])
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_floating(whole.type):
        return pc.if_else(pc.is_nan(whole), None, whole)
    return whole


def _is_input(name: str) -> bool:
    return name.startswith(INPUT_PREFIX)


def _missing(rows: pa.Table, name: str) -> Mask:
    return _mask(pc.is_null(column_of_input(rows, name)))


def _compared(rows: pa.Table, name: str, operator: str, value: Value) -> Mask:
    column, other = _like(column_of_input(rows, name), name, value)
    return _mask(_COMPARE[operator](column, other))


def _is_in(rows: pa.Table, name: str, values: list[Value], negated: bool) -> Mask:
    known = ~_missing(rows, name)
    found: Mask = np.any([_compared(rows, name, "=", value) for value in values], axis=0)
    return known & ~found if negated else found


def _like(column: Any, name: str, value: Value) -> tuple[Any, Any]:
    """Both as one type: numbers and booleans as float64, texts as texts."""
    if pa.types.is_null(column.type):
        column = pc.cast(column, pa.string() if isinstance(value, str) else pa.float64())
    if is_text(column.type) != isinstance(value, str):
        kind = "texts" if is_text(column.type) else f"{column.type}"
        raise Rejected(f"the input {name!r} is of {kind}, and is compared with {value!r}")
    if isinstance(value, str):
        return pc.cast(column, pa.string()), pa.scalar(value)
    if not is_number(column.type) and column.null_count < len(column):
        raise Rejected(f"the input {name!r} is {column.type}, which no condition compares")
    return pc.cast(column, pa.float64(), safe=False), pa.scalar(float(value))


def _mask(found: Any) -> Mask:
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), dtype=bool)


def quoted(name: str) -> str:
    """A column's name as a condition writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: Value) -> str:
    """A value as a condition writes it."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).lower() if isinstance(value, bool) else repr(value)
