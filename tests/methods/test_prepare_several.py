"""Several processes prepare a file together: it is the one that one process makes, and there is one."""

from __future__ import annotations

import json
import os
import signal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from ckl_bench.storage.checkpoint import Keeper
from helpers.several import Ended, run_several

OWN = '''from dataclasses import dataclass

from ckl_bench.method import Method


@dataclass(frozen=True, kw_only=True)
class Alone(Method):
    """Prepares something that it does not share."""
    def prepare(self, *, out, **context):
        out.write_text("made")
'''


def train(small: Path, batch_size: int) -> tuple[object, ...]:
    settings = {"steps": 4, "batch_size": batch_size, "held_out": 3, "validate_every": 2, "inner_r": 2, "r": 2}
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return ("train-attention", "--model", "tiny", "--benchmark", small, "--out", "phi.safetensors", *words)


def assert_same_phi(one: Path, other: Path) -> None:
    """φ's weights to 1e-5 and half a step of float16, in which they are written; the curve to 1e-5."""
    ours, theirs = (load_file(folder / "phi.safetensors") for folder in (one, other))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        ours_, theirs_ = tensor.float(), theirs[name].float()
        assert ((ours_ - theirs_).abs() <= 1e-5 + 2**-10 * ours_.abs()).all(), name
    about, again = (json.loads((folder / "phi.json").read_text()) for folder in (one, other))
    assert _numbers(again) == pytest.approx(_numbers(about), abs=1e-5)
    assert len(_numbers(about)) > 20


def _numbers(about: dict[str, Any]) -> list[float]:
    """Baselines, curve, documents and tokens; not seconds."""
    cost = about["cost"]
    entries = [about["baselines"], *(e.get(part, {}) for e in about["curve"] for part in ("train", "held_out"))]
    norms = [e["gradient_norm"] for e in about["curve"] if "gradient_norm" in e]
    return [
        *(v for e in entries for v in e.values()),
        *norms,
        about["best_task_nll"],
        cost["documents"],
        cost["tokens"],
    ]


def assert_one(ended: Ended, world: int) -> None:
    assert ended.codes == [0] * world, ended.err
    assert ended.out.count("phi.safetensors: use it with") == 1
    assert ended.err.count("held-out task NLL: uniform") == 1


@pytest.mark.parametrize(("world", "batch_size"), [(2, 3), pytest.param(3, 2, marks=pytest.mark.slow)])
def test_several_processes_train_the_phi_of_one(world: int, batch_size: int, small: Path, tmp_path: Path) -> None:
    arguments = train(small, batch_size)
    assert_one(run_several(1, arguments, tmp_path / "one"), 1)
    assert_one(run_several(world, arguments, tmp_path / "several"), world)
    assert_same_phi(tmp_path / "one", tmp_path / "several")
    assert sorted(path.name for path in (tmp_path / "several").iterdir()) == ["phi.json", "phi.safetensors"]
    again = run_several(world, arguments, tmp_path / "several")
    assert again.codes == [0] * world, again.err
    assert again.err.count("is trained already") == 1


def stop_behind_the_second_step(rank: int) -> None:
    """As a scheduler's notice to one of the processes."""
    after, steps = Keeper.after_step, count(1)

    def stop(keeper: Keeper, state: Any) -> None:
        if next(steps) == 2 and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        after(keeper, state)

    Keeper.after_step = stop  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("world", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_training_goes_on_with_another_number_of_processes(world: int, small: Path, tmp_path: Path) -> None:
    arguments = train(small, 3)
    assert_one(run_several(1, arguments, tmp_path / "one"), 1)
    stopped = run_several(2, arguments, tmp_path / "several", stop_behind_the_second_step)
    assert stopped.codes == [130, 130], stopped.err
    assert not (tmp_path / "several" / "phi.safetensors").exists()
    again = run_several(world, arguments, tmp_path / "several")
    assert again.codes == [0] * world, again.err
    assert again.err.count("going on from step 2 of 4") == 1
    assert_same_phi(tmp_path / "one", tmp_path / "several")


@pytest.mark.slow
def test_several_processes_train_one_writer(small: Path, tmp_path: Path) -> None:
    where = ("--model", "tiny", "--benchmark", small, "--out", "writer.safetensors")
    arguments = ("prepare", "restate", *where, "--set", "epochs=2", "--set", "r=2")
    assert run_several(1, arguments, tmp_path / "one").codes == [0]
    several = run_several(2, arguments, tmp_path / "several")
    assert several.codes == [0, 0], several.err
    assert several.out.count("writer.safetensors: a run reads it") == 1
    one, other = (json.loads((tmp_path / name / "writer.json").read_text()) for name in ("one", "several"))
    assert other["curve"] == pytest.approx(one["curve"], abs=5e-3)  # it reads in bfloat16
    assert other["cost"]["tokens"] == one["cost"]["tokens"]


def test_a_preparation_that_is_not_shared_is_refused(small: Path, tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(OWN)
    where = ("--methods-dir", tmp_path, "--model", "tiny", "--benchmark", small, "--out", "made.safetensors")
    ended = run_several(2, ("prepare", "alone", *where), tmp_path / "several")
    assert ended.codes == [2, 2], ended.err
    assert ended.err.count("error: ") == 1
    assert "several processes were started for 'alone'" in ended.err
    assert not (tmp_path / "several" / "made.safetensors").exists()
