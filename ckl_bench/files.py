"""Files: where things live, hashes, and writing so that a reader never sees half a file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from ckl_bench.errors import UserError


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


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content, read in blocks."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_bytes(content: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def canonical_json(value: object) -> str:
    """JSON that is the same for equal values, whatever the order of keys: the text that gets hashed."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def sha256_json(value: object) -> str:
    """Hex SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically and durably: temporary file beside it, fsync, replace, fsync of the folder.

    Raises UserError where the folder cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose a folder you may write to") from error


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically; see `write_bytes`."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: object) -> None:
    """Write indented JSON atomically; numbers that JSON cannot hold (NaN, infinities) are refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def jsonl(rows: Iterable[object]) -> str:
    """Rows as JSON Lines text."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def read_json(path: Path) -> Any:
    """Parse one JSON file; a file that is missing or is not JSON is a UserError with its position."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not valid JSON ({error.msg})") from error


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a JSON Lines file; a bad line is a UserError that names file and line."""
    try:
        with open(path, encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise UserError(f"{path}:{number}: not valid JSON ({error.msg})") from error
                if not isinstance(row, dict):
                    raise UserError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
                yield number, row
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def require_writable(folder: Path) -> None:
    """Make sure that `folder` can be made and written to, making nothing; UserError where it cannot."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        reason = "is not a folder" if not place.is_dir() else "may not be written to"
        raise UserError(f"cannot write to the output folder {folder}: {place} {reason}; give another --output or --out")


def refuse_existing(target: Path) -> None:
    """UserError where `target` is there already (an empty folder is not), or where it could not be made."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} exists already; give another --out, or remove it first")
    require_writable(target.absolute().parent)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder that appears at `target` whole or not at all: filled beside it, then renamed into place.

    Raises UserError where `target` exists already or its parent cannot be written.
    """
    refuse_existing(target)
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.absolute().parent))
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        if target.exists():
            target.rmdir()
        os.replace(temporary, target)
        _sync_folder(target.absolute().parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
