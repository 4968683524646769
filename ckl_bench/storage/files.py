"""Files: where things live, what they hash to, and reading them within bounds."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from ckl_bench.errors import UserError
from ckl_bench.storage.json import parse_json, unsealed

LARGEST_JSON = 512 << 20  # bytes; a record of thousands of probes has a few million
LONGEST_LINE = 64 << 20


def data_dir() -> Path:
    """The folder `data/`: of the repository, or of the installed wheel."""
    return Path(str(package_files("ckl_bench_data")))


def leaderboards_dir() -> Path:
    """The folder `leaderboards/` with the committed records: of the repository, or of the installed wheel."""
    return Path(str(package_files("ckl_bench_leaderboards")))


def cache_dir() -> Path:
    """Where downloaded models and Arrow tables are kept; `CKL_BENCH_CACHE` overrides the platform's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("CKL_BENCH_CACHE") or user_cache_path("ckl-bench"))


def elsewhere(path: Path) -> str:
    """What to type where `path` cannot be written."""
    cached = path.absolute().is_relative_to(cache_dir().absolute())
    return "set CKL_BENCH_CACHE to a folder you may write to" if cached else "choose a folder you may write to"


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content, read in blocks; UserError where it cannot be read."""
    try:
        if path.exists() and not path.is_file():  # a device has no end, a pipe no content of its own
            raise UserError(f"cannot read {path}: it is no file")
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def sha256_bytes(content: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def read_json(path: Path) -> Any:
    """Parse one JSON file; one that is missing, larger than `LARGEST_JSON`, or not JSON is a UserError."""
    try:
        with open(path, "rb") as stream:
            content = stream.read(LARGEST_JSON + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if len(content) > LARGEST_JSON:
        raise UserError(f"{path} is larger than {LARGEST_JSON >> 20} MiB, which no file of ckl-bench is")
    return parse_json(content, str(path))


def read_sealed(path: Path) -> dict[str, Any]:
    """Read an object that `sealed` made, without its checksum; UserError where it is not as it was written."""
    return unsealed(read_json(path), str(path))


def read_jsonl(path: Path, *, once: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a JSON Lines file; a bad line is a UserError that names file and line.

    With `once` a line in which a key stands twice is one too; else the last value counts.
    """
    try:
        with open(path, "rb") as stream:
            for number in itertools.count(1):
                line = stream.readline(LONGEST_LINE + 1)
                if not line:
                    return
                if len(line) > LONGEST_LINE:
                    raise UserError(f"{path}:{number}: longer than {LONGEST_LINE >> 20} MiB; expected one row a line")
                if not line.strip():
                    continue
                row = parse_json(line, f"{path}:{number}", once=once)
                if not isinstance(row, dict):
                    raise UserError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
                yield number, row
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from error
