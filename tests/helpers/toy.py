"""Toy documents with one token worth learning, and φ trained on them: small enough for hundreds of steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import count, islice

import torch
from torch import nn

from ckl_bench.benchmarks.format import AttentionDocument, Fact
from ckl_bench.encode import pad
from ckl_bench.learning.train import token_nll, weighted_loss
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench.models.trunk import share_trunk
from ckl_bench_methods.taalm.attention import Shape, TrainAttention
from ckl_bench_methods.taalm.meta_train import MetaTraining, make_examples, make_learners, meta_step
from helpers.architectures import make


def toy_documents(number: int) -> list[AttentionDocument]:
    """Documents that say ` is X ` among random small letters; the task asks what is."""
    draw = torch.Generator().manual_seed(3)
    rows = []
    for i in range(number):
        letters = "".join(chr(97 + int(k)) for k in torch.randint(0, 26, (10,), generator=draw))
        place = int(torch.randint(1, 9, (1,), generator=draw))
        capital = chr(65 + int(torch.randint(0, 26, (1,), generator=draw)))
        text = f"{letters[:place]} is {capital} {letters[place:]}"
        fact = Fact(subject="it", relation="P0", object=capital)
        rows.append(AttentionDocument(id=str(i), text=text, fact=fact, prompt=f"zz is {capital}"))
    return rows


def toy_model() -> nn.Module:
    """A tiny model after 200 steps on such texts: it knows their form, and so has something to learn facts with.

    GPT-2 with a rate that ends at zero: it comes out alike on every machine, where Llama came out as rounding had it.
    """
    steps, tokenizer = 200, tiny_tokenizer()
    model, draw = make("gpt2"), torch.Generator().manual_seed(5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    slower = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    texts = [text for row in toy_documents(512) for text in (row.text, row.prompt)]
    for _ in range(steps):
        chosen = torch.randint(0, len(texts), (32,), generator=draw).tolist()
        ids, mask = pad([tokenizer(texts[i])["input_ids"] for i in chosen])
        nll = token_nll(model, ids, mask)
        optimizer.zero_grad()
        weighted_loss(nll, torch.ones_like(nll), mask[:, 1:].float()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        slower.step()
    return model.eval()


def meta_train_toy(steps: int) -> list[dict[str, float]]:
    """What each of the first so many steps saw of training φ on the toy documents, which is done once for all tests."""
    curve, training = _begun()
    curve += islice(training, max(0, steps - len(curve)))
    return curve[:steps]


@cache
def _begun() -> tuple[list[dict[str, float]], Iterator[dict[str, float]]]:
    return [], _meta_training()


def _meta_training() -> Iterator[dict[str, float]]:
    """Train φ on the toy documents without end; what every step saw, with the gradient's norm.

    The learner's rate is one at which a document is learned; where nothing is, φ goes where rounding sends it.
    """
    settings = MetaTraining(inner_r=4, r=4, lr=3e-3, inner_lr=1e-2, batch_size=8, dummy_steps=3)
    learners = make_learners(toy_model(), settings.inner_r, settings.inner_alpha, seed=0)
    examples = make_examples(tiny_tokenizer(), toy_documents(64), 512)
    learners.together = True
    trunk = share_trunk(learners.model)
    assert trunk is not None
    phi = TrainAttention(trunk, Shape(r=4), seed=0)
    optimizer = torch.optim.AdamW(phi.trained().values(), lr=settings.lr, weight_decay=0.0)
    for step in count():
        batch = [examples[(8 * step + i) % len(examples)] for i in range(8)]
        optimizer.zero_grad(set_to_none=True)
        seen = meta_step(phi, learners, batch, settings, "central", "cpu")
        norms = [p.grad.norm() for p in phi.trained().values() if p.grad is not None]
        optimizer.step()
        yield seen.means() | {"gradient": torch.stack(norms).norm().item()}
