"""Who may write what: a lock that dies with its holder, whatever way that one ends."""

from __future__ import annotations

import fcntl
import io
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ckl_bench.errors import UserError


@contextmanager
def locked(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock `path`, a file that is there only as long as it is held.

    Raises UserError with the holder where another process has it, unless `wait` says to wait for its turn.
    """
    file = _lock_file(path, what, wait)
    try:
        with suppress(OSError):  # the lock holds on a full disk too, without its holder's name
            file.truncate(0)
            file.write(
                f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode()
            )
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is still held, so that nobody else's is taken away
        with suppress(OSError):  # it is closed and free, whatever a disk says to that
            file.close()


def _lock_file(path: Path, what: str, wait: bool) -> io.FileIO:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = io.FileIO(path, "a+b")
        except FileNotFoundError:
            continue  # another process has just removed the folder, which was empty
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror or error}; choose a folder you may write to"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        except BlockingIOError as error:
            file.seek(0)
            held = file.readall().decode(errors="replace").strip() or "another process"
            file.close()
            raise UserError(f"{what} is running already, by {held}; wait for it, or stop it first") from error
        file.close()  # its holder has removed it meanwhile: it locks nothing any more
