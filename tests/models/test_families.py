"""Transformers' causal families: each is scored as plain transformers predicts, and every method stands on it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ckl_bench.benchmarks.format import Probe
from ckl_bench.errors import UserError
from ckl_bench.learning.train import token_nll
from ckl_bench.models.suited import outline, require_causal, require_decoder
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench.models.trunk import share_trunk
from ckl_bench.scoring.engine import score_probes
from ckl_bench_methods.kadapter import KAdapter
from ckl_bench_methods.lora import Lora
from ckl_bench_methods.lora.low_rank import fused_experts, linear_targets
from ckl_bench_methods.taalm.attention import Shape, TrainAttention
from ckl_bench_methods.taalm.meta_gradient import meta_gradients
from ckl_bench_methods.taalm.meta_train import make_learners
from ckl_bench_methods.taalm.texts import Task, documents, questions
from ckl_bench_methods.taalm.tried import supported_form
from helpers.families import FAMILIES, make_family, small_config

PROBES = [
    Probe(id="a", prompt="The capital of France is Paris .", object="Paris"),
    Probe(id="b", prompt="In Turin it is Rome", object="Rome"),
    Probe(id="c", prompt="A much longer sentence names Zürich", object="Zürich"),
]
ALIKE = [  # which share what they begin with, and are scored in rows of branches where a model suits
    Probe(
        id=str(i),
        prompt=f"Guess. subject is {subject} , relation is {how} , object is {name} .",
        object=name,
    )
    for i, (subject, how, name) in enumerate(
        [("Turin", "in", "Rome"), ("Turin", "in", "Paris"), ("Turin", "of", "Italy"), ("Zug", "in", "Zürich")]
    )
]
# Positions in the order of the row, states that pass from token to token, a window shorter than the prompts.
NO_BRANCHES = {
    *("bloom", "mpt", "mamba", "mamba2", "falcon_mamba", "rwkv", "jamba", "zamba2", "gemma3", "qwen3_next"),
    *("lfm2", "falcon_h1", "minimax", "recurrent_gemma", "xlm"),
}
KINDS = (
    "mixtral",
    "qwen2_moe",
    "deepseek_v3",
    "llama4_text",
    "jamba",
    "gemma3",
    "rwkv",
    "mamba",
    "opt",
)  # one of each kind of difficulty


def plainly(model: nn.Module, probes: list[Probe] = PROBES) -> list[float]:
    """Mean NLL of each object, one prompt at a time, by nothing but the model's own forward."""
    found = []
    for probe in probes:
        ids: Tensor = torch.tensor(tiny_tokenizer()(probe.prompt)["input_ids"])
        start = len(probe.prompt[: probe.prompt.rindex(probe.object)].encode())
        with torch.no_grad():
            rows = model(input_ids=ids[None]).logits[0].double().log_softmax(-1)
        places = range(start, start + len(probe.object.encode()))
        found.append(-sum(rows[i - 1, ids[i]].item() for i in places) / len(places))
    return found


def ours(model: nn.Module, probes: list[Probe] = PROBES) -> list[float]:
    return [score.nll for score in score_probes(model, tiny_tokenizer(), probes)]


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_plain_transformers(family: str) -> None:
    model = make_family(family)
    require_decoder(family, model.config)
    require_causal(family, model)
    assert ours(model) == pytest.approx(plainly(model), abs=2e-6)
    read: list[int] = []
    model.register_forward_pre_hook(lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True)
    assert ours(model, ALIKE) == pytest.approx(plainly(model, ALIKE), abs=2e-6)
    read.clear()
    ours(model, ALIKE)
    together = sum(len(probe.prompt) for probe in ALIKE)
    assert (sum(read) < 0.6 * together) == (family not in NO_BRANCHES)


