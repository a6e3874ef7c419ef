"""Reads CSV files as other programs write them: separator, encoding and decimal mark are detected
unless given.

Detection: the encoding by a byte order mark or valid UTF-8, otherwise Windows-1252, which includes
Latin-1; the separator as the one that splits the first lines into the same number of fields; a
decimal comma if the fields contain numbers with a comma and none with a point.
"""

import codecs
import contextlib
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path

import pyarrow as pa

from driftloop_contracts.errors import Rejected

ENDINGS = (".csv", ".tsv", ".txt")
SEPARATORS = (",", ";", "\t", "|")
_WORDS = {"tab": "\t", "\\t": "\t"}
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WESTERN = "windows-1252"
_SAMPLE_LINES = 100
_PIECE_BYTES = 1 << 20
_WITH_COMMA, _WITH_POINT = re.compile(r"[+-]?\d+,\d+"), re.compile(r"[+-]?\d+\.\d+")


@dataclass(frozen=True, slots=True)
class CsvForm:
    """The format of a CSV file; None: to be detected. separator: one character; encoding: a name
    known to Python; decimal: "." or ","."""

    separator: str | None = None
    encoding: str | None = None
    decimal: str | None = None

    def words(self) -> str:
        separator = self.separator or ""
        found = [f"{_NAMES.get(separator, repr(separator))}-separated", str(self.encoding)]
        return ", ".join(found + (["decimal commas"] if self.decimal == "," else []))


FOUND = CsvForm()
"""Everything is detected."""
USUAL = (CsvForm(",", "utf-8", "."), CsvForm(",", "utf-8-sig", "."))


def is_csv(path: Path) -> bool:
    """Whether the name is that of a CSV file, possibly compressed."""
    name = path.name.lower().removesuffix(".gz").removesuffix(".zst").removesuffix(".bz2")
    return name.endswith(ENDINGS)


def read_csv(path: Path, said: CsvForm = FOUND) -> tuple[pa.Table, CsvForm]:
    """Return the file's rows and the format used. Raises OSError, and Rejected with the format that
    was tried and the options to change it."""
    from pyarrow import csv as arrow_csv

    form = found_form(path, said)
    try:
        table = arrow_csv.read_csv(
            path,
            read_options=arrow_csv.ReadOptions(encoding=str(form.encoding)),
            parse_options=arrow_csv.ParseOptions(delimiter=form.separator, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(decimal_point=form.decimal),
        )
    except (pa.ArrowInvalid, UnicodeError) as error:
        why = str(error).partition("\n")[0]
        raise Rejected(
            f"{path.name}, read as {form.words()}: {why}; set --separator, --encoding or --decimal "
            "if that is wrong"
        ) from None
    return table, form


def found_form(path: Path, said: CsvForm = FOUND) -> CsvForm:
    """Complete the given format by detection. Raises Rejected for an impossible format."""
    given = _WORDS.get(said.separator or "", said.separator)
    if given is not None and len(given) != 1:
        raise Rejected(f"--separator {given!r}: must be one character, or tab")
    if said.decimal not in (None, ".", ","):
        raise Rejected(f"--decimal {said.decimal!r}: must be '.' or ','")
    encoding = said.encoding or _encoding(path)
    try:
        lines = list(islice(_lines(path, encoding), _SAMPLE_LINES))
    except LookupError:
        raise Rejected(f"--encoding {encoding!r}: there is no such encoding") from None
    except UnicodeError:
        raise Rejected(f"{path.name} is not {encoding}; set --encoding") from None
    separator = given or _separator(lines)
    decimal = said.decimal or _decimal(lines, separator)
    if decimal == separator:
        raise Rejected(f"{separator!r} cannot be both the separator and the decimal mark")
    return CsvForm(separator, encoding, decimal)


def _encoding(path: Path) -> str:
    """Detect the encoding. Reads the whole file, because the first non-ASCII character may be in
    its last line."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with pa.input_stream(str(path)) as file:
        piece = file.read(_PIECE_BYTES)
        for mark, encoding in _MARKS:
            if piece.startswith(mark):
                return encoding
        try:
            while piece:
                decoder.decode(piece)
                piece = file.read(_PIECE_BYTES)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return _WESTERN
    return "utf-8"


def _lines(path: Path, encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    rest = ""
    with pa.input_stream(str(path)) as file:
        while piece := file.read(_PIECE_BYTES):
            *lines, rest = (rest + decoder.decode(piece)).splitlines(keepends=True) or [""]
            yield from lines
    if rest := rest + decoder.decode(b"", final=True):
        yield rest


def _rows(lines: list[str], separator: str) -> list[list[str]]:
    """Parse the lines, stopping at the first error."""
    rows = []
    with contextlib.suppress(csv.Error):
        for row in csv.reader(StringIO("".join(lines), newline=""), delimiter=separator):
            rows += [row] if row else []
    return rows


def _separator(lines: list[str]) -> str:
    """Return the separator that gives the most fields, with the same number in nearly all lines."""

    def worth(separator: str) -> tuple[bool, int]:
        counts = [len(row) for row in _rows(lines, separator)]
        usual = max(set(counts), key=counts.count, default=1)
        return counts.count(usual) >= 0.9 * len(counts) and usual > 1, usual

    return max(SEPARATORS, key=worth)


def _decimal(lines: list[str], separator: str) -> str:
    if separator == ",":
        return "."
    fields = [field.strip() for row in _rows(lines, separator)[1:] for field in row]
    commas = any(_WITH_COMMA.fullmatch(field) for field in fields)
    points = any(_WITH_POINT.fullmatch(field) for field in fields)
    return "," if commas and not points else "."
