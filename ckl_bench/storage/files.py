"""Files: where things live, hashes, and writing so that a reader never sees half a file."""

from __future__ import annotations

import fcntl
import hashlib
import io
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from ckl_bench.errors import UserError
from ckl_bench.storage.locks import locked

LARGEST_JSON = 512 << 20  # bytes; a record of thousands of probes has a few million
LONGEST_LINE = 64 << 20
CHECKSUM = "checksum"


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
    """Hex SHA-256 of a file's content, read in blocks; UserError where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def sha256_bytes(content: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def canonical_json(value: object) -> str:
    """JSON that is the same for equal values, whatever the order of keys: the text that gets hashed."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def sha256_json(value: object) -> str:
    """Hex SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritable(path: Path, error: OSError) -> UserError:
    """What to say where a file or folder could not be written."""
    return UserError(f"cannot write {path}: {error.strerror or error}; free space, or choose another folder")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically and durably: temporary file beside it, fsync, replace, fsync of the folder.

    Raises UserError where it cannot be written; what was there before is then as it was.
    """
    write_files({path: content})


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write several files, each as `write_bytes` does; none gets its name before all have been written in full."""
    path, held = Path(), {}
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            held[path] = stream = _own(_temporary(path))
            stream.truncate(0)
            left = memoryview(content)
            while left:
                left = left[stream.write(left) :]
            os.fsync(stream.fileno())
            os.fchmod(stream.fileno(), 0o644)
        _rename(list(contents))
        for folder in {path.parent for path in contents}:
            _sync(folder)
    except OSError as error:
        for unfinished in held:
            _temporary(unfinished).unlink(missing_ok=True)
        raise unwritable(path, error) from error
    finally:
        for stream in held.values():
            with suppress(OSError):  # what it holds is on the disk by now, or given up
                stream.close()


def _rename(paths: Sequence[Path]) -> None:
    """Give files their names, all or none: where one fails, those before it get their old content back."""
    olds = {path: path.with_name(f".{path.name}.old") for path in paths[:-1] if path.exists()}
    done: list[Path] = []
    try:
        for path, old in olds.items():
            old.unlink(missing_ok=True)
            try:
                os.link(path, old)
            except OSError:  # a file system without links
                shutil.copyfile(path, old)
        for path in paths:
            os.replace(_temporary(path), path)
            done.append(path)
    except OSError:
        for path in done:
            if path in olds:
                os.replace(olds[path], path)
            else:
                path.unlink(missing_ok=True)
        raise
    finally:
        for old in olds.values():
            old.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Where a file or folder is made. One name for each, so that what a killed process has left is used again."""
    return path.with_name(f".{path.name}.tmp")


def _own(temporary: Path) -> io.FileIO:
    """A temporary file that no other process is writing: it waits for its turn."""
    while True:
        stream = io.FileIO(temporary, "ab")
        fcntl.flock(stream, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), os.stat(temporary)):
                return stream
        stream.close()  # it got its name meanwhile


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically; see `write_bytes`."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: object) -> None:
    """Write indented JSON atomically; numbers that JSON cannot hold (NaN, infinities) are refused."""
    write_text(path, json_text(value))


def json_text(value: object) -> str:
    """A value as `write_json` writes it."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def jsonl(rows: Iterable[object]) -> str:
    """Rows as JSON Lines text."""
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def parse_json(text: str | bytes, where: str) -> Any:
    """JSON as the standard has it: no NaN, nothing nested without end, no half characters.

    Raises UserError that begins with `where`.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        if b"\\ud" in (text if isinstance(text, bytes) else text.encode()).lower():
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair can be written, but is no text
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON ({error.msg})") from error
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise UserError(f"{where}: not valid UTF-8 ({error.reason})") from error
    except RecursionError as error:
        raise UserError(f"{where}: nested too deeply") from error
    except ValueError as error:  # a number of thousands of digits, NaN
        raise UserError(f"{where}: not valid JSON ({error})") from error
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:20]} is too large")
    return number


def read_json(path: Path) -> Any:
    """Parse one JSON file; one that is missing, larger than `LARGEST_JSON`, or not JSON is a UserError."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise UserError(f"{path} is larger than {LARGEST_JSON >> 20} MiB, which no file of ckl-bench is")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return parse_json(content, str(path))


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object with a checksum of its content, which `read_sealed` verifies."""
    return {**value, CHECKSUM: sha256_json(value)}


def read_sealed(path: Path) -> dict[str, Any]:
    """Read an object that `sealed` made, without its checksum; UserError where it is not as it was written."""
    value = read_json(path)
    if not isinstance(value, dict) or CHECKSUM not in value:
        raise UserError(f"{path} has no {CHECKSUM}, so it was not written by this version; make it again")
    found = value.pop(CHECKSUM)
    if found != sha256_json(value):
        raise UserError(f"{path} is not as it was written (its {CHECKSUM} differs); restore it or make it again")
    return value


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a JSON Lines file; a bad line is a UserError that names file and line."""
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
                row = parse_json(line, f"{path}:{number}")
                if not isinstance(row, dict):
                    raise UserError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
                yield number, row
    except OSError as error:
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

    Two processes that make the same one take turns, and the second finds it there. Raises UserError where `target`
    exists already or cannot be written.
    """
    temporary = _temporary(target.absolute())
    with locked(target.absolute().with_name(f".{target.name}.making"), f"the making of {target}", wait=True):
        refuse_existing(target)
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        try:
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _sync(file)
            if target.exists():
                target.rmdir()
            os.replace(temporary, target)
            _sync(target.absolute().parent)
        except OSError as error:
            raise unwritable(target, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
