"""Adapters that vLLM scores: several with one engine, and those of which it would leave anything out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from ckl_bench.records import Record, read_records
from conftest import Command
from helpers.fake_vllm import Engines, engines

__all__ = ["engines"]


def _learned(command: Command, small: Path, method: str = "lora", *more: object) -> Path:
    """The folder of a run that has learned two documents."""
    before = set(Path("m").glob("*"))
    run = ("run", "--model", "tiny", "--benchmark", small, "--method", method, "--limit", 2, "--epochs", 2)
    done = command(*run, "--lr", "1e-2", "--save-model", "m", "--output", "learned", *more)
    assert done.code == 0, done.err
    (folder,) = set(Path("m").glob("*")) - before
    return folder


def _nll(record: Record) -> list[float]:
    return [nll for scores in record.stages[0].epochs[0].sets.values() for nll in scores.probe_nll]


def test_several_adapters_are_scored_by_one_engine(command: Command, small: Path, engines: Engines) -> None:
    first, second = _learned(command, small), _learned(command, small, "lora", "--set", "lora.r=32", "--seed", 1)
    asked = ("score", "--model", "tiny", "--adapter", first, "--adapter", second, "--benchmark", small)
    engines.dies_after = 10 + 8 + 4  # behind the first adapter's probes, asked again too
    broken = command(*asked, "--backend", "vllm")
    assert broken.code == 1
    assert "the same command goes on" in broken.err
    engines.dies_after, done = 10**9, sum(engines.asked)
    result = command(*asked, "--backend", "vllm", "--json")
    assert result.code == 0, result.err
    assert "it is scored already" in result.err
    assert sum(engines.asked) - done == 10 + 8  # the second adapter alone
    both = [json.loads(line)["run_id"] for line in result.out.splitlines()]
    made = {record.run_id: record for record in read_records(Path("runs"))}
    theirs = [made[name] for name in both]
    assert len(made) == 2
    assert [record.spec.hyperparameters["score"]["adapter"] for record in theirs] == [first.name, second.name]
    ours = [json.loads(line)["run_id"] for line in command(*asked, "--json").out.splitlines()]
    made = {record.run_id: record for record in read_records(Path("runs"))}
    for name, record in zip(ours, theirs, strict=True):
        assert _nll(record) == pytest.approx(_nll(made[name]), abs=1e-5)
    assert abs(_nll(theirs[0])[0] - _nll(theirs[1])[0]) > 1e-3  # and not one adapter twice
    for given in engines.arguments:
        assert (given["max_loras"], given["max_lora_rank"]) == (1, 32)  # the larger of both
    assert len(engines.arguments) == engines.ended == 2  # one a command


def test_an_adapter_that_is_given_twice_is_one_line(command: Command, small: Path) -> None:
    folder = _learned(command, small)
    result = command("score", "--model", "tiny", "--adapter", folder, "--adapter", f"{folder}/", "--benchmark", small)
    assert result.code == 2
    assert "is given twice" in result.err
    assert not Path("runs/records").exists()


@pytest.mark.parametrize("wrong", ["lm_head", "use_dora", "rank", "kadapter", "qlora"])
def test_an_adapter_of_which_anything_would_be_left_out_is_refused(
    wrong: str, command: Command, small: Path, engines: Engines
) -> None:
    method = wrong if wrong in ("kadapter", "qlora") else "lora"
    if method == "qlora":
        pytest.importorskip("bitsandbytes")  # which the environment of `make vllm` has not
    folder = _learned(command, small, method)
    if wrong == "lm_head":
        file = folder / "adapter_model.safetensors"
        tensors = load_file(str(file))
        tensors["base_model.model.lm_head.lora_A.weight"] = next(iter(tensors.values())).clone()
        save_file(tensors, str(file))
    elif wrong in ("use_dora", "rank"):
        about: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
        about |= {"use_dora": True} if wrong == "use_dora" else {"rank_pattern": {"q_proj": 1024}}
        (folder / "adapter_config.json").write_text(json.dumps(about))
    result = command("score", "--model", folder, "--benchmark", small, "--backend", "vllm")
    assert result.code == 2
    assert "--backend transformers scores it" in result.err
    assert {"rank": "1024", "kadapter": "method", "qlora": "held in"}.get(wrong, wrong) in result.err
    assert not engines.arguments
