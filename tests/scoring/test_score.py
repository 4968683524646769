"""The scoring engine against a plain computation, one probe at a time, with transformers alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from ckl_bench.benchmarks.format import Probe
from ckl_bench.encode import Tokenizer
from ckl_bench.errors import UserError
from ckl_bench.models.find import find_model
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench.scoring.engine import score_probes
from helpers.architectures import BUILDERS, make

PROBES = [
    Probe(id="end", prompt="The capital of France is Paris .", object="Paris"),
    Probe(id="twice", prompt="Paris is what the city of Paris is called, in short", object="Paris"),
    Probe(id="accents", prompt="The tower of Zürich is in Zürich, it is said", object="Zürich"),
    Probe(
        id="long",
        prompt="Guess the object. \n  subject is A , relation is b , object is a longer name",
        object="a longer",
    ),
    Probe(id="one", prompt="x y", object="y"),
]


def plain(model: nn.Module, tokenizer: Tokenizer, probe: Probe) -> tuple[float, float]:
    """(accuracy, nll) by a full forward pass over the whole prompt, and byte positions counted by hand."""
    ids = tokenizer(probe.prompt)["input_ids"]
    start = len(probe.prompt[: probe.prompt.rindex(probe.object)].encode())
    objects = range(start, start + len(probe.object.encode()))  # the tiny tokenizer has one token a byte
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    rows = [logits[i - 1].log_softmax(-1) for i in objects]
    right = [int(row.argmax()) == ids[i] for row, i in zip(rows, objects, strict=True)]
    return sum(right) / len(right), -sum(float(row[ids[i]]) for row, i in zip(rows, objects, strict=True)) / len(rows)


class NoKeep(nn.Module):
    """A model that says of no layer that it is its head."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool = False) -> Any:
        return self.inner(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)


@pytest.mark.parametrize("shape", BUILDERS)
@pytest.mark.parametrize("batch_tokens", [1, 64, 100_000])
def test_scores_equal_the_plain_computation(shape: str, batch_tokens: int) -> None:
    model, tokenizer = make(shape), tiny_tokenizer()
    for score, probe in zip(score_probes(model, tokenizer, PROBES, max_batch_tokens=batch_tokens), PROBES, strict=True):
        accuracy, nll = plain(model, tokenizer, probe)
        assert score.id == probe.id
        assert score.accuracy == pytest.approx(accuracy, abs=1e-7)
        assert score.nll == pytest.approx(nll, abs=1e-5)
        assert score.exact == (accuracy == 1)


@pytest.mark.parametrize("shape", BUILDERS)
def test_a_model_that_shows_no_head_gives_the_same(shape: str) -> None:
    model, tokenizer = make(shape), tiny_tokenizer()
    kept, full = (score_probes(m, tokenizer, PROBES) for m in (model, NoKeep(model)))
    for a, b in zip(kept, full, strict=True):
        assert (a.accuracy, a.guess) == (b.accuracy, b.guess)
        assert a.nll == pytest.approx(b.nll, abs=1e-5)


def test_nothing_after_the_object_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = make("llama"), tiny_tokenizer()
    seen = []
    forward = model.forward

    def recording(**inputs: Any) -> Any:
        seen.append(inputs["input_ids"].shape[1])
        return forward(**inputs)

    monkeypatch.setattr(model, "forward", recording)
    score_probes(model, tokenizer, [Probe(id="a", prompt="The city is Paris" + " and more" * 50, object="Paris")])
    assert seen == [len("The city is Pari")]


def test_a_perfect_model_scores_one_and_its_guess_is_the_object() -> None:
    tokenizer = tiny_tokenizer()
    probe = PROBES[0]
    ids = torch.tensor(tokenizer(probe.prompt)["input_ids"])

    class Knows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool) -> Any:
            after = ids[1 : 1 + input_ids.shape[1]]
            return type("Output", (), {"logits": 50.0 * nn.functional.one_hot(after, 257).float()[None]})

    score = score_probes(Knows(), tokenizer, [probe])[0]
    assert (score.accuracy, score.exact, score.guess) == (1.0, True, "Paris")
    assert score.nll == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        (Probe(id="p1", prompt="The city is Rome", object="Paris"), "does not occur"),
        (Probe(id="p1", prompt="P is the city", object="P"), "first token"),
        (Probe(id="p1", prompt="The city is Rome", object=""), "does not occur"),
    ],
)
def test_impossible_probes_are_refused_in_one_line(probe: Probe, words: str) -> None:
    with pytest.raises(UserError, match=words):
        score_probes(make("llama"), tiny_tokenizer(), [probe])
    with pytest.raises(UserError, match="no probes"):
        score_probes(make("llama"), tiny_tokenizer(), [])


def test_scoring_leaves_mode_and_gradients_alone() -> None:
    model = make("opt").train()
    score_probes(model, tiny_tokenizer(), PROBES)
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.slow
@pytest.mark.usefixtures("users_cache")
def test_the_real_model_knows_paris_and_batches_do_not_matter() -> None:
    base = find_model("smollm2-135m")
    model = base.load()
    capitals = {"France": "Paris", "Germany": "Berlin", "Japan": "Tokyo", "Bhutan": "Thimphu"}
    probes = [Probe(id=c, prompt=f"The capital of {c} is {o} .", object=o) for c, o in capitals.items()]
    together, alone = (score_probes(model, base.tokenizer, probes, max_batch_tokens=n) for n in (10_000, 1))
    assert together[0].accuracy == 1.0
    assert together[0].guess.strip() == "Paris"
    for a, b, probe in zip(together, alone, probes, strict=True):
        assert a.nll == pytest.approx(b.nll, abs=3e-5)  # 30 layers in float32, in another order of summing
        ids = base.tokenizer(probe.prompt[: -len(" .")], return_tensors="pt")["input_ids"]
        prefix = base.tokenizer(probe.prompt[: -len(f" {probe.object} .")])["input_ids"]
        with torch.no_grad():
            rows = model(input_ids=ids).logits[0].log_softmax(-1)
        picked = [rows[i - 1, ids[0, i]].item() for i in range(len(prefix), ids.shape[1])]
        assert a.nll == pytest.approx(-math.fsum(picked) / len(picked), abs=3e-5)
