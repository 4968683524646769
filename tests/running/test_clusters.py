"""Sweeps on Ray and as jobs of Slurm: what is refused in a line, what is missing, and what a run is given."""

from __future__ import annotations

import json
import math
import os
import socket
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from ckl_bench.errors import UserError
from ckl_bench.learning.run import RunRequest
from ckl_bench.running import place
from ckl_bench.running.grid import planned
from ckl_bench.running.heard import Heard
from ckl_bench.running.needs import CONTEXT, gpus_of, memory_of
from ckl_bench.running.place import Place
from ckl_bench.running.ray import Ray
from conftest import Command


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--executor local --address auto", "--address is for --executor ray; leave it out, or give that"),
        ("--gpus 0.5", "--gpus is for --executor ray or slurm;"),
        ("--executor slurm --address auto", "--address is for --executor ray;"),
        ("--executor slurm --gpu-memory 24GB", "--gpu-memory is for --executor ray;"),
        ("--executor ray --gpu-memory much", "--gpu-memory much: expected a size such as 24GB"),
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
            "--address 127.0.0.1:{port}",  # which means --executor ray
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


def test_a_job_is_submitted_as_asked_and_cancelled_where_it_waits(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's commands are stood in for by scripts that note what they are given."""
    for name, does in {
        "sbatch": f'cp "$1" {tmp_path}/script; echo Submitted batch job 7',
        "scancel": f"echo $@ > {tmp_path}/cancelled",
        **dict.fromkeys(("srun", "sacct"), "true"),
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (task,) = planned([RunRequest(method="none", model="tiny", benchmark=str(small))], tmp_path / "runs")
    options = {"partition": "gpu", "time": "120", "exclusive": "true", "mail-type": "FAIL"}
    executor = Place(executor="slurm", cpus=2, gpus=1, memory=3 * 2**30, slurm=options).make(tmp_path / "sweep", [task])
    executor.start(task)
    found = {line.removeprefix("#SBATCH --") for line in (tmp_path / "script").read_text().splitlines()}
    assert {"partition=gpu", "time=120", "exclusive", "mail-type=FAIL", "signal=USR1@90"} <= found
    assert {"cpus-per-task=2", "gpus-per-node=1", "mem=3GB"} <= found
    assert list(executor.poll()) == []
    executor.stop()
    assert list(executor.poll()) == [(task.run_id, Heard(state="stopped"))]
    assert (tmp_path / "cancelled").read_text().split() == ["7"]
    executor.close()
    assert list((tmp_path / "sweep").iterdir()) == []


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


def test_the_part_of_a_gpu_is_the_smallest_that_holds_what_plan_says_and_half_as_much(
    command: Command, small: Path, tmp_path: Path
) -> None:
    request = RunRequest(method="lora", model="tiny", benchmark=str(small), device="cuda", dtype="bfloat16")
    (task,) = planned([request], tmp_path)
    words = ("--method", "lora", "--model", "tiny", "--benchmark", small, "--json", "--device", "cuda")
    found = json.loads(command("plan", *words, "--memory", "24GB").out)
    need = int(1.5 * found["memory"]["peak"]) + CONTEXT
    for part, next_part in ((0.125, 0.25), (0.25, 0.5), (0.5, 1.0)):
        assert gpus_of(task, math.ceil(need / part)) == part
        assert gpus_of(task, int(need / part) - 8) == next_part
    assert gpus_of(task, 10**8) == 1.0  # it may not fit at all, which it says itself
    assert gpus_of(task, None) == 1.0
    assert gpus_of(replace(task, request=replace(request, device="cpu")), 24 * 10**9) == 0.0


def a_cluster(monkeypatch: pytest.MonkeyPatch, **machine: float) -> MagicMock:
    """Ray in name only, of one machine: what it is asked for is all there is to see."""
    cluster = MagicMock()
    cluster.nodes.return_value = [{"Alive": True, "Resources": machine}, {"Alive": False, "Resources": {"GPU": 64.0}}]

    def reached(executor: Ray, address: str) -> MagicMock:
        executor._ours = False
        return cluster

    monkeypatch.setattr(Ray, "_reached", reached)
    return cluster


def test_ray_is_asked_for_the_part_of_a_gpu_that_plan_says(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = RunRequest(method="lora", model="tiny", benchmark=str(small), device="cuda", dtype="bfloat16")
    (task,) = planned([request], tmp_path)
    cluster = a_cluster(monkeypatch, CPU=8.0, GPU=2.0, memory=64e9)
    card = math.ceil((1.5 * 10**9 + CONTEXT) / 0.25)
    executor = Ray(tmp_path, [task], address="head:6379", card=card)
    executor.start(task)
    asked = cluster.remote.return_value.options.call_args.kwargs
    assert asked["num_gpus"] == gpus_of(task, card) < 1
    assert asked["num_cpus"] == max(1, 8 // int(2 / asked["num_gpus"]))  # as many runs as the machine's GPUs hold
    assert asked["max_restarts"] == 0


def test_a_run_that_no_machine_has_room_for_is_one_line_or_waits_for_one(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (task,) = planned([RunRequest(method="lora", model="tiny", benchmark=str(small))], tmp_path)
    a_cluster(monkeypatch, CPU=2.0, memory=8e9)
    for wanted in ({"gpus": 1.0}, {"cpus": 4}, {"memory": 9 * 10**9}):
        with pytest.raises(UserError, match=r"no machine has that .the largest has 2 CPUs, 8.0 GB."):
            Ray(tmp_path, [task], address="local", **wanted)  # type: ignore[arg-type]
        Ray(tmp_path, [task], address="head:6379", **wanted)  # type: ignore[arg-type]
        assert "it waits until one has" in capsys.readouterr().err
    Ray(tmp_path, [task], address="local", memory=8 * 10**9)
    assert not capsys.readouterr().err