@pytest.mark.parametrize("family", [*KINDS, pytest.param("zamba2", marks=pytest.mark.slow)])
def test_every_method_stands_on_it(family: str) -> None:
    base = plainly(make_family(family))
    assert ours(KAdapter().build(lambda: make_family(family))) == pytest.approx(base, abs=2e-6)
    ids = torch.randint(3, 250, (2, 12), generator=torch.Generator().manual_seed(0))
    model: Any = Lora(r=4).build(lambda: make_family(family)).train()
    token_nll(model, ids, torch.ones_like(ids)).mean().backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p += 0.1
    assert all(p.requires_grad == ("lora_" in n) for n, p in model.named_parameters())
    assert max(abs(a - b) for a, b in zip(ours(model.eval()), base, strict=True)) > 1e-4
    twin = share_trunk(model)
    assert twin is not None
    assert ours(twin) == pytest.approx(base, abs=2e-6)
    learners, cpu = make_learners(make_family(family), r=4, alpha=8.0, seed=0), torch.device("cpu")
    read, asked = documents([ids[0].tolist()], cpu), questions([Task(ids=ids[1, :8], objects=(5, 6))], cpu)
    form = supported_form(learners, ids[0].tolist(), cpu)
    (found,) = meta_gradients(learners, read, [torch.linspace(0.1, 1, 11)], asked, form=form)
    assert torch.isfinite(found.gradient).all()
    assert found.gradient.abs().max() > 0
    trunk = share_trunk(learners.model)
    assert trunk is not None
    phi = TrainAttention(trunk, Shape(r=2), seed=0)
    weights = phi(ids[:1], torch.ones_like(ids[:1]))
    assert weights.shape == (1, 11)
    weights.sum().backward()
    assert phi.head.weight.grad is not None


def test_adapters_go_to_the_language_model_and_to_fused_experts() -> None:
    tower = outline(small_config("gemma3"), False)
    assert not any("vision" in name or "projector" in name for name in linear_targets(tower))
    assert len(linear_targets(tower)) == 2 * 7
    assert not fused_experts(tower)
    experts = outline(small_config("mixtral"), False)
    assert len(fused_experts(experts)) == 2 * 2
    model = Lora(r=2).build(lambda: make_family("mixtral"))
    assert sum("experts" in name for name, p in model.named_parameters() if p.requires_grad) == 2 * 2 * 2
    assert not any(name.endswith("out_proj") for name in linear_targets(outline(small_config("mamba"), False)))
    assert not fused_experts(outline(small_config("mamba"), False))  # a convolution has three dimensions too


@pytest.mark.parametrize("family", ["deepseek_v3", "qwen3_next", "llama4_text"])
def test_adapters_of_experts_are_of_the_rank_that_was_asked_for(family: str) -> None:
    model: Any = Lora(r=2).build(lambda: make_family(family))
    adapted = {name: p for name, p in model.named_parameters() if "lora_A" in name}
    of_experts = [p for name, p in adapted.items() if ".experts." in name]
    assert of_experts
    assert {len(p) for p in of_experts} == {2 * 4}  # of four experts
    assert {len(p) for name, p in adapted.items() if ".experts." not in name} == {2}
    asked = model.peft_config["default"]  # what is kept with it, and read when it is loaded
    assert set(asked.target_parameters) == set(fused_experts(outline(small_config(family), False)))
    assert not asked.rank_pattern
    learners = make_learners(make_family(family), r=2, alpha=4.0, seed=0)
    assert not any("experts" in name for name in learners.named(learners.start))


def test_what_kadapter_cannot_stand_beside_is_one_line() -> None:
    from transformers import OPTConfig, OPTForCausalLM

    narrow = OPTConfig(
        vocab_size=257, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=16
    )
    with pytest.raises(UserError, match="kadapter cannot stand beside a model of type 'opt': its layers are not"):
        KAdapter().build(lambda: OPTForCausalLM(narrow).eval())


class Heedless(nn.Module):
    """A model that takes `logits_to_keep` and gives all logits."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.config = inner.config

    def forward(self, input_ids: Tensor, logits_to_keep: Any = 0, **rest: Any) -> Any:
        return self.inner(input_ids=input_ids, **rest)


def test_a_model_that_swallows_logits_to_keep_is_read_at_the_right_places() -> None:
    model = make_family("llama")
    assert ours(Heedless(model)) == pytest.approx(plainly(model), abs=2e-6)
