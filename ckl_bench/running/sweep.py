"""A sweep: what is not finished is started, watched, and started again where it failed or was lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from ckl_bench.errors import UserError
from ckl_bench.learning.keep import require_kept
from ckl_bench.learning.tasks import tell_lacking
from ckl_bench.records import Record
from ckl_bench.results.output import finished, update_tables
from ckl_bench.running.heard import Heard
from ckl_bench.running.task import Executor, Task
from ckl_bench.running.work import ended
from ckl_bench.storage.locks import locked
from ckl_bench.storage.stops import on_stops, put_back
from ckl_bench.storage.writing import unwritable

PAUSE = 0.1  # seconds between two looks
LOSSES = 3  # a run whose process or node is lost is started again so often, for nothing about it need be wrong
BUSY = 5.0  # seconds until a run that another process is at is tried again
PATIENCE = 120.0  # seconds after which that is a failure: what a dead sweep has left behind ends sooner

Stand = Literal["waiting", "running", "done", "failed", "stopped"]


@dataclass
class Run:
    """A run of a sweep, as whoever looks at it sees it."""

    task: Task
    state: Stand = "waiting"
    heard: Heard | None = None
    told_at: float = 0.0  # when that was, by time.monotonic()
    before: bool = False  # finished by an earlier command
    failures: int = 0
    losses: int = 0
    error: str = ""  # why it has failed, or is tried again
    earliest: float = 0.0  # not to be started before, by time.monotonic()
    busy_since: float | None = None

    def left(self) -> float | None:
        """Seconds that it still takes, as far as it is known."""
        if self.state != "running" or self.heard is None or self.heard.left is None:
            return None
        return max(self.heard.left - (time.monotonic() - self.told_at), 0.0)


class Board:
    """Whoever shows a sweep; the methods do nothing, so that one may have only those that it needs."""

    def begin(self, runs: Sequence[Run]) -> None:
        """All runs, before the first is started."""

    def changed(self, run: Run) -> None:
        """A run has another state, or has told something."""

    def look(self) -> None:
        """Time has passed."""

    def end(self) -> None:
        """Nothing runs any more."""


def sweep(
    tasks: Sequence[Task], output: Path, make: Callable[[Path], Executor], board: Board, retries: int = 0
) -> list[Run]:
    """Carry out tasks whose records go to `output`; finished ones are left alone. All of them, in their order.

    `make` gives the executor, whose own files go into the folder that it is given: what runs tell, and what those that
    failed have printed. A run that fails is started again `retries` times; one that is lost `LOSSES` times or
    `retries`, if that is more.
    Raises UserError where another sweep into this output is under way; KeyboardInterrupt, once all runs are saved,
    where it is asked to stop; a second time asked, it does not wait for that.
    """
    runs = [Run(task) for task in tasks]
    asked: list[int] = []
    with locked(output / "sweep.lock", f"a sweep into {output}"):
        there = []
        for run in runs:
            record = finished(output, run.task.run_id)
            if record is not None:
                there.append(record)
                _require_kept(run.task, record)
                run.state, run.before, run.heard = "done", True, ended(record)
        if there:
            tell_lacking(there, runs[0].task.request.retain)  # all of a sweep are asked the same
            update_tables(output)  # whoever stored a record may have been killed before it could
        if not all(run.before for run in runs):
            with _folder(output / "sweep") as folder, _heeding(asked):
                _carry_out(runs, make(folder), board, retries, asked)
    if asked:
        raise KeyboardInterrupt
    return runs


def _carry_out(runs: Sequence[Run], executor: Executor, board: Board, retries: int, asked: Sequence[int]) -> None:
    board.begin(runs)
    try:
        _Loop(runs, executor, board, retries).go(asked)
    finally:
        board.end()
        executor.close()


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """A folder that stays where something was left in it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield path
    finally:
        with suppress(OSError):
            path.rmdir()


def _require_kept(task: Task, record: Record) -> None:
    if task.save_to is not None:
        try:
            require_kept(task.save_to, record, task.keep)
        except UserError as error:
            lies = task.output / "records" / f"{record.run_id}.json"
            raise UserError(f"{str(error).split(';')[0]}; leave out --save-model, or remove {lies}") from error


@contextmanager
def _heeding(asked: list[int]) -> Iterator[None]:
    """Signals that ask for a stop are noted in `asked` (in the main thread, where signals arrive)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = on_stops(ask)
    try:
        yield
    finally:
        put_back(before)


class _Loop:
    def __init__(self, runs: Sequence[Run], executor: Executor, board: Board, retries: int) -> None:
        self.runs, self.executor, self.board, self.retries = runs, executor, board, retries
        self.by_id = {run.task.run_id: run for run in runs}
        self.under_way: set[str] = set()

    def go(self, asked: Sequence[int]) -> None:
        """Until no run is under way or waits; once asked to stop, until none is under way."""
        told = 0  # how often the executor has been told to stop
        while self.under_way or (not asked and any(run.state == "waiting" for run in self.runs)):
            if len(asked) > told:
                self.executor.stop() if told == 0 else self.executor.kill()
                told += 1
            if not asked:
                self._start()
            for run_id, heard in self.executor.poll():
                self._hear(self.by_id[run_id], heard, bool(asked))
            self.board.look()
            time.sleep(PAUSE)

    def _start(self) -> None:
        for run in self.runs:
            if self.executor.room() < 1:
                return
            if run.state == "waiting" and run.task.run_id not in self.under_way and run.earliest <= time.monotonic():
                self.executor.start(run.task)
                self.under_way.add(run.task.run_id)

    def _hear(self, run: Run, heard: Heard, stopping: bool) -> None:
        now = time.monotonic()
        run.told_at = now
        if heard.state != "running":
            self.under_way.discard(run.task.run_id)
        if heard.state in ("running", "done"):
            run.state, run.heard = ("running" if heard.state == "running" else "done"), heard
        elif stopping:
            run.state = "stopped"
        elif heard.state == "busy":
            run.busy_since = run.busy_since or now
            self._again(run, heard.error, now - run.busy_since < PATIENCE, BUSY)
        elif heard.state == "failed":
            run.failures += 1
            self._again(run, heard.error, run.failures <= self.retries)
        else:  # it was lost, or something other than this command has stopped it
            run.losses += 1
            self._again(run, heard.error or "it was stopped", run.losses <= max(LOSSES, self.retries))
        self.board.changed(run)

    def _again(self, run: Run, error: str, may: bool, wait: float = 0.0) -> None:
        run.error, run.state = error, "waiting" if may else "failed"
        run.earliest = time.monotonic() + wait
