"""Tasks on a Ray cluster: one of this machine's cores, which begins and ends with the sweep, or any, by its address."""

from __future__ import annotations

import math
import os
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckl_bench.errors import UserError, first_line
from ckl_bench.progress import line, log
from ckl_bench.running.address import require_answer, unreached
from ckl_bench.running.heard import Heard
from ckl_bench.running.needs import gpus_of, memory_of
from ckl_bench.running.process import cores, threads
from ckl_bench.running.remote import Remote
from ckl_bench.running.task import TASK, Task
from ckl_bench.storage.stops import STOPS, put_back

STARTS = 3  # of a cluster of this machine: Ray gives each 15 seconds, which are short on a busy one (ray#65983)
AHEAD = 16  # runs at most that wait in Ray's own queue
TRIES = 5  # to begin a run that has not begun where Ray wanted it to
SHORT = 40  # characters of a folder at most below which Ray can make its sockets


@dataclass
class _Run:
    task: Task
    actor: Any
    told: Any  # the reference of what it will tell next
    begun: bool = False
    tries: int = 1  # to begin it


class Ray:
    """A run is an actor, which has `cpus`, `gpus` and memory to itself; Ray finds a machine that has them to spare.

    By default it gets a whole machine's cores, shared out among the `jobs` or among the machine's GPUs; of memory what
    `plan` says, and as much of a GPU, of which each is taken to have `card` bytes.
    """

    def __init__(
        self,
        folder: Path,
        tasks: Sequence[Task],
        *,
        address: str | None = None,
        jobs: int | None = None,
        cpus: int | None = None,
        gpus: float | None = None,
        memory: int | None = None,
        card: int | None = None,
    ) -> None:
        """Reach the cluster, or start one; UserError where that fails, or this machine has not what runs need."""
        self._folder, self._jobs, self._runs, self._stopping = folder, jobs, dict[str, _Run](), False
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        self._own: str | None = None
        with line("starting Ray" if address == "local" else f"reaching Ray at {address}"):
            self._ray = self._reached(address)
            machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            parts = {task.run_id: gpus_of(task, card) if gpus is None else gpus for task in tasks}
            share = _share(machines, jobs, min(parts.values()))
            self._threads = threads(cpus, share)
            self._wants = {
                task.run_id: {
                    "num_cpus": float(cpus or share),
                    "num_gpus": parts[task.run_id],
                    "memory": float(memory or memory_of(task) or 0),
                }
                for task in tasks
            }
        try:
            self._require_room(tasks, machines, only=address == "local")
        except UserError:
            self.close()
            raise

    def _reached(self, address: str) -> Any:
        """Ray, connected and silent: nothing is sent to its makers, and what it writes is gone with it."""
        require_answer(address)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it would give its users a tip
        os.environ |= {"RAY_DEDUP_LOGS": "1", "RAY_DEDUP_LOGS_SKIP_REGEX": ".*"}  # or tell of lost nodes on stdout
        import ray

        self._ours = not ray.is_initialized()
        if not self._ours:
            return ray
        here: dict[str, Any] = {}
        if address == "local":
            usual = tempfile.gettempdir()
            self._own = tempfile.mkdtemp(prefix="ckl-ray-", dir=usual if len(usual) < SHORT else "/tmp")
            here = {"num_cpus": cores(), "include_dashboard": False, "_temp_dir": self._own}
        for left in reversed(range(STARTS if address == "local" else 1)):
            try:
                with _signals_kept(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    ray.init(address=address, logging_level="ERROR", log_to_driver=False, **here)
                break
            except Exception as error:  # of many kinds, up to Exception itself where its processes are slow to start
                ray.shutdown()
                if left:
                    continue
                self._leave(ray)
                if address == "local":
                    raise UserError(f"Ray does not start: {first_line(error)}") from error
                raise unreached(address, error) from error
        return ray

    def _require_room(self, tasks: Sequence[Task], machines: Sequence[Mapping[str, float]], only: bool) -> None:
        """UserError (a note, where machines may still come) for a run that no machine has room for."""
        for task in tasks:
            wants = self._wants[task.run_id]
            each = {"CPU": wants["num_cpus"], "GPU": wants["num_gpus"], "memory": wants["memory"]}
            if any(all(machine.get(name, 0) >= value for name, value in each.items()) for machine in machines):
                continue
            room = max(machines, key=lambda machine: machine.get("memory", 0), default={})
            said = (
                f"{task.name} is to have {_words(each)}, and no machine has that (the largest has {_words(room)}); say "
                "by --cpus, --gpus and --memory what a run gets"
            )
            if only:
                raise UserError(said)
            log(f"note: {said}; it waits until one has")
            return

    def room(self) -> int:
        """How many more runs may be given to Ray."""
        waiting = sum(not run.begun for run in self._runs.values())
        return min(AHEAD - waiting, (self._jobs or len(self._runs) + AHEAD) - len(self._runs))

    def start(self, task: Task) -> None:
        """Give a run to Ray, which starts it where and when there is room."""
        actor = self._asked_for(task)
        self._runs[task.run_id] = _Run(task, actor, self._begun(task, actor))

    def _asked_for(self, task: Task) -> Any:
        wants = {name: value or None for name, value in self._wants[task.run_id].items()}
        return self._ray.remote(Remote).options(max_concurrency=2, max_restarts=0, **wants).remote()

    def _begun(self, task: Task, actor: Any) -> Any:
        words = task.run_id, TASK.dump_json(task), self._folder, task.folder, self._threads
        return actor.begin.remote(*words)

    def poll(self) -> list[tuple[str, Heard]]:
        """What the actors told, and which of them are gone."""
        heard: list[tuple[str, Heard]] = []
        told = {run.told: run for run in self._runs.values()}
        for reference in self._ray.wait(list(told), num_returns=len(told), timeout=0)[0] if told else []:
            run = told[reference]
            if run.told != reference:  # it has got another actor by now
                continue
            news = self._got(run)
            if news is None or news.state == "running":
                run.begun, run.told = True, run.actor.watch.remote()
            elif news.state == "lost" and not run.begun and run.tries < TRIES and not self._stopping:
                # It waited on a machine that is gone, or for its actor to be made there.
                self._ray.kill(run.actor)
                run.tries += 1
                run.actor = self._asked_for(run.task)
                run.told = self._begun(run.task, run.actor)
                continue
            else:
                del self._runs[run.task.run_id]
                self._hand_on(run, lost=news.state == "lost")
            if news is not None:
                heard.append((run.task.run_id, news))
        return heard

    def _hand_on(self, ended: _Run, lost: bool) -> None:
        """Give an actor to a run that waits for one such, rather than wait until a process of Ray's has started."""
        wants = self._wants[ended.task.run_id]
        waiting = (run for run in self._runs.values() if not run.begun and self._wants[run.task.run_id] == wants)
        run = None if lost or self._stopping else next(waiting, None)
        if run is None:
            self._ray.kill(ended.actor)
        else:
            self._ray.kill(run.actor)
            run.actor, run.told = ended.actor, self._begun(run.task, ended.actor)

    def _got(self, run: _Run) -> Heard | None:
        try:
            news: Heard | None = self._ray.get(run.told)
        except self._ray.exceptions.RayError as error:
            return _gone(error)
        if news is not None and news.state == "done" and not _stored(run.task):
            there = run.task.output
            return Heard(
                state="failed", error=f"its record is not here: {there} is another folder where it ran; share it"
            )
        return news

    def stop(self) -> None:
        """Let runs save and end, and those that wait in Ray's queue not begin."""
        self._stopping = True
        for run in self._runs.values():
            if run.begun:
                run.actor.stop.remote()
            else:
                self._ray.kill(run.actor)

    def kill(self) -> None:
        """End the runs' processes."""
        for run in self._runs.values():
            if run.begun:
                run.actor.kill.remote()
            else:
                self._ray.kill(run.actor)

    def close(self) -> None:
        """End what was started here."""
        for run in self._runs.values():
            self._ray.kill(run.actor)
        self._runs.clear()
        self._leave(self._ray)

    def _leave(self, ray: Any) -> None:
        if self._ours:
            with _signals_kept():
                ray.shutdown()
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray answers SIGTERM itself from its start on; the sweep goes on answering it here."""
    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            put_back(before)


def _share(machines: Sequence[Mapping[str, float]], jobs: int | None, gpus: float) -> int:
    """Cores a run, the same on all machines: of the one that has fewest, among those on which a run may be."""
    fit = [machine for machine in machines if machine.get("CPU", 0) >= 1 and machine.get("GPU", 0) >= gpus]
    if not fit:
        return 1
    beside = math.ceil(jobs / len(fit)) if jobs else 1
    if gpus:
        beside = max(int(machine["GPU"] / gpus) for machine in fit)
    return max(1, int(min(machine["CPU"] for machine in fit)) // beside)


def _stored(task: Task) -> bool:
    """Whether the record is where it belongs; the folder is listed, which a network's disk then has to ask about."""
    try:
        return f"{task.run_id}.json" in os.listdir(task.output / "records")
    except OSError:
        return False


def _words(resources: Mapping[str, float]) -> str:
    memory = resources.get("memory", 0)
    gpus = f"{resources['GPU']:g} GPUs, " if resources.get("GPU") else ""
    return f"{resources.get('CPU', 0):g} CPUs, {gpus}{memory / 1e9:.1f} GB"


def _gone(error: Exception) -> Heard:
    """What is heard of a run whose actor cannot answer."""
    said = str(error)
    if "No module named 'ckl_bench" in said:
        return Heard(state="failed", error="a machine has no ckl-bench; pip install 'ckl-bench[ray]' on all of them")
    why = f": {first_line(error)}" if "memory" in said else ""  # of which Ray kills whoever takes too much
    return Heard(state="lost", error=f"its machine, or what watched it there, is gone{why}")
