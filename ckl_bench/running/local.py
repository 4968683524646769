"""Tasks as processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ckl_bench.running.files import TASK, Postbox
from ckl_bench.running.task import Heard, Task
from ckl_bench.storage.writing import unwritable


@dataclass(frozen=True)
class _Child:
    process: subprocess.Popen[bytes]
    post: Postbox
    log: Path
    slot: int


class Local:
    """`jobs` processes at once with `cpus` threads each, in turn on the `gpus` that are given by name."""

    def __init__(self, folder: Path, jobs: int, cpus: int | None = None, gpus: Sequence[str] = ()) -> None:
        self._folder, self._jobs, self._gpus = folder, jobs, gpus
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = cpus or max(1, cores // jobs)
        # More threads than cores would wait for each other; whoever has set their number means it.
        self._threads = {"OMP_NUM_THREADS": str(threads)} if cpus or "OMP_NUM_THREADS" not in os.environ else {}
        self._children: dict[str, _Child] = {}

    def room(self) -> int:
        """How many more processes may be started."""
        return self._jobs - len(self._children)

    def start(self, task: Task) -> None:
        """Start a process in a session of its own: Ctrl-C is for the sweep, which then asks each run to save."""
        slot = min(set(range(self._jobs)) - {child.slot for child in self._children.values()})
        one = {"CUDA_VISIBLE_DEVICES": self._gpus[slot % len(self._gpus)]} if self._gpus else {}
        post, log = Postbox(self._folder / f"{task.run_id}.json"), self._folder / f"{task.run_id}.log"
        post.remove()
        try:
            with log.open("ab") as lines:
                process = subprocess.Popen(
                    [sys.executable, "-m", "ckl_bench.running.child", str(post.path)],
                    stdin=subprocess.PIPE,
                    stdout=lines,
                    stderr=lines,
                    env=os.environ | self._threads | one,
                    start_new_session=True,
                )
        except OSError as error:
            raise unwritable(log, error) from error
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, which is heard of below
            process.stdin.write(TASK.dump_json(task) + b"\n")
            process.stdin.flush()
        self._children[task.run_id] = _Child(process, post, log, slot)

    def poll(self) -> list[tuple[str, Heard]]:
        """What the processes told, and which of them have ended without a word."""
        heard: list[tuple[str, Heard]] = []
        for run_id, child in list(self._children.items()):
            code = child.process.poll()  # before the last look at what it told
            news = child.post.news()
            if code is None:
                heard += [(run_id, news)] if news is not None and news.state == "running" else []
                continue
            last = child.post.last
            if last is None or last.state == "running":
                last = Heard(state="lost", error=_ending(code, child.log))
            heard.append((run_id, last))
            self._forget(run_id, keep_log=last.state in ("failed", "lost"))
        return heard

    def _forget(self, run_id: str, keep_log: bool) -> None:
        child = self._children.pop(run_id)
        assert child.process.stdin is not None
        with suppress(OSError):
            child.process.stdin.close()
        child.post.remove()
        if not keep_log:
            child.log.unlink(missing_ok=True)

    def stop(self) -> None:
        """As SIGTERM: each run saves behind the step under way."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End the processes."""
        self._send(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _send(self, number: int) -> None:
        for child in self._children.values():
            with suppress(OSError):
                child.process.send_signal(number)

    def close(self) -> None:
        """Whatever still runs ends, which is nothing unless the sweep itself has failed."""
        self.kill()
        for run_id, child in list(self._children.items()):
            child.process.wait()
            self._forget(run_id, keep_log=True)


def _ending(code: int, log: Path) -> str:
    """How a process ended that said nothing: by which signal, or the last line that it printed."""
    if code < 0:
        return f"its process was killed by {signal.Signals(-code).name}"
    lines: Iterable[str] = ()
    with suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = next((line.strip() for line in reversed(list(lines)) if line.strip()), "nothing was printed")
    return f"its process ended with code {code}: {said[:300]}; see {log}"
