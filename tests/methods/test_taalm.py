"""TAALM: φ's file, its weights in a run, and the memory it shares."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ckl_bench.benchmarks.format import Document, load_benchmark
from ckl_bench.encode import collate, encode_documents
from ckl_bench.errors import UserError
from ckl_bench.learning import readings
from ckl_bench.method import StageContext
from ckl_bench.models.find import find_model
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench.models.trunk import share_trunk
from ckl_bench_methods.lora import Lora
from ckl_bench_methods.taalm import Taalm
from ckl_bench_methods.taalm.attention import FILES, Shape, TrainAttention, load_attention
from conftest import Command, forge
from helpers.architectures import BUILDERS, make


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


def test_a_run_says_which_train_attention_it_took(command: Command, small: Path, phi: Path) -> None:
    setting = ["--set", f"taalm.attention={phi}"]
    done = command("run", "--method", "taalm", "--benchmark", small, "--model", "tiny", "--epochs", 1, *setting)
    assert done.code == 0, done.err
    assert f"note: attention is {phi.name}" in done.err
