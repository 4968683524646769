"""What makes a run fit: another dtype is another run, the rest changes memory and not what is learned."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from ckl_bench.cli.options import tokens_or_auto
from ckl_bench.errors import UserError
from ckl_bench.events import Watcher
from ckl_bench.learning.environment import pick_dtype
from ckl_bench.learning.run import RunRequest, execute, plan_run
from ckl_bench.learning.sizes import micro_batch, precision, score_tokens
from ckl_bench.learning.stages import _Run
from ckl_bench.models.find import find_model
from ckl_bench.records import Record
from ckl_bench.stacks.plugins import origins
from ckl_bench.storage.checkpoint import Keeper
from conftest import Command


def a_run(**changes: Any) -> Record:
    request: dict[str, Any] = {"method": "lora", "model": "tiny", "epochs": 1, "limit": 6, "batch_size": 3} | changes
    return execute(plan_run(RunRequest(**request)))


def nll(record: Record) -> list[float]:
    assert record.status == "done", record.error
    return [s.nll for s in record.stages[0].epochs[-1].sets.values()]


@pytest.fixture(scope="module")
def plain() -> Record:
    return a_run()


@pytest.mark.parametrize(
    "changes",
    [{"micro_batch": 1}, {"score_batch_tokens": 7}, {"checkpoint_activations": True}, {"attention": "eager"}],
    ids=str,
)
def test_what_only_makes_a_run_fit_is_in_the_environment_and_leaves_its_numbers(
    plain: Record, changes: dict[str, Any]
) -> None:
    found = a_run(**changes)
    assert found.run_id == plain.run_id
    assert nll(found) == pytest.approx(nll(plain), abs=1e-4)
    for name, value in changes.items():
        assert getattr(found.environment, name) == value != getattr(plain.environment, name)


@pytest.mark.parametrize("method", sorted(origins().keys() - {"none"}))
def test_every_method_learns_the_same_in_parts_of_a_batch(
    method: str, command: Command, small: Path, prepared: dict[str, list[str]]
) -> None:
    def after(*more: object) -> list[float]:
        where = ("--model", "tiny", "--benchmark", small, "--epochs", 1, "--lr", "1e-2")
        run = ("run", "--method", method, *where, "--fresh", "--json")
        done = command(*run, *prepared.get(method, ()), *more)
        assert done.code == 0, done.err
        (stage,) = json.loads(done.out)["stages"]
        return [scores["nll"] for scores in stage["epochs"][-1]["sets"].values()]

    assert after("--micro-batch", 1) == pytest.approx(after("--micro-batch", 2), abs=1e-4)


@cache
def in_32_bits(method: str) -> Record:
    return a_run(method=method)


@pytest.mark.parametrize("method", ["lora", "finetune", "rho1", "qlora"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_run_in_16_bits_is_another_run_that_learns_nearly_the_same(method: str, dtype: str) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    full, half = in_32_bits(method), a_run(method=method, dtype=dtype)
    assert full.run_id != half.run_id
    assert half.spec.dtype == dtype
    assert nll(half) == pytest.approx(nll(full), abs=0.05)


@pytest.mark.parametrize("method", ["lora", "finetune"])
def test_frozen_weights_are_held_in_the_dtype_and_what_trains_in_float32(method: str) -> None:
    run = _Run(plan_run(RunRequest(method=method, model="tiny", dtype="bfloat16")), Keeper(None), Watcher())
    kinds = {p.requires_grad: p.dtype for p in run.model.parameters()}
    assert kinds.get(False, torch.bfloat16) == torch.bfloat16
    assert kinds[True] == torch.float32


def test_auto_is_float32_on_a_cpu_and_a_wrong_name_is_one_line() -> None:
    assert pick_dtype("auto", "cpu") == "float32"
    with pytest.raises(UserError, match="expected auto, float32, bfloat16 or float16"):
        pick_dtype("int8", "cpu")


@pytest.mark.parametrize(
    ("capabilities", "noted"),
    [({"avx512_f": True, "avx512_bf16": False}, True), ({"avx512_bf16": True}, False), ({"bf16": True}, False)],
)
def test_a_processor_without_bfloat16_is_said_to_be_slow_in_it(
    capabilities: dict[str, bool], noted: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert pick_dtype("bfloat16", "cpu") == "bfloat16"
    said = " ".join(capsys.readouterr().err.split())
    assert (
        said == ("note: this processor has no bfloat16 instructions; --dtype float32 is several times as fast") * noted
    )


def test_a_torch_that_cannot_say_what_its_processor_has_gives_no_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert pick_dtype("bfloat16", "cpu") == "bfloat16"
    assert not capsys.readouterr().err


def test_without_a_word_a_cpu_takes_a_fixed_number_of_tokens_at_once() -> None:
    model = find_model("tiny").load()
    assert micro_batch(model, "cpu", None).tokens == 384
    assert micro_batch(model, "cpu", None, weighs_tokens=False).tokens == 768  # documents stay out of the model
    assert micro_batch(model, "cpu", 3).documents == 3
    assert score_tokens(model, "cpu", None) == 1024
    assert score_tokens(model, "cpu", 7) == 7


@pytest.mark.parametrize("given", ["0", "-1", "many", "", "1e3", "99999999999"])
def test_what_is_no_number_of_tokens_to_score_at_once_is_one_line(given: str) -> None:
    with pytest.raises(UserError, match=r"--score-batch-tokens .*: expected auto or a whole number"):
        tokens_or_auto("--score-batch-tokens", given)
    assert tokens_or_auto("--score-batch-tokens", "auto") is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_takes_what_its_memory_holds_and_repeats_itself() -> None:
    tokens = micro_batch(find_model("tiny", device="cuda").load(), "cuda", None).tokens
    assert tokens is not None
    assert tokens > 384
    first, again = (a_run(device="cuda", dtype="bfloat16") for _ in range(2))
    assert first.weights_sha256 == again.weights_sha256


def test_a_larger_parent_s_memory_is_not_a_run_s() -> None:
    ask = "from ckl_bench.learning.environment import peak_memory; print(peak_memory('cpu'))"
    filled = bytearray(2 * 10**9)
    filled[::4096] = b"x" * len(filled[::4096])
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 15 * 10**8


def test_half_precision_on_a_cpu_leaves_out_fused_attention_and_nothing_else_does() -> None:
    fused: Callable[[], bool] = torch.backends.cuda.flash_sdp_enabled  # of all devices, whatever its module is called
    assert fused()
    with precision("cpu", "bfloat16"):
        assert not fused()
        assert torch.is_autocast_enabled("cpu")
    with precision("cpu", "float32"):
        assert fused()
        assert not torch.is_autocast_enabled("cpu")
    assert fused()
