"""Tables as people have them (CSV, JSON Lines, Parquet) -> rows with their line number, refused in one line each."""

from __future__ import annotations

import csv
import difflib
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ckl_bench.errors import UserError, first_line
from ckl_bench.progress import log
from ckl_bench.storage.files import LONGEST_LINE, read_jsonl

Rows = Iterator[tuple[int, dict[str, Any]]]  # line number from 1 (of a Parquet file: the row's), the cells by column
Note = Callable[[str], None]  # takes what is to be said where nothing is wrong
BOM = b"\xef\xbb\xbf"
_OTHERS = {
    b"%PDF": "a PDF",
    b"{\\rtf": "RTF",
    b"\x1f\x8b": "compressed",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
_WIDE = {"utf-32": (b"\xff\xfe\0\0", b"\0\0\xfe\xff"), "utf-16": (b"\xff\xfe", b"\xfe\xff")}


def read_table(path: Path, expected: Sequence[str], note: Note = log) -> Rows:
    """The rows of a `.csv`, `.tsv`, `.jsonl` or `.parquet` file; `expected` are the columns that an error names.

    `note` is told what is left out. Raises UserError with file and line for whatever is not such a file: another
    encoding or separator, a row with more or fewer cells than the header, a line beyond all bounds.
    """
    readers: Mapping[str, Callable[[], Rows]] = {
        ".csv": lambda: _read_csv(path, ",", expected, note),
        ".tsv": lambda: _read_csv(path, "\t", expected, note),
        ".jsonl": lambda: _read_jsonl(path),
        ".ndjson": lambda: _read_jsonl(path),
        ".parquet": lambda: _read_parquet(path),
    }
    if not path.exists():
        raise UserError(f"{path} does not exist; expected a .csv, .jsonl or .parquet file")
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: expected a .csv, .tsv, .jsonl or .parquet file; save it as one of these")
    return readers[path.suffix.lower()]()


def known_columns(found: Sequence[str], known: Sequence[str], where: str, note: Note | None) -> None:
    """UserError for a column that may be one of `known` with a slip of the pen; a note of others that are not read."""
    for name in found:
        close = difflib.get_close_matches(name.strip().lower(), known, n=1, cutoff=0.75)
        if name not in known and close and close[0] not in found:
            raise UserError(f"{where}: unknown column '{name}'; rename it '{close[0]}' (known: {', '.join(known)})")
    unread = [name for name in found if name and name not in known]
    if unread and note:
        note(f"note: {where}: columns that are not read: {', '.join(unread)}")


def _read_jsonl(path: Path) -> Rows:
    with _opened(path) as stream:
        head = stream.read(4)
    encoding(path, head)
    if head.lstrip(BOM).lstrip()[:1] == b"[":
        raise UserError(f"{path} is one JSON array; write one object a line (JSON Lines)")
    if head.startswith(BOM):
        raise UserError(f"{path} begins with a byte-order mark, which JSON has not; save it as UTF-8 without BOM")
    try:
        yield from read_jsonl(path, once=True)
    except UserError as error:
        raise UserError(f"{error}; write one JSON object a line, in UTF-8") from error


def _read_csv(path: Path, delimiter: str, expected: Sequence[str], note: Note) -> Rows:
    reader = csv.reader(_lines(path, note), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(LONGEST_LINE)
    line = 1  # where the row begins that is read
    try:
        header = [name.strip() for name in next((cells for cells in reader if cells), [])]
        first = reader.line_num
        if not any(header):
            raise UserError(f"{path} is empty; its first line names the columns: {', '.join(expected)}")
        if header[0].startswith("sep="):
            raise UserError(f"{path}:{first}: '{header[0]}' names no columns; remove this line")
        if header[0].startswith(("{", "[")):
            raise UserError(f"{path}:{first}: is JSON and no CSV; save it as .jsonl, one object a line")
        _separated(header, delimiter, f"{path}:{first}")
        twice = next((name for name in header if name and header.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"{path}:{first}: two columns are named '{twice}'; rename one of them")
        line = reader.line_num + 1
        for cells in reader:
            if len(cells) == 1 or any(map(str.strip, cells)):  # spreadsheets leave rows of nothing at the end
                if len(cells) != len(header):
                    _separated(cells, delimiter, f"{path}:{line}")
                    if len(header) == 1:
                        raise UserError(
                            f"{path}:{first}: names one column ('{header[0][:60]}') for rows of {len(cells)} cells; "
                            f"the first line names all columns: {', '.join(expected)}"
                        )
                    if any(cell.strip().startswith(tuple("“„«”")) for cell in cells):
                        raise UserError(f'{path}:{line}: quotes around a cell are straight ones ("); replace “ and ”')
                    more = 'put a text with a comma in it between quotes ("...")'
                    advice = more if len(cells) > len(header) else "write one for every column, also an empty one"
                    count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
                    raise UserError(f"{path}:{line}: {count}, but the header has {len(header)}; {advice}")
                yield line, dict(zip(header, cells, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{line}: {_no_row(str(error))}") from error
    finally:
        csv.field_size_limit(limit)


def _no_row(error: str) -> str:
    """What is wrong with a row that the reader of CSV does not take, and what to do."""
    if "new-line" in error:
        return "has a carriage return (CR) within a row; save the file with line feeds (LF)"
    if "end of data" in error:
        return (
            'a quote that is opened in this row is never closed; close every quote, and write one within a text as ""'
        )
    return f'in the row that begins here: {error}; close every quote, and write one within a text as ""'


def _separated(cells: Sequence[str], delimiter: str, where: str) -> None:
    """UserError for a row that is one cell, since its columns are separated by another sign."""
    other = next((sep for sep in (";", "\t", "|", ",") if sep != delimiter and sep in cells[0]), None)
    if len(cells) == 1 and other:
        shown = {"\t": "tabs"}.get(other, f"'{other}'")
        wanted = "commas" if delimiter == "," else "tabs"
        raise UserError(f"{where}: the columns are separated by {shown}; save it with {wanted} between them")


def _lines(path: Path, note: Note) -> Iterator[str]:
    """The lines of a text file, none of them longer than memory would bear. UserError for what is not UTF-8."""
    with _opened(path) as stream:
        number = 0
        while line := stream.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise UserError(
                    f"{path}:{number}: longer than {LONGEST_LINE >> 20} MiB; expected one row a line: "
                    "break it into rows, or cut what is no text out of it"
                )
            if number == 1:
                encoding(path, line)
                if line.startswith(BOM):
                    note(f"note: {path} begins with a byte-order mark, which is left out")
                    line = line[len(BOM) :]
                if b"\r" in line.rstrip(b"\r\n") and b"\0" not in line:
                    raise UserError(f"{path}: its lines end in CR alone; save it with line feeds (LF)")
            yield decoded(line, f"{path}:{number}")


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"cannot read {path}: it is no file; give a .csv, .tsv, .jsonl or .parquet file")
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def encoding(path: Path, head: bytes) -> None:
    """UserError where a file's first bytes say that it is no UTF-8 text."""
    for name, marks in _WIDE.items():
        if head.startswith(marks):
            raise UserError(f"{path} is {name.upper()}; save it as UTF-8 (iconv -f {name} -t utf-8 {path.name})")
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise UserError(
            f"{path} is a Word file, a spreadsheet or an archive; save what it says as text (tables: CSV) in UTF-8"
        )
    kind = next((kind for mark, kind in _OTHERS.items() if head.startswith(mark)), None)
    if kind is not None:
        raise UserError(f"{path} is {kind}, and no plain text; save what it says as text in UTF-8")


def blank(text: str) -> bool:
    """Whether nothing of a text can be seen: spaces of every kind, and signs without a width."""
    return all(unicodedata.category(sign) in ("Zs", "Zl", "Zp", "Cc", "Cf") for sign in text)


def one_form(name: str) -> str:
    """A name without blanks around it, its letters composed (NFC): some file systems take them apart."""
    return unicodedata.normalize("NFC", name).strip()


def decoded(content: bytes, where: str) -> str:
    """Bytes as text; UserError for another encoding, and for characters that are no text."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: byte 0x{content[error.start]:02x} is not UTF-8, which looks like Latin-1 or Windows-1252; "
            "save the file as UTF-8 (iconv -f windows-1252 -t utf-8)"
        ) from error
    if "\0" in text:
        raise UserError(f"{where}: holds NUL characters, so it is no text; give plain text in UTF-8")
    return text


def _read_parquet(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        batches = file.iter_batches(batch_size=256)
    except (pa.ArrowException, OSError) as error:
        raise _no_parquet(path, error) from error
    names = file.schema_arrow.names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: two columns are named '{twice}'; rename one of them")
    number = 0
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise _no_parquet(path, error) from error
        if batch is None:
            return
        columns = [_cells(path, name, column) for name, column in zip(names, batch.columns, strict=True)]
        for cells in zip(*columns, strict=True):
            number += 1
            yield number, dict(zip(names, cells, strict=True))


def _no_parquet(path: Path, error: Exception) -> UserError:
    return UserError(f"cannot read {path} as Parquet: {first_line(error)[:200]}; write it again")


def _cells(path: Path, name: str, column: Any) -> list[Any]:
    """A column's values; UserError for what Python has no value for: other bytes than UTF-8, dates beyond its years."""
    try:
        return list(column.to_pylist())
    except (ValueError, ArithmeticError, LookupError) as error:  # the last for a time zone that there is none of
        raise UserError(
            f"{path}: column '{name}' cannot be read ({type(error).__name__}: {first_line(error)[:200]}); write it as "
            "text, or leave it out"
        ) from error


def heading(path: Path, where: str) -> str:
    """Where the columns are named of which a row at `where` lacks one: in CSV the first line, in JSON the row."""
    suffix = path.suffix.lower()
    return f"{path}:1" if suffix in (".csv", ".tsv") else str(path) if suffix == ".parquet" else where


def whole(value: object) -> object:
    """A float as the integer that it is, none for NaN: so are whole numbers stored in a column that has gaps."""
    if isinstance(value, float):
        return None if value != value else int(value) if value.is_integer() and abs(value) < 2**53 else value
    return value
