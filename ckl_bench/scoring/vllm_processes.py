"""The processes of an engine: what they say, how they are stopped, and that none of them is left."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from queue import Empty, Queue
from types import FrameType
from typing import Any, TypeVar
from uuid import uuid4

from ckl_bench.storage.stops import on_stops, put_back

_MARK = "CKL_BENCH_ENGINE"  # a variable of their environment, by which they are known
_PATIENCE = 5.0  # seconds between asking a process to end and ending it
_LOOK = 0.2  # seconds between two looks at whether they are all alive
_READ = 4 << 20  # bytes of what was said, at most
T = TypeVar("T")
_ERROR = re.compile(
    r"^(?:\([^)]*\) )*(?:ERROR \S+ \S+ \[[^\]]*\] )?"  # whose line it is, as vLLM begins each
    r"(?P<error>[A-Za-z_][\w.]*(?:Error|Exception|Exit): .+)$",
    re.MULTILINE,
)


class Said:
    """Where an engine and its processes print: aside, so that an error is one line and stdout is for the record.

    With a `VLLM_LOGGING_LEVEL` of the user's own all of it goes to stderr.
    """

    def __init__(self) -> None:
        self._loud = os.environ.get("VLLM_LOGGING_LEVEL", "ERROR") != "ERROR"
        # Neither is closed but by its last reader: loggers that were set up meanwhile keep them.
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._stderr = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, buffering=1) if _has_stderr() else None
        self._from = 0

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is printed in the block, and by processes that are started in it; our own line stays where it is."""
        if self._stderr is None:
            yield
            return
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        kept, before = {number: os.dup(number) for number in (1, 2)}, sys.stderr
        for number in kept:
            os.dup2(self._stderr.fileno() if self._loud else self._file.fileno(), number)
        sys.stderr = self._stderr
        try:
            with redirect_stdout(self._stderr if self._loud else self._file):
                yield
        finally:
            sys.stderr = before
            for number, old in kept.items():
                os.dup2(old, number)
                os.close(old)

    def mark(self) -> None:
        """What was said before has led to nothing."""
        self._from = os.fstat(self._file.fileno()).st_size

    def first_error(self) -> str:
        """The first error that was told of since the mark; empty where there is none, as of a killed process."""
        with suppress(OSError, ValueError):
            self._file.flush()
        text = os.pread(self._file.fileno(), _READ, self._from).decode(errors="replace")
        found = _ERROR.search(text)
        return found["error"].strip() if found else ""


def _has_stderr() -> bool:
    try:
        os.fstat(1)
        os.fstat(2)
    except OSError:
        return False
    return sys.stdout is not None and sys.stderr is not None


class _Stopped(BaseException):
    """A stop that was asked for. Not a KeyboardInterrupt, which vLLM drops while it awaits its processes."""


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """A signal that asks for a stop is a KeyboardInterrupt in the block, whatever an engine makes of it.

    A terminal's Ctrl-C reaches the engine's processes too, so that there is nothing left to wait for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        old = before[number]
        if callable(old):
            with suppress(KeyboardInterrupt):
                old(number, frame)
        raise _Stopped

    before = on_stops(stop)
    try:
        try:
            yield
        finally:
            put_back(before)
    except BaseException as error:
        if asked:
            raise KeyboardInterrupt from error
        raise
    if asked:  # it was raised where nobody hears it, in a finaliser
        raise KeyboardInterrupt


class _Started:
    """The processes that were started since, by whomever: a process's own name for itself hides what it was given.

    Known by a variable of their environment, which one that is left by its parent keeps; by descent, since
    setproctitle, which vLLM's processes call where it is installed, writes over that variable; and once seen, for good.
    """

    def __init__(self) -> None:
        import psutil

        self.mark = uuid4().hex
        self._us = psutil.Process()
        self._before = set(self._us.children(recursive=True))
        self._seen: set[Any] = set()

    def now(self) -> list[Any]:
        """Those that are known and have not ended."""
        import psutil

        for process in psutil.process_iter():
            if _has_mark(process, self.mark):
                self._seen.add(process)
        for root in (self._us, *self._seen):
            with suppress(psutil.Error):
                self._seen |= {process for process in root.children(recursive=True) if not _is_tracker(process)}
        self._seen -= self._before | {self._us}
        return sorted((process for process in self._seen if _alive(process)), key=lambda process: process.pid)


@contextmanager
def none_left() -> Iterator[Callable[[], list[Any]]]:
    """Every process that is started in the block, by whomever, has ended behind it; yields who they are so far."""
    started = _Started()
    os.environ[_MARK] = started.mark
    try:
        yield started.now
    finally:
        os.environ.pop(_MARK, None)
        main = threading.current_thread() is threading.main_thread()
        before = on_stops(signal.SIG_IGN) if main else {}  # a second Ctrl-C comes too early
        try:
            _end_all(started.now())
        finally:
            put_back(before)


def _end_all(left: list[Any]) -> None:
    import psutil

    for process in left:
        with suppress(psutil.Error):
            process.terminate()
    for process in psutil.wait_procs(left, timeout=_PATIENCE)[1]:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=_PATIENCE)


def while_alive(work: Callable[[], T], processes: Sequence[Any]) -> T:
    """What `work` returns, or raises; ChildProcessError where one of the processes ends meanwhile.

    vLLM awaits the answer of a killed engine for ever: the work is done in a thread, which is then left to it.
    """
    done: Queue[tuple[T | None, BaseException | None]] = Queue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:
            done.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    gone: float | None = None
    while True:
        try:
            value, error = done.get(timeout=_LOOK)
        except Empty:
            if gone is None and not all(_alive(process) for process in processes):
                gone = time.monotonic()  # it may still say why itself
            if gone is not None and time.monotonic() - gone > _PATIENCE:
                raise ChildProcessError("a process of it was killed, as where memory runs out") from None
            continue
        if error is not None:
            raise error
        return value  # type: ignore[return-value]


def _alive(process: Any) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _has_mark(process: Any, mark: str) -> bool:
    import psutil

    try:
        return process.environ().get(_MARK) == mark and not _is_tracker(process)
    except (psutil.Error, OSError):
        return False


def _is_tracker(process: Any) -> bool:
    """Whether it is Python's own tracker of shared memory, which cleans up, and stays."""
    import psutil

    try:
        return "resource_tracker" in " ".join(process.cmdline())
    except (psutil.Error, OSError):
        return False
