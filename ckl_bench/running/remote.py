"""A run on a machine of a Ray cluster: what the actor does there that the sweep starts. Nothing heavy is imported.

The run has a process of its own, as in a local sweep, so that its record is the same; this one only watches. Where it
is gone, killed or with its machine, the run's process sees its stdin end, and saves and ends.
"""

from __future__ import annotations

import signal
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from ckl_bench.errors import CklError
from ckl_bench.running.heard import Heard
from ckl_bench.running.process import KILL, Process

LOOK = 0.1  # seconds between two looks at the run's process


class Remote:
    """Starts a run, another behind it, and tells what is heard; of two threads that call it one waits in `watch`."""

    def __init__(self) -> None:
        self._own = tempfile.TemporaryDirectory(prefix="ckl-bench-", ignore_cleanup_errors=True)
        self._process: Process | None = None

    def begin(self, run_id: str, task: bytes, logs: Path, folder: Path, environment: Mapping[str, str]) -> Heard | None:
        """Start the run's process in `folder`, with its log in `logs`: both must be here. What hinders it."""
        for path in (folder, logs):
            if not path.is_dir():
                here = socket.gethostname()
                return Heard(state="failed", error=f"{here} has no folder {path}; sweep where all machines share it")
        try:
            told = Path(self._own.name) / f"{run_id}.json"
            self._process = Process(run_id, task, told, logs, environment, folder)
        except CklError as error:
            return Heard(state="failed", error=str(error))
        return None

    def watch(self) -> Heard:
        """Wait for news, and tell it."""
        assert self._process is not None
        while (news := self._process.news()) is None:
            time.sleep(LOOK)
        return news

    def stop(self) -> None:
        """Let the run save and end."""
        if self._process is not None:
            self._process.send(signal.SIGTERM)

    def kill(self) -> None:
        """End the run."""
        if self._process is not None:
            self._process.send(KILL)
