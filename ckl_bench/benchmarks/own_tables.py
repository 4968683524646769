"""Tables as people have them (CSV, JSON Lines, Parquet) -> rows with their line number, refused in one line each."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ckl_bench.errors import UserError
from ckl_bench.progress import log
from ckl_bench.storage.files import LONGEST_LINE, read_jsonl

Rows = Iterator[tuple[int, dict[str, Any]]]  # line number from 1 (of a Parquet file: the row's), the cells by column
BOM = b"\xef\xbb\xbf"
_WIDE = (b"\xff\xfe", b"\xfe\xff")


def read_table(path: Path, expected: Sequence[str]) -> Rows:
    """The rows of a `.csv`, `.tsv`, `.jsonl` or `.parquet` file; `expected` are the columns that an error names.

    Raises UserError with file and line for whatever is not such a file: another encoding or separator, a row with
    more or fewer cells than the header, a line beyond all bounds.
    """
    readers: Mapping[str, Callable[[], Rows]] = {
        ".csv": lambda: _read_csv(path, ",", expected),
        ".tsv": lambda: _read_csv(path, "\t", expected),
        ".jsonl": lambda: _read_jsonl(path),
        ".ndjson": lambda: _read_jsonl(path),
        ".parquet": lambda: _read_parquet(path),
    }
    if not path.exists():
        raise UserError(f"{path} does not exist; expected a .csv, .jsonl or .parquet file")
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: expected a .csv, .tsv, .jsonl or .parquet file; save it as one of these")
    return readers[path.suffix.lower()]()


def known_columns(found: Sequence[str], known: Sequence[str], where: str) -> None:
    """UserError for a column that may be one of `known` with a slip of the pen; a note of others that are not read."""
    for name in found:
        close = difflib.get_close_matches(name.strip().lower(), known, n=1, cutoff=0.75)
        if name not in known and close and close[0] not in found:
            raise UserError(f"{where}: unknown column '{name}'; rename it '{close[0]}' (known: {', '.join(known)})")
    unread = [name for name in found if name not in known]
    if unread:
        log(f"note: {where}: columns that are not read: {', '.join(unread)}")


def _read_jsonl(path: Path) -> Rows:
    with _opened(path) as stream:
        head = stream.read(4)
    _encoding(path, head)
    if head.lstrip(BOM).lstrip()[:1] == b"[":
        raise UserError(f"{path} is one JSON array; write one object a line (JSON Lines)")
    if head.startswith(BOM):
        raise UserError(f"{path} begins with a byte-order mark, which JSON has not; save it as UTF-8 without BOM")
    return read_jsonl(path)


def _read_csv(path: Path, delimiter: str, expected: Sequence[str]) -> Rows:
    reader = csv.reader(_lines(path), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(LONGEST_LINE)
    try:
        header = [name.strip() for name in next(reader, [])]
        if not header:
            raise UserError(f"{path} is empty; its first line names the columns: {', '.join(expected)}")
        other = next((sep for sep in (";", "\t", "|", ",") if sep != delimiter and sep in header[0]), None)
        if len(header) == 1 and other:
            shown = {"\t": "tabs"}.get(other, f"'{other}'")
            wanted = "commas" if delimiter == "," else "tabs"
            raise UserError(f"{path}:1: the columns are separated by {shown}; save it with {wanted} between them")
        twice = next((name for name in header if header.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"{path}:1: two columns are named '{twice}'; rename one of them")
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                if len(cells) != len(header):
                    raise UserError(
                        f"{path}:{line}: {len(cells)} cells, but the header has {len(header)}; "
                        f'put a text with a comma in it between quotes ("...")'
                    )
                yield line, dict(zip(header, cells, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        advice = 'close every quote, and write one within a text as ""'
        raise UserError(f"{path}:{reader.line_num}: {error}; {advice}") from error
    finally:
        csv.field_size_limit(limit)


def _lines(path: Path) -> Iterator[str]:
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
                _encoding(path, line)
                if line.startswith(BOM):
                    log(f"note: {path} begins with a byte-order mark, which is left out")
                    line = line[len(BOM) :]
                if b"\r" in line.rstrip(b"\r\n"):
                    raise UserError(f"{path}: its lines end in CR alone; save it with line feeds (LF)")
            yield utf8(line, f"{path}:{number}")


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"cannot read {path}: it is no file")
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _encoding(path: Path, head: bytes) -> None:
    if head.startswith(_WIDE):
        raise UserError(f"{path} is UTF-16; save it as UTF-8 (iconv -f utf-16 -t utf-8 {path.name})")


def utf8(content: bytes, where: str) -> str:
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
        number = 0
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot read {path} as Parquet: {reason[:200]}; write it again") from error
