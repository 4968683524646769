"""Prompts in rows of branches: what goes through the model, what sees what, and who is not given them."""

from __future__ import annotations

import random

import pytest
import torch

from ckl_bench.benchmarks.format import Probe
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench.scoring import branches, engine
from ckl_bench.scoring.branches import Ids, rows, stack
from helpers.architectures import BUILDERS, make


def prompts(seed: int) -> list[Ids]:
    """Sequences over few tokens, so that many begin alike, some are others' beginnings and some come twice."""
    draw = random.Random(seed)
    return [tuple(draw.randrange(2) for _ in range(draw.randrange(1, 12))) for _ in range(30)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("width", [1, 20, 1000])
def test_every_token_has_its_prompts_tokens_before_it_in_sight_and_no_others(seed: int, width: int) -> None:
    given, model = prompts(seed), make("llama")
    made = rows(given, width)
    assert sorted(index for row in made for index in row.places) == list(range(len(given)))
    assert all(len(row.ids) <= width or len(row.places) == len({given[i] for i in row.places}) == 1 for row in made)
    stacked = stack(made, model)
    for line, row in enumerate(made):
        assert len(row.ids) == len({given[i][:n] for i in row.places for n in range(1, len(given[i]) + 1)})
        for index, places in row.places.items():
            assert tuple(stacked.ids[line, places].tolist()) == given[index]
            assert stacked.positions[line, places].tolist() == list(range(len(places)))
            for n, place in enumerate(places):
                assert stacked.mask[line, 0, place].nonzero().flatten().tolist() == places[: n + 1]


def ask(count: int, seed: int) -> list[Probe]:
    draw = random.Random(seed)
    names = ["Rome", "Paris", "Turin", "Zürich", "a longer name", "B"]
    made = []
    for i in range(count):
        subject, thing = draw.choice(names), draw.choice(names)
        made.append(Probe(id=str(i), prompt=f"Guess. subject is {subject} , object is {thing} .", object=thing))
    return made


@pytest.mark.parametrize("shape", BUILDERS)
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_branches_score_as_prompts_side_by_side(shape: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer, probes = make(shape), tiny_tokenizer(), ask(40, 0)
    model.set_attn_implementation(kernel)  # type: ignore[operator]
    monkeypatch.setattr(branches, "WIDTH", 128)
    at_once = [engine.score_probes(model, tokenizer, probes, max_batch_tokens=n) for n in (64, 300, 4096)]
    monkeypatch.setattr(engine, "branching", lambda *_: [])
    for found in at_once:
        for a, b in zip(found, engine.score_probes(model, tokenizer, probes), strict=True):
            assert (a.id, a.accuracy, a.guess) == (b.id, b.accuracy, b.guess)
            assert a.nll == pytest.approx(b.nll, abs=2e-6)


def test_attention_that_does_not_reach_a_whole_prompt_gets_no_branches() -> None:
    model, probes = make("llama"), ask(20, 1)
    ids = [engine.encode_probe(tiny_tokenizer(), probe).ids for probe in probes]
    assert branches.branching(model, ids, 10**6, 1024)
    for name in ("sliding_window", "attention_chunk_size", "window_size"):
        model = make("llama")
        setattr(model.config, name, min(map(len, ids)))
        assert branches.branching(model, ids, 10**6, 1024) == []
        setattr(model.config, name, 2 * max(map(len, ids)))
        found = branches.branching(model, ids, 10**6, 1024)
        assert max(len(row.ids) for row in found) <= 2 * max(map(len, ids))


def test_a_model_that_takes_masks_and_heeds_other_ones_gets_no_branches() -> None:
    model = make("llama")
    inner = model.forward

    def heedless(input_ids, attention_mask=None, position_ids=None, **rest):  # type: ignore[no-untyped-def]
        return inner(input_ids=input_ids, **rest)  # its own causal mask and positions

    model.forward = heedless  # type: ignore[method-assign]
    ids = [engine.encode_probe(tiny_tokenizer(), probe).ids for probe in ask(20, 1)]
    assert not branches.suits(model, ids)
    assert torch.is_grad_enabled()
