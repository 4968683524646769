"""Writing files and folders so that a reader never sees half of one, and what stood there is not lost by a failure."""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ckl_bench.errors import UserError
from ckl_bench.storage.files import elsewhere
from ckl_bench.storage.json import json_text
from ckl_bench.storage.locks import locked, turn


def unwritable(path: Path, error: OSError) -> UserError:
    """What to say where a file or folder could not be written."""
    return UserError(f"cannot write {path}: {error.strerror or error}; free space, or {elsewhere(path)}")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically and durably: temporary file beside it, fsync, replace, fsync of the folder.

    Raises UserError where it cannot be written; what was there before is then as it was.
    """
    write_files({path: content})


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically; see `write_bytes`."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: object) -> None:
    """Write indented JSON atomically; numbers that JSON cannot hold (NaN, infinities) are refused."""
    write_text(path, json_text(value))


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write several files, each as `write_bytes` does; none gets its name before all have been written in full.

    Two processes that write the same file take turns, for they would make it under the same temporary name.
    """
    path, begun = Path(), set()
    with ExitStack() as turns:
        try:
            for path in sorted(contents):  # in one order, so that no two wait for each other
                path.parent.mkdir(parents=True, exist_ok=True)
                turns.enter_context(turn(_temporary(path)))
            for path, content in contents.items():
                begun.add(path)
                _write(_temporary(path), content)
            _rename(list(contents))
            for folder in {path.parent for path in contents}:
                _sync(folder)
        except OSError as error:
            for unfinished in begun:
                _temporary(unfinished).unlink(missing_ok=True)
            raise unwritable(path, error) from error


def _write(path: Path, content: bytes) -> None:
    stream = io.FileIO(path, "wb")
    try:
        left = memoryview(content)
        while left:
            written = stream.write(left)
            if not written:  # a file system that takes nothing, and does not say why
                raise OSError(errno.EIO, "nothing is written")
            left = left[written:]
        os.fsync(stream.fileno())
        if hasattr(os, "fchmod"):  # Windows has no such rights
            os.fchmod(stream.fileno(), 0o644)
    finally:
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


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # where a folder cannot be opened, and needs no sync of its own
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    """Where a file or folder is made. One name for each, so that what a killed process has left is used again."""
    return path.with_name(f".{path.name}.tmp")


def require_writable(folder: Path) -> None:
    """Make sure that `folder` can be made and written to, leaving nothing; UserError where it cannot."""
    place = folder.absolute()
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "is not a folder")
        with tempfile.TemporaryFile(dir=place):  # rights, quotas and read-only disks are known by trying alone
            pass
    except OSError as error:
        # tempfile takes every refusal of a folder for a name that is taken, until it has no more names to try.
        reason = "may not be written to" if isinstance(error, FileExistsError) else error.strerror or error
        raise UserError(
            f"cannot write to the output folder {folder}: {place}: {reason}; give another --output or --out"
        ) from error


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
