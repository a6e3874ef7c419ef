from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop_contracts.errors import Rejected
from driftloop_retrain.tabular.csv_file import SEPARATORS, CsvForm, is_csv, read_csv

ROWS = pa.table({"größe": [1.5, 2.25, -3.0], "ort": ["Köln", "Bonn", "Łódź, PL"], "n": [1, 2, 3]})
FORMS = [
    (separator, encoding, decimal)
    for separator in SEPARATORS
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "iso-8859-2", "windows-1252", "latin-1")
    for decimal in ".,"
    if separator != decimal
]


def written(path: Path, rows: pa.Table, separator: str, encoding: str, decimal: str) -> Path:
    def shown(value: object) -> str:
        if isinstance(value, float):
            return str(value).replace(".", decimal)
        return f'"{value}"' if isinstance(value, str) else str(value)

    lines = [separator.join(rows.column_names)]
    lines += [separator.join(map(shown, row.values())) for row in rows.to_pylist()]
    path.write_bytes("\r\n".join(lines).encode(encoding))
    return path


@pytest.mark.parametrize(("separator", "encoding", "decimal"), FORMS)
def test_every_usual_form_is_found(
    tmp_path: Path, separator: str, encoding: str, decimal: str
) -> None:
    western = encoding in ("windows-1252", "latin-1")
    rows = ROWS.slice(0, 2) if western else ROWS
    said = CsvForm(encoding=encoding) if encoding == "iso-8859-2" else CsvForm()  # not guessed
    path = written(tmp_path / "rows.csv", rows, separator, encoding, decimal)
    table, form = read_csv(path, said)
    assert table.equals(rows), form
    assert form.separator == separator


def test_a_letter_in_the_last_line_decides_the_encoding(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"a,b\n" + b"1,x\n" * 400_000 + "2,é".encode("latin-1"))
    assert read_csv(path)[0]["b"][-1].as_py() == "é"


def test_an_uneven_file_is_refused_with_how_it_was_read_and_how_to_say_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a;b\n" + "1;2\n" * 200 + "1;2;3\n")
    with pytest.raises(Rejected, match=r"semicolon-separated, utf-8.*3.*--separator"):
        read_csv(path)


@pytest.mark.parametrize(
    ("said", "names"),
    [
        (CsvForm(separator=";;"), "--separator"),
        (CsvForm(encoding="klingon"), "klingon"),
        (CsvForm(encoding="ascii"), "is not ascii"),
        (CsvForm(decimal="x"), "--decimal"),
        (CsvForm(separator=",", decimal=","), "cannot be both"),
    ],
)
def test_a_form_that_cannot_be_is_refused(tmp_path: Path, said: CsvForm, names: str) -> None:
    path = written(tmp_path / "rows.csv", ROWS.slice(0, 2), ";", "utf-8", ".")
    with pytest.raises(Rejected, match=names):
        read_csv(path, said)


def test_what_is_said_wins_over_what_is_found(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a;b\tc\n1;2\t3\n")
    assert read_csv(path, CsvForm(separator="tab"))[0].column_names == ["a;b", "c"]


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    path.write_bytes(text)
    with suppress(Rejected):
        read_csv(path)


@pytest.mark.parametrize("name", ["a.csv", "A.CSV", "a.tsv", "a.csv.gz", "a.txt"])
def test_csv_files_are_known_by_their_names(name: str) -> None:
    assert is_csv(Path(name))
    assert not is_csv(Path("a.parquet"))
