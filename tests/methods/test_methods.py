"""The built-in methods against references and identities."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ckl_bench.benchmarks.format import Document, Fact
from ckl_bench.encode import Batch, EncodedDocument, collate
from ckl_bench.errors import UserError
from ckl_bench.learning.train import token_nll
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench.stacks.plugins import origins
from ckl_bench_methods.entity_tokens import EntityTokens
from ckl_bench_methods.mixreview import MixReview
from ckl_bench_methods.oracle import Oracle
from ckl_bench_methods.random_tokens import RandomTokens
from ckl_bench_methods.recadam import RecAdam, RecallAdamW
from ckl_bench_methods.rho1 import Rho1
from conftest import Command
from helpers.architectures import make
from helpers.stages import TEXT, encode, stage


def marked(weights: Tensor, text: str) -> str:
    """The characters of an ASCII text whose byte tokens have weight 1; the others as dots."""
    return text[0] + "".join(c if w else "." for c, w in zip(text[1:], weights.tolist(), strict=True))


def test_oracle_marks_the_object_wherever_the_passage_names_it() -> None:
    fact = Fact(subject="prize", relation="P", object="Marie Curie")
    documents = encode(Document(id="a", text=TEXT, fact=fact), Document(id="b", text="no such thing here", fact=fact))
    batch = collate(documents)
    weights = Oracle().weigh(make("llama"), tiny_tokenizer(), stage(documents))(batch, torch.zeros(2, len(TEXT) - 1))
    expected = "".join("M" if TEXT[i : i + 11] == "Marie Curie" else "." for i in range(len(TEXT)))
    starts = [i for i, c in enumerate(expected) if c == "M"]
    assert marked(weights[0], TEXT)[1:] == "".join(
        TEXT[i] if any(s <= i < s + 11 for s in starts) else "." for i in range(1, len(TEXT))
    )
    assert weights[1].sum() == 0
    with pytest.raises(UserError, match="documents with facts"):
        Oracle().weigh(make("llama"), tiny_tokenizer(), stage(encode(Document(id="c", text="no fact"))))


def test_entity_tokens_marks_capitalised_words_and_numbers() -> None:
    documents = encode(Document(id="a", text=TEXT))
    weigh = EntityTokens().weigh(make("llama"), tiny_tokenizer(), stage(documents))
    shown = marked(weigh(collate(documents), torch.zeros(1, len(TEXT) - 1))[0], TEXT)
    assert shown == "In.1903.Marie.Curie.......................Pierre..Marie.Curie..........."


def test_random_tokens_keeps_its_share_and_depends_on_seed_and_document_alone() -> None:
    documents = encode(*(Document(id=str(i), text=TEXT[: 40 + i]) for i in range(4)))

    def draw(seed: int, group: Sequence[EncodedDocument]) -> Tensor:
        batch = collate(group)
        weigh = RandomTokens(keep=0.25).weigh(make("llama"), tiny_tokenizer(), stage(documents, seed=seed))
        weights: Tensor = weigh(batch, torch.zeros(len(group), batch.ids.shape[1] - 1))
        return weights

    weights = draw(0, documents)
    for row, document in enumerate(documents):
        assert weights[row].sum() == round(0.25 * (len(document.ids) - 1))
        assert weights[row, len(document.ids) - 1 :].sum() == 0
        assert torch.equal(draw(0, [document])[0], weights[row, : len(document.ids) - 1])
    assert not torch.equal(draw(1, documents), weights)


def test_rho1_takes_exactly_the_top_k_by_excess_loss_and_reads_the_reference_once() -> None:
    documents = encode(Document(id="a", text=TEXT), Document(id="b", text=TEXT[:30]))
    batch = collate(documents)
    reference = make("llama")
    passes: list[int] = []
    reference.register_forward_hook(lambda *_: passes.append(1))
    context = stage(documents)
    object.__setattr__(context, "base", lambda: reference)
    weigh = Rho1(keep=0.3).weigh(make("llama"), tiny_tokenizer(), context)
    nll = 10 * torch.rand(2, len(TEXT) - 1, generator=torch.Generator().manual_seed(0))
    weights = weigh(batch, nll)
    assert torch.equal(weigh(batch, nll), weights)
    assert len(passes) == 1  # both of them together
    with torch.no_grad():
        before = token_nll(make("llama"), batch.ids, batch.mask)
    for row, document in enumerate(documents):
        n = len(document.ids) - 1
        excess = (nll - before)[row, :n].tolist()
        best = sorted(range(n), key=lambda i: -excess[i])[: round(0.3 * n)]
        assert sorted(best) == weights[row].nonzero().flatten().tolist()


def test_mixreview_joins_the_ratio_and_never_changes_the_new_documents() -> None:
    new = encode(*(Document(id=f"n{i}", text=TEXT[: 20 + i]) for i in range(6)))
    old = encode(*(Document(id=f"r{i}", text=TEXT[10 : 40 + i]) for i in range(5)))
    plain = [collate(new[:4]), collate(new[4:])]

    def joined(method: MixReview, epoch: int, seed: int = 0) -> list[list[str]]:
        return [[d.id for d in b.documents] for b in method.stream(plain, stage(new, old, seed), epoch)]

    one = joined(MixReview(), 1)
    assert one[0][:4] == ["n0", "n1", "n2", "n3"]
    assert [len(ids) for ids in one] == [8, 4]
    reviewed = [i for ids in one for i in ids if i.startswith("r")]
    assert set(reviewed) == {f"r{i}" for i in range(5)}  # all of them before one comes again
    assert joined(MixReview(), 1) == one
    assert joined(MixReview(), 2) != one
    assert joined(MixReview(), 1, seed=1) != one
    assert [len(ids) for ids in joined(MixReview(ratio=0.5, decay=0.5), 2)] == [5, 2]
    with pytest.raises(UserError, match="this benchmark has none"):
        list(MixReview().stream(plain, stage(new), 1))


def loss_of(parameters: Sequence[nn.Parameter], step: int) -> Tensor:
    draw = torch.Generator().manual_seed(step)
    return sum((p * torch.randn(p.shape, generator=draw)).sum() + (p**2).sum() for p in parameters)  # type: ignore[return-value]


def train_parameters(optimizer_of: type | object, steps: int = 10) -> list[Tensor]:
    parameters = [nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4)), nn.Parameter(torch.ones(5))]
    optimizer = optimizer_of(parameters)  # type: ignore[operator]
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(parameters, step).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return [p.detach() for p in parameters]


def test_recadam_without_recall_is_torchs_adamw() -> None:
    ours = train_parameters(lambda p: RecAdam(t0=-1e4).optimizer(p, 1e-2))
    theirs = train_parameters(lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.0))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_recadam_is_its_formula_on_every_trained_weight() -> None:
    lr, strength, k, t0 = 1e-2, 7.0, 0.5, 3.0
    ours = train_parameters(lambda p: RecallAdamW(p, lr=lr, strength=strength, k=k, t0=t0))
    parameters = [nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4)), nn.Parameter(torch.ones(5))]
    anchors = [p.detach().clone() for p in parameters]
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    for step in range(10):
        gradients = torch.autograd.grad(loss_of(parameters, step), parameters)
        t = step + 1
        share = 1 / (1 + math.exp(-k * (t - t0)))
        for p, g, m, v, anchor in zip(parameters, gradients, first, second, anchors, strict=True):
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g * g)
            adam = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
            with torch.no_grad():
                p.sub_(lr * (share * adam + (1 - share) * strength * (p - anchor)))
    for a, p in zip(ours, parameters, strict=True):
        torch.testing.assert_close(a, p.detach(), atol=1e-5, rtol=0)


def test_recadams_curve_and_that_a_strong_pull_holds_the_weights() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = RecallAdamW([p], lr=1e-3, strength=1.0, k=0.5, t0=4.0)
    assert optimizer.anneal(4) == 0.5
    curve = [optimizer.anneal(t) for t in range(1, 30)]
    assert curve == sorted(curve)
    assert curve[0] == pytest.approx(1 / (1 + math.exp(1.5)))
    assert curve[-1] > 0.99999
    held = train_parameters(lambda q: RecallAdamW(q, lr=1e-2, strength=1e9, k=0.5, t0=1e6), steps=20)
    torch.testing.assert_close(held[1], torch.ones(5))


NAMES = sorted(origins())
OWNERS = {
    "weigh": {"entity-tokens", "no-tokens", "oracle", "random-tokens", "rho1", "taalm"},
    "build": {"finetune", "kadapter", "lora", "lora-null", "qlora"},
}


@pytest.mark.parametrize("pair", list(itertools.combinations(NAMES, 2)), ids="+".join)
def test_every_pair_trains_or_is_refused_with_both_names(
    pair: tuple[str, str], command: Command, small: Path, phi: Path, writer: Path
) -> None:
    clash = next((hook for hook, owners in OWNERS.items() if set(pair) <= owners), None)
    files = {"taalm": (f"taalm.attention={phi}",), "restate": (f"restate.writer={writer}", "restate.beams=2")}
    sets = [word for name in pair for setting in files.get(name, ()) for word in ("--set", setting)]
    run = ("run", "--method", "+".join(pair), "--model", "tiny", "--benchmark", small, "--epochs", 1, "--json")
    result = command(*run, *sets, "--limit", 3)  # which is two steps
    if "none" in pair:
        assert result.code == 2
        assert "none learns nothing, so nothing can be joined to it" in result.err
    elif clash:
        assert result.code == 2
        assert f"{pair[0]} and {pair[1]} both own '{clash}'" in result.err
    else:
        assert result.code == 0, result.err
        record = json.loads(result.out)
        assert set(record["spec"]["hyperparameters"]) >= set(pair)
        before, after = (epoch["sets"] for epoch in record["stages"][0]["epochs"])
        if "no-tokens" in pair and "restate" not in pair:
            assert after == before
        else:  # RecAdam's pull is strong at first and holds the weights for the few steps of this run
            assert after != before or "recadam" in pair


def test_a_batch_type_is_what_stream_yields() -> None:
    documents = encode(Document(id="a", text="text one"))
    (batch,) = MixReview().stream([collate(documents)], stage(documents, documents), 1)
    assert isinstance(batch, Batch)
    assert batch.ids.shape[0] == 2
