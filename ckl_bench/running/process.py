"""The process of a run, on the machine where it runs: started, heard, asked to stop. Nothing heavy is imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ckl_bench.running.files import Postbox
from ckl_bench.running.heard import Heard
from ckl_bench.storage.writing import unwritable

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(cpus: int | None, share: int) -> Mapping[str, str]:
    """What a run's environment says of threads: as many as the user has said by `cpus` or has set, else its share.

    More threads than cores would wait for each other.
    """
    return {"OMP_NUM_THREADS": str(cpus or os.environ.get("OMP_NUM_THREADS") or share)}


class Process:
    """One run as `ckl_bench.running.child`, with `told` as the file through which it is heard.

    What it prints goes to RUN-ID.log in `logs`, which stays where the run has failed or was lost.
    """

    def __init__(
        self,
        run_id: str,
        task: bytes,
        told: Path,
        logs: Path,
        environment: Mapping[str, str],
        folder: Path | None = None,
    ) -> None:
        """Start it, in a session of its own: Ctrl-C is for the sweep, which then asks each run to save.

        `task` is JSON, `folder` that of the process. UserError where it cannot be started.
        """
        self.log, self._post = logs / f"{run_id}.log", Postbox(told)
        self._post.remove()
        try:
            with self.log.open("ab") as lines:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "ckl_bench.running.child", str(told)],
                    stdin=subprocess.PIPE,
                    stdout=lines,
                    stderr=lines,
                    env=os.environ | environment,
                    cwd=folder,
                    start_new_session=True,
                )
        except OSError as error:
            raise unwritable(self.log, error) from error
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, which is heard of below
            self._process.stdin.write(task + b"\n")
            self._process.stdin.flush()

    def news(self) -> Heard | None:
        """What it told since the last look, or how it ended; behind that there is no more to hear."""
        code = self._process.poll()  # before the last look at what it told
        news = self._post.news()
        if code is None:
            return news if news is not None and news.state == "running" else None
        last = self._post.last
        if last is None or last.state == "running":
            last = Heard(state="lost", error=self._ending(code))
        self._forget(keep_log=last.state in ("failed", "lost"))
        return last

    def send(self, number: int) -> None:
        """Let it hear a signal: of SIGTERM it saves behind the step under way, and ends."""
        with suppress(OSError):
            self._process.send_signal(number)

    def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self.send(KILL)
        self._process.wait()
        self._forget(keep_log=True)

    def wait(self) -> None:
        """Until it has ended."""
        self._process.wait()

    def _forget(self, keep_log: bool) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._post.remove()
        if not keep_log:
            self.log.unlink(missing_ok=True)

    def _ending(self, code: int) -> str:
        """How it ended that said nothing: by which signal, or with the last line that it printed."""
        if code < 0:
            return f"its process was killed by {signal.Signals(-code).name}"
        return f"its process ended with code {code}: {last_line(self.log)}; see {self.log}"


def last_line(log: Path) -> str:
    """The last line of a log that says anything."""
    lines: list[str] = []
    with suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was printed")[:300]
