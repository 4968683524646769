"""K-Adapter: it starts as the base model, its cache changes nothing, and the frozen model runs once per text."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ckl_bench.benchmarks.format import Document, Probe
from ckl_bench.encode import collate, encode_documents
from ckl_bench.learning.train import train_epoch
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench.models.trunk import share_trunk
from ckl_bench.scoring.engine import score_probes
from ckl_bench_methods.kadapter import KAdapter
from helpers.architectures import BUILDERS, make

TEXTS = ["Ada wrote notes on the engine", "short one", "In Turin the first capital sat"]
PROBES = [
    Probe(id="a", prompt="The capital of France is Paris .", object="Paris"),
    Probe(id="b", prompt="A longer question is asked about Zürich", object="Zürich"),
]


def adapted(shape: str, **settings: int) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = KAdapter(**settings).build(lambda: make(shape))
    return model


def move(model: nn.Module) -> nn.Module:
    """Take the up-projections away from zero, so that the adapters speak."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if ".up." in name:
                p.copy_(0.05 * torch.randn(p.shape, generator=draw))
    return model


@pytest.mark.parametrize("shape", BUILDERS)
def test_with_up_projections_at_zero_the_scores_are_the_base_models(shape: str) -> None:
    tokenizer = tiny_tokenizer()
    ours, base = (score_probes(m, tokenizer, PROBES) for m in (adapted(shape), make(shape)))
    for a, b in zip(ours, base, strict=True):
        assert (a.accuracy, a.guess) == (b.accuracy, b.guess)
        assert a.nll == pytest.approx(b.nll, abs=1e-6)


@pytest.mark.parametrize("shape", BUILDERS)
def test_cached_and_uncached_training_give_the_same_losses(shape: str) -> None:
    documents = encode_documents(tiny_tokenizer(), [Document(id=t, text=t) for t in TEXTS], 64)
    losses = []
    for room in (4096, 0):
        model = adapted(shape)
        model._room = room * 10**6  # type: ignore[assignment]
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        uniform = lambda batch, nll: torch.ones_like(nll)  # noqa: E731
        groups = ([0, 1], [2], [1, 2], [0], [2, 0], [1])  # other companions, other padding
        losses.append(
            [train_epoch(model, [collate([documents[i] for i in g])], optimizer, uniform).loss for g in groups]
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][-1] < losses[0][1]


@pytest.mark.parametrize("shape", BUILDERS)
def test_the_frozen_model_runs_once_per_text_and_never_changes(shape: str) -> None:
    model = adapted(shape)
    before = {n: p.clone() for n, p in model.named_parameters() if n.startswith("base.")}
    passes: list[int] = []
    embeddings = model.base.get_input_embeddings()  # type: ignore[union-attr,operator]
    # A pass that reads one token only brings the head to speak.
    embeddings.register_forward_hook(lambda _, inputs, __: passes.append(1) if inputs[0].shape[-1] > 1 else None)
    documents = encode_documents(tiny_tokenizer(), [Document(id=t, text=t) for t in TEXTS], 64)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for epoch in range(3):
        for document in documents:
            train_epoch(model, [collate([document])], optimizer, lambda batch, nll: torch.ones_like(nll))
        score_probes(model, tiny_tokenizer(), PROBES, max_batch_tokens=1)
        if epoch == 0:
            first = len(passes)
    assert first == len(passes) == len(TEXTS) + len(PROBES)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters() if n in before)
    assert all(p.requires_grad == n.startswith("adapters.") for n, p in model.named_parameters())


@pytest.mark.parametrize("shape", BUILDERS)
def test_a_stages_documents_are_read_in_groups_that_it_alone_fixes(shape: str) -> None:
    texts = [*TEXTS, *(" ".join(["the engine of Ada"] * n) for n in range(60, 100, 4))]
    documents = encode_documents(tiny_tokenizer(), [Document(id=t, text=t) for t in texts], 512)
    model, alone, again = (move(adapted(shape)) for _ in range(3))
    sizes: list[int] = []
    embeddings = model.base.get_input_embeddings()  # type: ignore[union-attr,operator]
    embeddings.register_forward_hook(lambda _, given, __: sizes.append(given[0].numel()))
    for one in (model, again):
        one.read_together([document.ids for document in documents])  # type: ignore[operator]
    found = {}
    for document in documents:
        ids, mask = (getattr(collate([document]), name) for name in ("ids", "mask"))
        found[document.id] = model(input_ids=ids, attention_mask=mask).logits
        expected = alone(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(found[document.id], expected, atol=1e-6, rtol=1e-5)
    read = [size for size in sizes if size > 1]  # a pass that reads one token only brings the head to speak
    assert 1 < len(read) < len(documents)
    assert max(read) <= 1024
    for document in reversed(documents):  # another order, as a run meets them that goes on: equal to the last bit
        ids = collate([document]).ids
        assert torch.equal(again(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, found[document.id])


def test_documents_that_the_cache_cannot_hold_are_read_alone() -> None:
    documents = encode_documents(tiny_tokenizer(), [Document(id=t, text=t) for t in TEXTS], 64)
    model = adapted("llama")
    model._capacity = 0  # type: ignore[assignment]
    model.read_together([document.ids for document in documents])  # type: ignore[operator]
    for _ in range(2):
        for document in documents:
            model(input_ids=collate([document]).ids)
    assert not model._cache
    assert not model._groups


@pytest.mark.parametrize("shape", BUILDERS)
def test_adapters_are_causal_and_padding_does_not_reach_them(shape: str) -> None:
    model = move(adapted(shape))
    ids = torch.randint(3, 250, (1, 12))
    whole = model(input_ids=ids).logits
    part = model(input_ids=ids[:, :7]).logits
    torch.testing.assert_close(whole[:, :7], part, atol=1e-5, rtol=1e-5)
    padded = torch.cat([ids[:, :7], torch.zeros(1, 5, dtype=torch.long)], 1)
    mask = torch.tensor([[1] * 7 + [0] * 5])
    torch.testing.assert_close(model(input_ids=padded, attention_mask=mask).logits[:, :7], part, atol=1e-5, rtol=1e-5)
    kept = model(input_ids=ids, logits_to_keep=torch.tensor([2, 5])).logits
    torch.testing.assert_close(kept, whole[:, [2, 5]], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(whole, make(shape)(input_ids=ids).logits, atol=1e-3)


def test_the_trunk_is_shared_with_who_needs_the_base_model() -> None:
    model = move(adapted("llama"))
    twin = share_trunk(model)
    assert twin is not None
    ids = torch.randint(3, 250, (1, 9))
    torch.testing.assert_close(twin(input_ids=ids).logits, make("llama")(input_ids=ids).logits)
    assert {p.data_ptr() for p in twin.parameters()} <= {p.data_ptr() for p in model.parameters()}
