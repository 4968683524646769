"""Sweeps on a Ray cluster and as jobs of submitit: nothing is lost or doubled whatever ends; records are the same."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import Command
from helpers.sweeps import SLOW, Sweep, assert_same_records, assert_went_on

# Several minutes of starting engines; a machine that is busy is no cluster.
LONG = pytest.mark.skipif("CKL_BENCH_CLUSTERS" not in os.environ, reason="minutes long: make clusters")

# All facts of the small benchmark, and of general texts no more than tests in one process look at (`helpers.quick`).
TRY = ("--model", "tiny", "--limit", 5)


def runs_of(processes: Iterable[psutil.Process]) -> Iterator[tuple[psutil.Process, list[str]]]:
    """Those processes that are runs of a sweep, with their words."""
    for each in processes:
        with suppress(psutil.Error):  # it has ended by now
            words = each.cmdline()
            if "ckl_bench.running.child" in words:
                yield each, words


class Nodes:
    """A Ray cluster of several nodes on this machine: a head that runs nothing, and `cpus` of nodes that do."""

    def __init__(self, *cpus: int) -> None:
        from ray.cluster_utils import Cluster

        self.cluster: Any = Cluster()
        self.nodes = [self.started(count) for count in (0, *cpus)][1:]

    def started(self, cpus: int, tries: int = 3) -> Any:
        """A node; Ray gives each 15 seconds to start, whatever else the machine does (ray#65983)."""
        try:
            return self.cluster.add_node(
                num_cpus=cpus, include_dashboard=False, object_store_memory=80 * 2**20, memory=8 * 2**30
            )
        except Exception:
            if tries == 1:
                raise
            return self.started(cpus, tries - 1)

    def runs(self, node: int) -> set[str]:
        """Which runs a node has at the moment."""
        raylet = psutil.Process(self.nodes[node].all_processes["raylet"][0].process.pid)
        return {Path(words[-1]).stem for _, words in runs_of(raylet.children(recursive=True))}

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
    return [*methods, *seeds, *TRY, "--benchmark", small, "--set", "slow.pause=0.5", "--epochs", 2]


def beside_notes(said: str) -> list[str]:
    """The lines that are no notes of ours, of the benchmark or of the cluster."""
    return [line for line in said.splitlines() if not line.startswith("note: ")]


@LONG
@pytest.mark.slow
@pytest.mark.usefixtures("whole")
def test_eight_runs_on_a_cluster_that_loses_a_node_are_stopped_and_go_on(
    command: Command, small: Path, tmp_path: Path, nodes: Nodes
) -> None:
    words = words_of_eight(tmp_path, small)
    ray = ("--executor", "ray", "--cpus", 1)
    sweep = Sweep(*words, *ray, "--address", nodes.cluster.address, cwd=tmp_path)
    states, lost, asked = dict[str, list[str]](), "", False
    for line in sweep.lines():
        states.setdefault(line["run"], []).append(line["state"])
        midway = line["state"] == "running" and line["epoch"] == 1
        if midway and not lost and line["run"] in nodes.runs(1):
            lost = line["run"]
            nodes.kill(1)
        if line["state"] == "running" and lost and not asked and sum(s[-1] == "done" for s in states.values()) >= 3:
            sweep.process.send_signal(signal.SIGINT)
            asked = True
    code, said = sweep.end()
    assert code == 130, said
    assert len(beside_notes(said)) == 1, said  # the line of the interruption, and nothing of Ray's
    assert [run for run, seen in states.items() if seen.count("waiting") > 1] == [lost]  # at the start, and again
    assert {seen[-1] for seen in states.values()} == {"done", "stopped"}
    assert any((tmp_path / "runs" / "checkpoints").rglob("state.json"))
    again = Sweep(*words, *ray, cwd=tmp_path)  # a cluster of this machine, which is there for as long
    lines = list(again.lines())
    code, said = again.end()
    assert (code, beside_notes(said)) == (0, []), said
    before = {line["run"] for line in lines if line.get("finished_before")}
    assert before == {run for run, seen in states.items() if seen[-1] == "done"}
    assert_went_on(tmp_path, lost, states)
    ends = [line["run"] for line in lines if line["state"] == "done" and line["run"] not in before]
    assert sorted(ends) == sorted(states.keys() - before)
    for method in range(2):  # `run` takes one
        alone = command("run", *words[2 * method : 2 * method + 2], *words[4:], "--output", "single")
        assert alone.code == 0, alone.err
    assert_same_records(tmp_path / "runs", tmp_path / "single", 8)
    assert not (tmp_path / "runs" / "sweep").exists()
    assert not (tmp_path / "runs" / "checkpoints").exists()


@pytest.fixture
def head(tmp_path: Path) -> Iterator[str]:
    """The address for clients of a cluster of this machine that asks for a token."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2", "--port=0"]
    more = ["--include-dashboard=false", f"--temp-dir={tempfile.mkdtemp(prefix='ckl-ray-')}"]
    env = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-word", "RAY_USAGE_STATS_ENABLED": "0"}
    started = subprocess.Popen([*ray, *more, f"--ray-client-server-port={port}"], env=env, stdout=subprocess.DEVNULL)
    yield f"ray://127.0.0.1:{port}"
    started.terminate()
    started.wait()
    shutil.rmtree(more[1].partition("=")[2], ignore_errors=True)


@LONG
@pytest.mark.slow
@pytest.mark.usefixtures("whole")
def test_a_cluster_is_reached_by_its_client_s_address_and_token(
    command: Command, small: Path, tmp_path: Path, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*TRY, "--benchmark", small, "--epochs", 1)
    sweep = ("--method", "lora", "--method", "finetune", *words, "--executor", "ray", "--cpus", 1, "--address", head)
    for _ in range(120):
        with suppress(OSError), socket.create_connection(("127.0.0.1", int(head.rpartition(":")[2])), 1):
            break
        time.sleep(0.5)
    code, said = Sweep(*sweep, cwd=tmp_path).end()
    assert (code, len(beside_notes(said))) == (2, 1), said
    assert "RAY_AUTH_MODE=token" in said
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a-word")
    code, said = Sweep(*sweep, cwd=tmp_path).end()
    assert (code, beside_notes(said)) == (0, []), said
    for method in ("lora", "finetune"):
        alone = command("run", "--method", method, *words, "--output", "single")
        assert alone.code == 0, alone.err
    assert_same_records(tmp_path / "runs", tmp_path / "single", 2)


def job_of(run_id: str) -> psutil.Process:
    """The job that watches over a run."""
    (found,) = [each.parent() for each, words in runs_of(psutil.process_iter()) if words[-1].endswith(f"{run_id}.json")]
    assert found is not None
    return found


@LONG
@pytest.mark.slow
@pytest.mark.usefixtures("whole")
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
        if not notified and line["state"] == "running":
            notified, job = line["run"], job_of(line["run"])
            job.send_signal(signal.SIGUSR1)  # as Slurm does before it takes the machine away
            job.wait(60)
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
