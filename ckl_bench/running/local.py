"""Tasks as processes on this machine."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from ckl_bench.running.heard import Heard
from ckl_bench.running.process import KILL, Process, cores, threads
from ckl_bench.running.task import TASK, Task


class Local:
    """`jobs` processes at once with `cpus` threads each, in turn on the `gpus` that are given by name."""

    def __init__(self, folder: Path, jobs: int, cpus: int | None = None, gpus: Sequence[str] = ()) -> None:
        self._folder, self._jobs, self._gpus = folder, jobs, gpus
        self._threads = threads(cpus, max(1, cores() // jobs))
        self._children: dict[str, tuple[Process, int]] = {}  # run id -> its process, and its slot

    def room(self) -> int:
        """How many more processes may be started."""
        return self._jobs - len(self._children)

    def start(self, task: Task) -> None:
        """Start a process."""
        slot = min(set(range(self._jobs)) - {slot for _, slot in self._children.values()})
        one = {"CUDA_VISIBLE_DEVICES": self._gpus[slot % len(self._gpus)]} if self._gpus else {}
        told, environment = self._folder / f"{task.run_id}.json", {**self._threads, **one}
        child = Process(task.run_id, TASK.dump_json(task), told, self._folder, environment)
        self._children[task.run_id] = child, slot

    def poll(self) -> list[tuple[str, Heard]]:
        """What the processes told, and which of them have ended without a word."""
        heard: list[tuple[str, Heard]] = []
        for run_id, (child, _) in list(self._children.items()):
            news = child.news()
            if news is not None:
                heard.append((run_id, news))
                if news.state != "running":
                    del self._children[run_id]
        return heard

    def stop(self) -> None:
        """As SIGTERM: each run saves behind the step under way."""
        for child, _ in self._children.values():
            child.send(signal.SIGTERM)

    def kill(self) -> None:
        """End the processes."""
        for child, _ in self._children.values():
            child.send(KILL)

    def close(self) -> None:
        """Whatever still runs ends, which is nothing unless the sweep itself has failed."""
        self.kill()
        while self._children:
            self._children.popitem()[1][0].end()
