"""Tasks as jobs of Slurm, by submitit; or as submitit's processes on this machine, to try what would be submitted."""

from __future__ import annotations

import math
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckl_bench.errors import UserError, unknown
from ckl_bench.running.files import Postbox
from ckl_bench.running.heard import Heard
from ckl_bench.running.job import STOP, Job
from ckl_bench.running.needs import memory_of
from ckl_bench.running.process import last_line, threads
from ckl_bench.running.task import TASK, Task

MINUTES = 60  # of a job, unless the user says how many; a run that takes longer goes on in the job's next turn
NOTICE = "USR1"  # the signal before a job's end, which saves a run; submitit's own, USR2, would kill the run's process
ALONE = {"cluster", "time", "signal_delay_s"}  # keys that are submitit's own; all others are sbatch's
LOOK = {"slurm": 10.0, "local": 0.5}  # seconds between two questions whether jobs are still there
LAG = {"slurm": 30.0, "local": 2.0}  # seconds after a job's end in which its last word may still come


@dataclass
class _Submitted:
    job: Any
    post: Postbox
    ended: float | None = None  # since when the job is seen to be over


class Slurm:
    """A run is a job, which is put back into the queue where it is preempted or its time is over."""

    def __init__(
        self,
        folder: Path,
        *,
        jobs: int | None = None,
        cpus: int | None = None,
        gpus: int = 0,
        memory: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`settings` are options of sbatch, and `cluster` (slurm or local), `time` (minutes), `signal_delay_s`.

        UserError where there is no Slurm here, or a setting is none.
        """
        os.environ["SUBMITIT_PREEMPT_SIGNAL"] = NOTICE  # before submitit is imported, here and in the job
        import submitit

        keys = {key.replace("-", "_"): value for key, value in (settings or {}).items()}
        self._cluster = keys.get("cluster", "slurm")
        if self._cluster not in LOOK:
            raise unknown("--slurm cluster", self._cluster, LOOK)
        minutes, notice = _whole("time", keys, MINUTES), _whole("signal_delay_s", keys, 90)
        self._folder, self._own, self._stop = folder, folder / "slurm", folder / STOP
        self._stop.unlink(missing_ok=True)
        self._memory, self._threads = memory, threads(cpus, 1)
        self._jobs = jobs or (1 if self._cluster == "local" else None)
        self._submitted: dict[str, _Submitted] = {}
        self._heard: list[tuple[str, Heard]] = []
        self._looked, self._keep, self._left = 0.0, False, False
        of_slurm = {
            "slurm_job_name": "ckl-bench",
            "slurm_signal_delay_s": notice,
            "slurm_additional_parameters": {
                key: True if value == "true" else value for key, value in keys.items() if key not in ALONE
            },
        }
        try:
            # A run saves what it has, so it may be put back any number of times.
            self._executor = submitit.AutoExecutor(self._own, self._cluster, slurm_max_num_timeout=10**6)
        except RuntimeError as error:
            raise UserError(
                "--executor slurm: there is no srun here; type this where Slurm's commands are, or try it on this "
                "machine with --slurm cluster=local"
            ) from error
        self._executor.update_parameters(
            timeout_min=minutes,
            cpus_per_task=cpus or 1,
            gpus_per_node=gpus or None,
            **(of_slurm if self._cluster == "slurm" else {}),
        )

    def room(self) -> int:
        """How many more jobs may be submitted: any number, for Slurm has a queue."""
        return (self._jobs or len(self._submitted) + 1) - len(self._submitted)

    def start(self, task: Task) -> None:
        """Submit a job."""
        post = Postbox(self._folder / f"{task.run_id}.json")
        post.remove()
        memory = self._memory if self._memory is not None else memory_of(task)
        job = Job(task.run_id, self._folder, task.folder, self._threads)
        try:
            self._executor.update_parameters(mem_gb=None if memory is None else math.ceil(memory / 2**30))
            with _interrupts_later():
                self._submitted[task.run_id] = _Submitted(self._executor.submit(job, TASK.dump_json(task)), post)
        except Exception as error:  # submitit's own of many kinds, whose last line is sbatch's
            said = str(error).strip().splitlines() or [type(error).__name__]
            self._heard.append((task.run_id, Heard(state="failed", error=f"Slurm takes no such job: {said[-1]}")))

    def poll(self) -> list[tuple[str, Heard]]:
        """What the runs told, and which jobs are over without a word."""
        heard, self._heard = self._heard, []
        look = time.monotonic() - self._looked > LOOK[self._cluster]
        if look:
            self._looked = time.monotonic()
        for run_id, one in list(self._submitted.items()):
            if look and one.ended is None and one.job.done():
                one.ended = time.monotonic()
            news = one.post.news()
            if news is None and one.ended is not None and time.monotonic() - one.ended > LAG[self._cluster]:
                log = one.job.paths.stderr
                said = f"its job {one.job.job_id} is over ({one.job.state.lower()}): {last_line(log)}; see {log}"
                news = Heard(state="lost", error=said)
            if news is None:
                continue
            heard.append((run_id, news))
            if news.state != "running":
                self._over(run_id, news)
        return heard

    def _over(self, run_id: str, news: Heard) -> None:
        one = self._submitted.pop(run_id)
        one.post.remove()
        self._keep |= news.state == "lost"

    def stop(self) -> None:
        """Let runs save and end; jobs that wait in Slurm's queue are taken out of it."""
        self._stop.touch()
        if self._cluster == "slurm":
            self._give_up([run_id for run_id, one in self._submitted.items() if one.post.last is None])

    def kill(self) -> None:
        """Cancel all jobs; those on this machine have been asked to stop, and are waited for no longer."""
        self._left |= self._cluster == "local" and bool(self._submitted)
        self._give_up(list(self._submitted))

    def _give_up(self, run_ids: Sequence[str]) -> None:
        for run_id in run_ids:
            if self._cluster == "slurm":
                self._submitted[run_id].job.cancel(check=False)
            self._over(run_id, Heard(state="stopped"))
            self._heard.append((run_id, Heard(state="stopped")))

    def close(self) -> None:
        """Leave no job and, unless there is something to look at, no file."""
        if self._submitted:  # the sweep itself has failed
            self.stop()
            self.kill()
        if not self._left:
            self._stop.unlink(missing_ok=True)
        if not self._keep and not self._left:
            shutil.rmtree(self._own, ignore_errors=True)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """What is started in the block, and all that this starts, never hears of Ctrl-C: that is for the sweep."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _whole(key: str, keys: Mapping[str, str], usual: int) -> int:
    value = keys.get(key, str(usual))
    if not value.isascii() or not value.isdigit() or int(value[:9]) < 1:
        unit = "minutes" if key == "time" else "seconds"
        raise UserError(f"--slurm {key}={value}: expected a whole number of {unit}, such as {usual}")
    return int(value)
