"""TAALM: training φ, resuming, φ's file, its weights in a run, and the memory it shares."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ckl_bench.benchmarks.format import Document, load_benchmark
from ckl_bench.encode import collate, encode_documents
from ckl_bench.errors import UserError
from ckl_bench.learning import readings
from ckl_bench.method import StageContext
from ckl_bench.models.find import find_model
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench.models.trunk import share_trunk
from ckl_bench.stacks.settings import settings_over
from ckl_bench_methods.lora import Lora
from ckl_bench_methods.taalm import Taalm, training
from ckl_bench_methods.taalm.attention import FILES, Shape, TrainAttention, load_attention
from ckl_bench_methods.taalm.meta_train import MetaTraining
from ckl_bench_methods.taalm.training import train_attention
from conftest import Command, forge
from helpers.architectures import BUILDERS, make
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


@pytest.mark.parametrize("shape", BUILDERS)
def test_phi_gives_every_token_a_weight_and_padding_none(shape: str) -> None:
    phi = TrainAttention(make(shape), Shape(r=2), seed=0)
    documents = encode_documents(
        tiny_tokenizer(), [Document(id="a", text="short"), Document(id="b", text="somewhat longer")], 64
    )
    both = collate(documents)
    weights = phi(both.ids, both.mask)
    assert weights.shape == (2, both.ids.shape[1] - 1)
    assert torch.equal(weights > 0, both.mask[:, 1:] > 0)
    torch.testing.assert_close(weights.amax(1), torch.ones(2))
    alone = collate(documents[:1])
    torch.testing.assert_close(phi(alone.ids, alone.mask)[0], weights[0, : len("short") - 1], atol=1e-6, rtol=1e-5)
    plain = TrainAttention(make(shape), Shape(r=2, scale="plain", bias=1.0), seed=0)
    assert plain(both.ids, both.mask)[both.mask[:, 1:] > 0].mean().item() == pytest.approx(0.73, abs=0.15)


def test_phi_survives_its_file(tmp_path: Path) -> None:
    phi = TrainAttention(make("llama"), Shape(r=2), seed=0)
    with torch.no_grad():
        for p in phi.trained().values():
            p.add_(0.1 * torch.randn_like(p))
    path = tmp_path / "phi.safetensors"
    about = {"shape": {"r": 2, "alpha": 16.0, "bias": 0.0, "scale": "max"}, "tokenizer_hash": "x", "model": "m"}
    FILES.save(path, phi.trained(), about)
    back = load_attention(path, make("llama"))
    batch = collate(encode_documents(tiny_tokenizer(), [Document(id="a", text="some words to weigh")], 64))
    torch.testing.assert_close(back(batch.ids, batch.mask), phi(batch.ids, batch.mask), atol=2e-3, rtol=0)
    assert not any(p.requires_grad for p in back.parameters())
    with pytest.raises(UserError, match="another model shape"):
        load_attention(path, make("gpt2"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match="does not match"):
        load_attention(path, make("llama"))


@pytest.mark.parametrize("shape", BUILDERS)
def test_a_shared_trunk_is_the_base_model_in_the_same_memory(shape: str) -> None:
    base = make(shape)
    inputs = torch.randint(3, 250, (1, 12))
    expected = base(input_ids=inputs).logits
    model = Lora(r=2).build(lambda: base)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.fill_(0.3)  # a learner that has moved away from the base
    learned = model(input_ids=inputs).logits
    twin = share_trunk(model)
    assert twin is not None
    torch.testing.assert_close(twin(input_ids=inputs).logits, expected)
    torch.testing.assert_close(model(input_ids=inputs).logits, learned)
    mine = {p.data_ptr() for p in twin.parameters()}
    assert mine <= {p.data_ptr() for p in model.parameters()}
    assert share_trunk(make(shape).requires_grad_(True)) is None


def test_phi_reads_each_document_once_per_stage(small: Path, phi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    forward = TrainAttention.forward

    def counting(self: TrainAttention, ids: Tensor, mask: Tensor) -> Tensor:
        passes.append(1)
        return forward(self, ids, mask)  # type: ignore[no-any-return]

    monkeypatch.setattr(TrainAttention, "forward", counting)
    base = find_model("tiny")
    documents = encode_documents(base.tokenizer, load_benchmark(str(small)).stages[0].documents, 512)
    model = Lora(r=2).build(base.load)
    stage = StageContext(
        name="s",
        index=0,
        seed=0,
        documents=documents,
        rehearsal=tuple,
        base=lambda: share_trunk(model) or base.load(),
        inputs={"attention": phi},
    )
    weigh = Taalm(attention=phi).weigh(model, base.tokenizer, stage)
    first, again = (weigh(b, torch.zeros(b.ids.shape[0], b.ids.shape[1] - 1)) for b in (collate(documents),) * 2)
    tokens = sum(len(document.ids) for document in documents)
    assert 0 < len(passes) < len(documents) == 5
    assert tokens <= len(passes) * readings.TOKENS
    assert torch.equal(first, again)


STACKS = (
    "taalm",
    "taalm+finetune",
    "taalm+kadapter",
    "taalm+mixreview",
    "taalm+recadam",
    "taalm+kadapter+recadam",
    "taalm+kadapter+mixreview+recadam",
)


@pytest.mark.parametrize("stack", STACKS)
def test_taalm_runs_in_every_stack_of_the_paper(stack: str, command: Command, small: Path, phi: Path) -> None:
    run = ("run", "--method", stack, "--model", "tiny", "--benchmark", small, "--limit", 5, "--json")
    result = command(*run, "--set", f"taalm.attention={phi}")
    assert result.code == 0
    spec = json.loads(result.out)["spec"]
    assert spec["method"].startswith("taalm(attention=phi.safetensors)+")
    assert list(spec["inputs"]) == ["attention"]


def test_a_missing_phi_names_the_command_that_trains_one(command: Command, small: Path) -> None:
    result = command("run", "--method", "taalm", "--model", "tiny", "--benchmark", small)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert f"ckl-bench train-attention --benchmark {small} --model tiny" in result.err
    missing = command("run", "--method", "taalm", "--model", "tiny", "--set", "taalm.attention=nowhere.safetensors")
    assert missing.code == 2
    assert "no train-attention at nowhere.safetensors" in missing.err


def test_a_shipped_phi_goes_by_its_benchmarks_name(
    command: Command, small: Path, phi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "attention").mkdir(parents=True)
    for suffix in (".json", ".safetensors"):
        (tmp_path / "data" / "attention" / f"tiny--check{suffix}").write_bytes(phi.with_suffix(suffix).read_bytes())
    monkeypatch.setattr("ckl_bench.storage.prepared.data_dir", lambda: tmp_path / "data")
    name = json.loads(phi.with_suffix(".json").read_text())["benchmark"]
    run = ("run", "--method", "taalm", "--model", "tiny", "--limit", "3", "--epochs", "1", "--json")
    by_name = command(*run, "--set", f"taalm.attention={name}")
    by_file = command(*run, "--set", f"taalm.attention={phi}", "--output", "other")
    assert (by_name.code, by_file.code) == (0, 0), by_name.err
    named, filed = json.loads(by_name.out), json.loads(by_file.out)
    assert named["stages"] == filed["stages"]
    assert named["spec"]["inputs"] == filed["spec"]["inputs"]
    assert named["spec"]["method"] == f"taalm(attention={name})+lora"
    assert command("reproduce", f"runs/records/{named['run_id']}.json").code == 0
    none = command(*run)  # on a benchmark for which none ships
    assert (none.code, none.err.count("\n")) == (2, 1)
    assert (
        f"take one trained on other facts, --set taalm.attention={name}, or make one: ckl-bench train-attention"
        in none.err
    )
    wrong = command(*run, "--set", "taalm.attention=elsewhere")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert (
        "there is no train-attention 'elsewhere' for model 'tiny'; take one trained on other facts, --set " in wrong.err
    )


def test_a_phi_of_another_tokenizer_is_refused(command: Command, small: Path, phi: Path, tmp_path: Path) -> None:
    out = tmp_path / "phi.safetensors"
    for suffix in (".json", ".safetensors"):
        shutil.copy(phi.with_suffix(suffix), out.with_suffix(suffix))
    forge(out.with_suffix(".json"), lambda about: about.update(tokenizer_hash="0" * 64, model="other"))
    run = ("run", "--method", "taalm", "--model", "tiny", "--benchmark", small)
    result = command(*run, "--set", f"taalm.attention={out}")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "was made for the tokenizer of 'other'" in result.err


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
