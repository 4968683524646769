"""One run of a sweep as it travels to where it runs, and what carries it out there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter

from ckl_bench.learning.keep import LAST
from ckl_bench.learning.run import RunRequest
from ckl_bench.running.heard import Heard


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to run, which id that has where it was planned, and where its record goes."""

    run_id: str
    name: str  # what the run is called in tables: its method, its seed, and what else tells it apart
    request: RunRequest
    folder: Path  # from which the request's relative paths are read
    output: Path
    save_to: Path | None = None
    keep: str = LAST  # which epoch's model goes there
    log_to: tuple[str, ...] = ()


TASK = TypeAdapter(Task)


class Executor(Protocol):
    """A place where tasks run, each in a process of its own, so that its record is that of a single run."""

    def room(self) -> int:
        """How many more tasks may be started now."""

    def start(self, task: Task) -> None:
        """Begin a task, or let it wait in this place's own queue; its run goes on where it was stopped."""

    def poll(self) -> Collection[tuple[str, Heard]]:
        """What was heard since the last call, by run id; behind a state other than `running` a task is over."""

    def stop(self) -> None:
        """Ask all tasks to save and to end; those that have not begun never will."""

    def kill(self) -> None:
        """End all tasks now."""

    def close(self) -> None:
        """Leave the place as it was found; no task is under way."""
