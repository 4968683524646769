"""The loss and the loop against transformers' own loss and against identities."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ckl_bench.benchmarks.format import Document
from ckl_bench.encode import Batch, batches, collate, encode_documents
from ckl_bench.errors import CklError, UserError
from ckl_bench.learning.train import MicroBatch, split, takes_step, token_nll, train_epoch, weighted_loss
from ckl_bench.method import Step
from ckl_bench.models.tiny import tiny_tokenizer
from helpers.architectures import BUILDERS, make

TEXTS = ["one two three four", "five six seven eig", "nine ten eleven tw"]


def encoded(texts: list[str]) -> tuple:  # type: ignore[type-arg]
    documents = [Document(id=str(i), text=text) for i, text in enumerate(texts)]
    return encode_documents(tiny_tokenizer(), documents, max_tokens=512)


@pytest.mark.parametrize("shape", BUILDERS)
def test_uniform_weights_equal_transformers_own_loss_on_equal_lengths(shape: str) -> None:
    model, batch = make(shape), collate(encoded(TEXTS))
    expected = model(input_ids=batch.ids, attention_mask=batch.mask, labels=batch.ids).loss
    nll = token_nll(model, batch.ids, batch.mask)
    for scale in (1.0, 0.25):  # the loss does not depend on the scale of the weights
        loss = weighted_loss(nll, torch.full_like(nll, scale), batch.targets)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("shape", BUILDERS)
def test_padding_changes_nothing(shape: str) -> None:
    model, texts = make(shape), ["short", "a text that is much longer than that"]
    together = collate(encoded(texts))
    nll = token_nll(model, together.ids, together.mask)
    weights = torch.rand(nll.shape, generator=torch.Generator().manual_seed(0)) + 0.1
    loss = weighted_loss(nll, weights, together.targets)
    alone = []
    for row, document in enumerate(encoded(texts)):
        batch = collate([document])
        own = token_nll(model, batch.ids, batch.mask)
        alone.append(weighted_loss(own, weights[row : row + 1, : own.shape[1]], batch.targets))
    assert loss.item() == pytest.approx(torch.stack(alone).mean().item(), rel=1e-5)


def test_the_weighted_loss_is_the_formula() -> None:
    nll = torch.tensor([[1.0, 2.0, 4.0], [3.0, 5.0, float("nan")]])
    weights = torch.tensor([[1.0, 0.0, 3.0], [0.5, 0.5, 9.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    assert weighted_loss(nll, weights, mask).item() == pytest.approx((13 / 4 + 4) / 2)
    assert weighted_loss(nll, torch.zeros_like(nll), mask).item() == 0.0


def test_an_epoch_is_torchs_own_training_step_by_step() -> None:
    model, twin = make("llama"), make("llama")
    documents = encoded(TEXTS)
    group = [collate(documents[:2]), collate(documents[2:])]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    cost = train_epoch(model, group, optimizer, lambda batch, nll: torch.ones_like(nll))
    other = torch.optim.AdamW(twin.parameters(), lr=1e-2, weight_decay=0.0)
    twin.train()
    for batch in group:
        other.zero_grad()
        twin(input_ids=batch.ids, attention_mask=batch.mask, labels=batch.ids).loss.backward()
        other.step()
    assert (cost.steps, cost.tokens) == (2, sum(len(d.ids) for d in documents))
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        # AdamW's first steps are nearly signs of the gradient, so rounding in it shows at the size of the rate.
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_documents() -> None:
    model = make("llama")
    before = {n: p.clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with pytest.raises(CklError, match=r"loss is nan at step 1; documents of the batch: 0, 1, 2"):
        train_epoch(model, [collate(encoded(TEXTS))], optimizer, lambda batch, nll: nll * float("inf"))
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_a_gradient_that_is_not_finite_stops_before_the_step_too() -> None:
    model = make("llama")
    before = {n: p.clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    some = next(model.parameters())
    root = [lambda: (some * 0).pow(2).sum().sqrt()]  # of nothing: 0, with a slope that is no number
    with pytest.raises(CklError, match=r"gradient is not finite at step 1; documents of the batch: 0, 1, 2"):
        train_epoch(model, [collate(encoded(TEXTS))], optimizer, lambda batch, nll: torch.ones_like(nll), root)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_a_model_through_which_no_gradient_comes_does_not_train_unsaid() -> None:
    model: Any = make("llama")
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=1e-2)
    model.lm_head.weight.requires_grad_(False)
    model.model.norm.register_forward_hook(lambda _, __, states: states.detach())
    with pytest.raises(UserError, match="no gradient reaches what trains"):
        train_epoch(model, [collate(encoded(TEXTS))], optimizer, lambda batch, nll: torch.ones_like(nll))


@pytest.mark.parametrize("at_once", [MicroBatch(documents=1), MicroBatch(documents=2), MicroBatch(tokens=40)])
@pytest.mark.parametrize("reads_nll", [True, False])
def test_a_batch_in_parts_has_the_loss_and_the_gradient_of_the_whole(at_once: MicroBatch, reads_nll: bool) -> None:
    documents = encoded([*TEXTS, "a text that is much longer than that", "short"])
    batch, pull = collate(documents), nn.Parameter(torch.tensor(2.0))
    assert sorted(d.id for part in split(batch, at_once) for d in part.documents) == [d.id for d in documents]

    def weigh(part: Batch, nll: torch.Tensor) -> torch.Tensor:
        assert torch.isnan(nll).any() != reads_nll
        by_length = torch.arange(1.0, 1 + nll.shape[1]).expand(nll.shape)
        return nll * by_length if reads_nll else by_length * (by_length > 3)

    found = []
    for micro in (MicroBatch(), at_once):
        model = make("llama")
        optimizer = torch.optim.SGD([*model.parameters(), pull], lr=0.0)
        cost = train_epoch(model, [batch], optimizer, weigh, [lambda: pull**2], micro_batch=micro, reads_nll=reads_nll)
        found.append((cost.loss, cost.tokens, {n: p.grad for n, p in model.named_parameters()}, pull.grad))
    (loss, tokens, whole, once), (loss_parts, tokens_parts, parts, once_parts) = found
    assert loss_parts == pytest.approx(loss, rel=1e-6)
    assert tokens_parts == tokens
    assert once is not None
    torch.testing.assert_close(once_parts, once, atol=0, rtol=0)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-6, rtol=1e-5)


def test_documents_without_a_weight_do_not_go_through_the_model() -> None:
    documents, passes = encoded(TEXTS), []

    def weigh(part: Batch, nll: torch.Tensor) -> torch.Tensor:
        return nll.new_tensor([[float(d.id == "1")] for d in part.documents]).expand(nll.shape)

    for at_once in (MicroBatch(), MicroBatch(documents=1)):
        model: Any = make("llama")
        model.model.register_forward_hook(lambda _, __, out: passes.append(out.last_hidden_state.shape[0]))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        cost = train_epoch(model, [collate(documents)], optimizer, weigh, micro_batch=at_once, reads_nll=False)
        assert cost.loss > 0
        assert model.lm_head.weight.grad is not None
    assert passes == [len(TEXTS), 1]


def test_batches_hold_every_document_once_in_an_order_that_the_seed_fixes() -> None:
    documents = encoded([f"text {i} " + "word " * (i % 7) for i in range(50)])
    first, again, other = (
        [[d.id for d in batch.documents] for batch in batches(documents, 4, random.Random(seed))] for seed in (1, 1, 2)
    )
    assert first == again != other
    assert sorted(i for group in first for i in group) == sorted(d.id for d in documents)
    assert {len(group) for group in first} <= {4, 2}


@pytest.mark.parametrize("kind", ["llama", "gemma3"])  # the second caps its logits
@pytest.mark.parametrize("documents", [None, 1, 2])
def test_a_penalty_that_is_the_loss_doubles_it_however_the_batch_is_split(kind: str, documents: int | None) -> None:
    batch = collate(encoded(TEXTS))
    weigh = lambda batch, nll: (batch.ids[:, 1:] % 3).float() + 0.5  # noqa: E731

    def again(step: Step) -> Tensor:
        where = step.batch.targets > 0
        nll = torch.zeros_like(step.weights)
        nll[where] = F.cross_entropy(step.logits(where), step.batch.ids[:, 1:][where], reduction="none")
        torch.testing.assert_close(nll[where].detach(), step.nll()[where], atol=1e-5, rtol=1e-5)
        assert not step.nll().requires_grad
        return weighted_loss(nll, step.weights, step.batch.targets)

    found = []
    for penalties in ([], [again]):
        model = make(kind)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        done = train_epoch(
            model, [batch], optimizer, weigh, penalties, micro_batch=MicroBatch(documents=documents), reads_nll=False
        )
        found.append((done.loss, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (loss, once), (double, twice) = found
    assert double == pytest.approx(2 * loss, rel=1e-5)
    for name, gradient in once.items():
        torch.testing.assert_close(twice[name], 2 * gradient, atol=1e-5, rtol=1e-3)


def test_what_a_penalty_takes_says_how_often_it_is_called() -> None:
    assert takes_step(lambda step: step)  # type: ignore[arg-type, return-value]
    assert not takes_step(lambda: torch.zeros(()))
    assert not takes_step(lambda strength=2.0: torch.zeros(()))  # what older plugins bind by a default


def test_penalties_join_the_loss() -> None:
    model = make("llama")
    pull = nn.Parameter(torch.tensor(2.0))
    optimizer = torch.optim.SGD([pull], lr=0.1)
    weigh = lambda batch, nll: torch.zeros_like(nll)  # noqa: E731
    cost = train_epoch(model, [collate(encoded(TEXTS))], optimizer, weigh, [lambda: pull**2, lambda: pull])
    assert cost.loss == pytest.approx(6.0)
    assert pull.item() == pytest.approx(2.0 - 0.1 * 5.0)
