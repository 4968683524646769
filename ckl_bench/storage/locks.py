"""Who may write what: a lock that dies with its holder, whatever way that one ends.

The lock itself is filelock's: `flock` where the disk has it, a file with its holder's host and process where it has
not (Lustre, some NFS). A second file beside it says who holds it, for the one who finds it held.
"""

from __future__ import annotations

import errno
import io
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ckl_bench.errors import Busy, UserError
from ckl_bench.progress import log
from ckl_bench.storage.files import elsewhere

if TYPE_CHECKING:
    from filelock import BaseFileLock

POLL = 0.02  # seconds between two looks at a lock that another process holds
PATIENCE = 10.0  # seconds of waiting after which it is said for whom
TRIES = 50  # for a lock that nobody holds and that still cannot be had
_NO_FLOCK = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}
_CLOCK = "%Y-%m-%d %H:%M:%S"
_WITHOUT: set[Path] = set()  # folders on a disk without flock, as this process has found out


@contextmanager
def locked(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock `path`, a file that is there only as long as it is held.

    Raises Busy with the holder where another process has it, unless `wait` says to wait for its turn, and UserError
    where the lock cannot be made.
    """
    holder = _beside(path, "holder")
    with _held(path, what, wait):
        try:
            file = io.FileIO(holder, "wb")
        except OSError as error:
            raise _unlockable(holder, error) from error
        try:
            with suppress(OSError):  # the lock holds on a full disk too, without its holder's name
                file.write(f"process {os.getpid()} on {platform.node()} since {time.strftime(_CLOCK)}".encode())
            with suppress(OSError):
                file.close()
            yield
        finally:
            holder.unlink(missing_ok=True)


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait for one's turn to write the file `path`, which takes moments. Raises UserError as `locked` does."""
    with _held(path.with_name(f"{path.name}.lock"), f"the writing of {path}", True):
        yield


@contextmanager
def _held(path: Path, what: str, wait: bool) -> Iterator[None]:
    lock, file = _acquired(path, what, wait)
    try:
        yield
    finally:
        with suppress(OSError):  # while it is still held, so that nobody else's is taken away; Windows does it itself
            file.unlink(missing_ok=True)
        lock.release()


def _acquired(path: Path, what: str, wait: bool) -> tuple[BaseFileLock, Path]:
    """The lock and its file. Its folder or file may go away at any moment, since those before us tidy up: tried again,
    but not for ever, since there are folders in which no file can be made, whatever is tried (`/proc`)."""
    from filelock import FileLock, SoftFileLock, Timeout

    error: Exception = OSError(errno.EAGAIN, "its lock cannot be had")
    tries, patient = 0, time.monotonic() + PATIENCE
    while tries < TRIES:
        soft = path.parent.absolute() in _WITHOUT
        file = _beside(path, "soft") if soft else path
        lock = SoftFileLock(file) if soft else FileLock(file, fallback_to_soft=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
            return lock, file
        except Timeout:
            if file.exists():
                if not wait:
                    raise Busy(f"{_running(path, file, what)}; wait for it, or stop it first") from None
                if time.monotonic() > patient:
                    log(f"note: {_running(path, file, what)}; this command waits for it")
                    patient = float("inf")
                time.sleep(POLL)
                continue  # it is somebody's, who may take as long as it takes
        except FileNotFoundError as missing:  # another process has just removed the folder, which was empty
            error = missing
        except OSError as refused:
            if soft or refused.errno not in _NO_FLOCK:
                raise _unlockable(path, refused) from refused
            _give_up_flock(path, refused)
        tries += 1
        time.sleep(min(POLL, 0.0005 * 2**tries))
    raise _unlockable(path, error) from error


def _give_up_flock(path: Path, error: OSError) -> None:
    """Lock by files alone in this folder from now on."""
    with suppress(OSError):
        path.unlink(missing_ok=True)  # which nobody can lock
    _WITHOUT.add(path.parent.absolute())
    log(
        f"note: the disk of {path.parent} has no flock ({error.strerror}): its locks are files that name host and "
        "process; one of a process that is gone on another host has to be removed by hand"
    )


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name.removesuffix('.lock')}.{kind}.lock")


def _running(path: Path, file: Path, what: str) -> str:
    """Who holds a lock, in words; it may have been taken only just now."""
    held = ""
    for _ in range(5):
        with suppress(OSError):
            held = _beside(path, "holder").read_text(encoding="utf-8", errors="replace").strip()
        if held:
            break
        time.sleep(POLL)
    gone = f" (if it is gone, remove {file})" if file != path else ""
    return f"{what} is running already, by {held or 'another process'}{gone}"


def _unlockable(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or str(error)
    return UserError(f"cannot write {path}: {reason}; {elsewhere(path)}")
