"""A run as a job of Slurm: what it does there, and how it is taken up again. Nothing heavy is imported.

The run has a process of its own, as in a local sweep, so that its record is the same; the job only watches. It is told
to stop by a file beside those of the sweep. On the notice that its time is over or its machine is wanted, the run is
saved and the job put back into the queue, which is submitit's work.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from ckl_bench.errors import CklError
from ckl_bench.running.files import Postbox
from ckl_bench.running.heard import Heard
from ckl_bench.running.process import Process

LOOK = 0.5  # seconds between two looks
STOP = "stop"  # the file that asks all jobs of a sweep to save and end


class Job:
    """Carries out a task in a process, and tells of it through RUN-ID.json in `folder`."""

    def __init__(self, run_id: str, folder: Path, start_in: Path, environment: Mapping[str, str]) -> None:
        self.run_id, self.folder, self.start_in, self.environment = run_id, folder, start_in, environment

    def __call__(self, task: bytes) -> None:
        """Until the run has ended, by itself or as it was asked to."""
        post, stop, asked = Postbox(self.folder / f"{self.run_id}.json"), self.folder / STOP, False
        if stop.exists():
            post.tell(Heard(state="stopped"))
            return
        with tempfile.TemporaryDirectory(prefix="ckl-bench-", ignore_cleanup_errors=True) as own:
            told = Path(own) / f"{self.run_id}.json"
            try:
                self._process = Process(self.run_id, task, told, self.folder, self.environment, self.start_in)
            except CklError as error:
                post.tell(Heard(state="failed", error=str(error)))
                return
            signal.signal(signal.SIGTERM, self._pass_on)
            while True:
                heard = self._process.news()
                if heard is not None and (heard.state != "stopped" or asked):
                    post.tell(heard)
                if heard is not None and heard.state != "running":
                    return  # stopped by anything but the sweep, it is no news: the job is started again
                if not asked and stop.exists():
                    asked = True
                    self._process.send(signal.SIGTERM)
                time.sleep(LOOK)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        # Whoever sends this may send it to the run as well, for which a second SIGTERM would mean: at once.
        self._process.send(signal.SIGUSR1)

    def checkpoint(self, task: bytes) -> Any:
        """Save the run, by SIGTERM for the same reason: the notice is SIGUSR1. What submitit is to start again."""
        from submitit.helpers import DelayedSubmission

        self._process.send(signal.SIGTERM)
        self._process.wait()
        return DelayedSubmission(Job(self.run_id, self.folder, self.start_in, self.environment), task)
