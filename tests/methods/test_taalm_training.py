"""TAALM trains φ: what is written and said, what it costs, when it is trained again, and what φ learns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.torch import load_file

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.models.find import find_model
from ckl_bench.stacks.settings import settings_over
from ckl_bench_methods.taalm import training
from ckl_bench_methods.taalm.meta_train import MetaTraining, groups, make_examples, make_learners
from ckl_bench_methods.taalm.training import train_attention
from conftest import Command
from helpers.toy import meta_train_toy

QUICK = ("steps=4", "batch_size=2", "validate_every=2", "held_out=3", "inner_r=2", "r=2")


def train(command: Command, benchmark: Path, out: Path, *more: str) -> Any:
    settings = [x for setting in settings_over(QUICK, more) for x in ("--set", setting)]
    return command("train-attention", "--benchmark", benchmark, "--model", "tiny", "--out", out, *settings)


def test_train_attention_writes_phi_and_says_how_it_went(command: Command, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "phi.safetensors"
    result = train(command, small, out)
    assert result.code == 0
    assert f"--set taalm.attention={out}" in result.out
    about = json.loads(out.with_suffix(".json").read_text())
    assert about["data_sha256"] == load_benchmark(str(small)).manifest["files"]["attention/train.jsonl"]
    assert about["settings"]["steps"] == 4
    assert [entry["step"] for entry in about["curve"]] == [0, 1, 2, 3, 4]
    assert [e["step"] for e in about["curve"] if "held_out" in e] == [0, 2, 4]
    best = min(e["held_out"]["task_nll"] for e in about["curve"] if "held_out" in e)
    assert about["best_task_nll"] == best
    assert all("lora_" in name or name.startswith("head.") for name in load_file(out))
    assert not list(tmp_path.glob(".*"))  # the checkpoint is gone


def test_the_kernel_leaves_phi_as_it_is(command: Command, small: Path, tmp_path: Path) -> None:
    told = []
    for i, options in enumerate(([], ["--attention", "eager"])):
        out = tmp_path / f"{i}.safetensors"
        settings = [x for setting in QUICK for x in ("--set", setting)]
        given = ["--benchmark", small, "--model", "tiny", "--out", out, *settings, *options]
        result = command("train-attention", *given)
        assert result.code == 0, result.err
        told.append(json.loads(out.with_suffix(".json").read_text()))
    plain, eager = told
    assert eager["gradient"] == "forward"  # which fused kernels lack
    assert eager["best_task_nll"] == pytest.approx(plain["best_task_nll"], abs=1e-3)


def test_a_trained_phi_is_left_alone_and_a_damaged_one_made_again(
    command: Command, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "phi.safetensors"
    assert train(command, small, out).code == 0
    whole = out.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(training, "meta_step", None)  # would fail if it were called
        again = train(command, small, out)
    assert (again.code, "is trained already; --fresh trains it again" in again.err) == (0, True)
    out.write_bytes(whole[:-1])
    assert train(command, small, out).code == 0
    assert out.read_bytes() == whole


def test_a_run_says_what_its_phi_took(command: Command, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "phi.safetensors"
    assert train(command, small, out).code == 0
    spent = json.loads(out.with_suffix(".json").read_text())["cost"]
    assert spent["documents"] == 8
    run = ("run", "--model", "tiny", "--benchmark", small, "--epochs", 1, "--set", f"taalm.attention={out}")
    assert command(*run, "--method", "taalm", "--seed", 0, "--seed", 1).code == 0
    assert command(*run, "--method", "taalm+finetune").code == 0
    assert command("run", "--model", "tiny", "--benchmark", small, "--epochs", 1, "--method", "lora").code == 0
    table = pd.read_csv(tmp_path / "runs" / "lama-ckl.csv").set_index("method")
    for label in ("taalm(attention=phi.safetensors)+lora", "taalm(attention=phi.safetensors)+finetune"):
        row = table.loc[label]
        assert row["prepare_tokens"] == spent["tokens"] > 8
        assert row["seconds_and_prepare"] == pytest.approx(row["seconds"] + spent["seconds"], abs=1)
        assert row["seconds_amortised"] == pytest.approx(row["seconds"] + spent["seconds"] / 3, abs=1)
    assert table.loc["lora", ["prepare_tokens", "seconds_amortised"]].isna().all()


def test_too_few_documents_and_a_bad_name_are_one_line(command: Command, small: Path, tmp_path: Path) -> None:
    result = train(command, small, tmp_path / "phi.safetensors", "held_out=100")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "11 attention documents" in result.err
    assert "ends in .safetensors" in train(command, small, tmp_path / "phi.pt").err
    result = train(command, small, tmp_path / "phi.safetensors", "stepz=3")
    assert result.code == 2
    assert "did you mean 'steps'?" in result.err


def average(curve: list[dict[str, float]], key: str) -> float:
    return sum(entry[key] for entry in curve) / len(curve)


def test_phi_learns_which_token_the_task_will_ask_for() -> None:
    curve = meta_train_toy(48)
    assert curve[0]["weight_on_object"] < 1.3 * curve[0]["weight_elsewhere"]
    assert average(curve[-8:], "weight_on_object") > 2 * average(curve[-8:], "weight_elsewhere")


@pytest.mark.slow
def test_a_hundred_steps_do_not_collapse_the_weights() -> None:
    """The loss leaves the scale of the weights free; divided by the largest they stay apart, the gradient bounded."""
    curve = meta_train_toy(100)
    last = curve[-50:]
    assert average(last, "weight_on_object") > 0.9
    assert average(last, "weight_on_object") > 2 * average(last, "weight_elsewhere")
    assert average(last, "gradient") < 10 * average(curve[:50], "gradient")
    assert average(last, "task_nll") < average(curve[:4], "task_nll")


def test_the_same_seed_trains_the_same_phi(small: Path, tmp_path: Path) -> None:
    files = []
    for i, seed in enumerate((1, 1, 2)):
        out = tmp_path / f"{i}.safetensors"
        settings = MetaTraining(steps=2, batch_size=2, validate_every=2, held_out=3, inner_r=2, r=2)
        train_attention(
            benchmark=load_benchmark(str(small)),
            base=find_model("tiny"),
            out=out,
            device="cpu",
            seed=seed,
            settings=settings,
            fresh=False,
        )
        files.append(out.read_bytes())
    assert files[0] == files[1] != files[2]
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("keeps", [True, False])
def test_documents_go_alone_where_activations_are_computed_again(keeps: bool, small: Path) -> None:
    """A learner's own numbers are most of what a document takes there."""
    base = find_model("tiny")
    examples = make_examples(base.tokenizer, load_benchmark(str(small)).attention[:4], 32)
    learners = make_learners(base.load(), r=2, alpha=2.0, seed=0, keeps=keeps)
    learners.together = True
    sizes = [len(group) for group in groups(examples, learners)]
    assert sum(sizes) == 4
    assert (max(sizes) > 1) == keeps
