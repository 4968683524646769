"""Sweeps on Ray and as jobs of Slurm: what is refused in a line, and that nothing is lost or doubled whatever ends."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ckl_bench.errors import UserError
from ckl_bench.learning.run import RunRequest
from ckl_bench.running import place
from ckl_bench.running.grid import planned
from ckl_bench.running.needs import memory_of
from ckl_bench.running.place import Place
from conftest import Command
from helpers.sweeps import SLOW, Sweep, assert_same_records


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--address auto", "--address is for --executor ray; leave it out, or give that"),
        ("--gpus 0.5", "--gpus is for --executor ray or slurm;"),
        ("--executor slurm --address auto", "--address is for --executor ray;"),
        ("--executor ray --slurm partition=gpu", "--slurm is for --executor slurm;"),
        ("--executor ray --gpus 1.5", "--gpus 1.5: expected a whole number, or a part of one GPU"),
        ("--executor slurm --gpus 0.5", "--gpus 0.5: Slurm gives whole GPUs"),
        ("--executor ray --memory much", "--memory much: expected a size such as 24GB"),
        ("--executor slurm --slurm partition", "--slurm partition: expected key=value"),
    ],
)
def test_what_an_executor_does_not_take_is_one_line(given: str, said: str, command: Command, tmp_path: Path) -> None:
    result = command("sweep", "--method", "lora", "--model", "tiny", *given.split())
    assert (result.code, result.out) == (2, "")
    assert said in result.err.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "--executor ray --address 127.0.0.1:{port}",
            "--address 127.0.0.1:{port}: [Errno 111] Connection refused; give",
        ),
        ("--executor slurm", "there is no srun here; type this where Slurm's commands are"),
        ("--executor slurm --slurm cluster=lsf", "unknown --slurm cluster 'lsf'"),
        ("--executor slurm --slurm cluster=local --slurm time=1:00", "--slurm time=1:00: expected a whole number"),
    ],
)
def test_a_place_that_cannot_be_had_is_one_line(
    given: str, said: str, command: Command, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("PATH", "")  # whoever has Slurm
    result = command(
        *("sweep", "--method", "none", "--model", "tiny", "--benchmark", small, *given.format(port=port).split())
    )
    assert (result.code, result.out) == (2, "")
    assert said.format(port=port) in result.err.splitlines()[-1]
    assert not list((tmp_path / "runs").rglob("*"))


@pytest.mark.parametrize(("executor", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_package_that_is_missing_is_named(executor: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "find_spec", lambda name: None)
    with pytest.raises(UserError) as raised:
        Place(executor=executor)
    assert str(raised.value) == f"--executor {executor} needs {package}: pip install 'ckl-bench[{executor}]'"


def test_memory_is_what_plan_says_and_half_as_much(command: Command, small: Path, tmp_path: Path) -> None:
    request = RunRequest(method="lora", model="tiny", benchmark=str(small), settings=["lora.r=2"])
    (task,) = planned([request], tmp_path)
    words = ("--method", "lora", "--model", "tiny", "--benchmark", small, "--set", "lora.r=2", "--json")
    found = json.loads(command("plan", *words, "--device", "cpu").out)
    assert memory_of(task) == int(1.5 * found["memory"]["peak"])


class Nodes:
    """A Ray cluster of several nodes on this machine: a head that runs nothing, and `cpus` of nodes that do."""

    def __init__(self, *cpus: int) -> None:
        from ray.cluster_utils import Cluster

        small = {"object_store_memory": 80 * 2**20, "memory": 8 * 2**30}
        self.cluster: Any = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small}
        )
        self.nodes = [self.cluster.add_node(num_cpus=count, **small) for count in cpus]

    def kill(self, node: int) -> None:
        self.cluster.remove_node(self.nodes[node], allow_graceful=False)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    found = Nodes(2, 1)
    yield found
    found.cluster.shutdown()


def words_of_eight(folder: Path, small: Path) -> list[object]:
    (folder / "methods").mkdir()
    (folder / "methods" / "slow.py").write_text(SLOW)
    methods = ("--method", "slow+lora", "--method", "slow+finetune")
    seeds = [word for seed in range(4) for word in ("--seed", seed)]
    return [*methods, *seeds, "--model", "tiny", "--benchmark", small, "--set", "slow.pause=0.2", "--epochs", 2]


@pytest.mark.slow
def test_eight_runs_on_a_cluster_that_loses_a_node_are_stopped_and_go_on(
    command: Command, small: Path, tmp_path: Path, nodes: Nodes
) -> None:
    words = words_of_eight(tmp_path, small)
    ray = ("--executor", "ray", "--cpus", 1)
    sweep = Sweep(*words, *ray, "--address", nodes.cluster.address, cwd=tmp_path)
    states, most, killed, asked = dict[str, list[str]](), 0, False, False
    for line in sweep.lines():
        states.setdefault(line["run"], []).append(line["state"])
        under_way = sum(seen[-1] == "running" for seen in states.values())
        most = max(most, under_way)
        if not killed and under_way == 3 and line["epoch"] == 1:
            nodes.kill(1)
            killed = True
        if killed and not asked and sum(seen[-1] == "done" for seen in states.values()) >= 3 and under_way:
            sweep.process.send_signal(signal.SIGINT)
            asked = True
    code, said = sweep.end()
    assert code == 130, said
    assert said.splitlines() == [said.strip()]  # the line of the interruption, and nothing of Ray's
    assert most == 3  # two on one node, one on the other
    lost = [run for run, seen in states.items() if seen.count("waiting") > 1]
    assert len(lost) == 1
    assert {seen[-1] for seen in states.values()} == {"done", "stopped", "waiting"}
    assert any((tmp_path / "runs" / "checkpoints").rglob("state.json"))
    again = Sweep(*words, *ray, cwd=tmp_path)  # a cluster of this machine, which is there for as long
    lines = list(again.lines())
    assert again.end() == (0, "")
    before = {line["run"] for line in lines if line.get("finished_before")}
    assert before == {run for run, seen in states.items() if seen[-1] == "done"}
    ends = [line["run"] for line in lines if line["state"] == "done" and line["run"] not in before]
    assert sorted(ends) == sorted(states.keys() - before)
    alone = command("run", *words, "--output", "single")
    assert alone.code == 0, alone.err
    assert_same_records(tmp_path / "runs", tmp_path / "single", 8)
    assert not (tmp_path / "runs" / "sweep").exists()
    assert not (tmp_path / "runs" / "checkpoints").exists()


def job_of(run_id: str) -> psutil.Process:
    """The job that watches over a run."""
    for process in psutil.process_iter():
        words = process.cmdline()
        if "ckl_bench.running.child" in words and words[-1].endswith(f"{run_id}.json"):
            found: psutil.Process | None = process.parent()
            assert found is not None
            return found
    raise AssertionError(f"no process runs {run_id}")


@pytest.mark.slow
def test_four_jobs_of_which_one_is_put_back_are_stopped_and_go_on(
    command: Command, small: Path, tmp_path: Path
) -> None:
    words = words_of_eight(tmp_path, small)
    del words[2:4]  # one method
    slurm = ("--executor", "slurm", "--slurm", "cluster=local", "--jobs", 2)
    sweep = Sweep(*words, *slurm, cwd=tmp_path)
    last, notified, asked = dict[str, dict[str, Any]](), "", False
    for line in sweep.lines():
        last[line["run"]] = line
        if not notified and line["state"] == "running" and line["epoch"] == 1:
            notified = line["run"]
            job_of(notified).send_signal(signal.SIGUSR1)  # as Slurm does before it takes the machine away
        if notified and last[notified]["state"] == "done" and not asked and line["state"] == "running":
            sweep.process.send_signal(signal.SIGINT)
            asked = True
    code, said = sweep.end()
    assert code == 130, said
    assert "losses" not in last[notified]  # it is the same job that has gone on
    assert {line["state"] for line in last.values()} >= {"done", "stopped"}
    again = Sweep(*words, *slurm, cwd=tmp_path)
    assert {line["run"]: line["state"] for line in again.lines()} == dict.fromkeys(last, "done")
    assert again.end()[0] == 0
    alone = command("run", *words, "--output", "single")
    assert alone.code == 0, alone.err
    assert_same_records(tmp_path / "runs", tmp_path / "single", 4)
    assert not (tmp_path / "runs" / "sweep").exists()
