"""Restate: the search for statements, alone and side by side, on any decoder."""

from __future__ import annotations

import pytest
import torch

from ckl_bench.models.find import find_model
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench_methods.restate.forms import Form, spans, subjects
from ckl_bench_methods.restate.learning import chosen
from ckl_bench_methods.restate.replay import continued, drawn_questions
from ckl_bench_methods.restate.statements import write
from ckl_bench_methods.restate.writer import asked, ended, reading
from helpers.families import make_family

TEXT = "Marie Curie, born in Warsaw, taught physics."
FORMS = [Form("", " taught"), Form("The home of ", " is")]
SMALL = ("--set", "epochs=2", "--set", "r=2", "--set", "limit=5")


def test_the_search_finds_what_trying_everything_finds() -> None:
    base = find_model("tiny")
    model, tokenizer = base.load(), base.tokenizer
    text = "An 1."
    ((_, found),) = write(model, tokenizer, [text], FORMS, beams=10**6, answers=10**6)
    questions = [(form.about(subject), subject) for subject in subjects(text) for form in FORMS]
    read, scores = reading(tokenizer, text, 512), {}
    for prefix, subject in questions:
        for obj in spans(text):
            (question,), (answer,) = asked(tokenizer, [prefix]), ended(tokenizer, [obj])
            ids = torch.tensor([[*read, *question, *answer]])
            logits = model(input_ids=ids).logits[0, len(read) - 1 : -1].log_softmax(-1)
            if obj != subject:
                scores[prefix, obj] = logits.gather(1, ids[0, len(read) :, None]).sum().item()
    assert {(one.prefix, one.object) for one in found} == set(scores)
    for one in found:
        assert one.score == pytest.approx(scores[one.prefix, one.object], abs=1e-3)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    ((_, few),) = write(model, tokenizer, [text], FORMS, beams=4, answers=2)
    assert few
    assert all(one.score == pytest.approx(scores[one.prefix, one.object], abs=1e-3) for one in few)


def test_documents_beside_each_other_give_what_each_gives_alone() -> None:
    base = find_model("tiny")
    model, tokenizer = base.load(), base.tokenizer
    texts = [TEXT, "An 1.", "In 1950 Bo sang.", TEXT[:20]]
    together = dict(write(model, tokenizer, texts, FORMS, beams=8))
    assert sorted(together) == [0, 1, 2, 3]
    for i, text in enumerate(texts):
        ((_, alone),) = write(model, tokenizer, [text], FORMS, beams=8)
        assert [(one.prefix, one.object) for one in together[i]] == [(one.prefix, one.object) for one in alone]
        for one, other in zip(together[i], alone, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "opt", "bloom", "mamba", "lfm2", "minimax"])
def test_statements_of_any_decoder_are_those_of_each_document_read_again(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer, texts = make_family(family).eval(), tiny_tokenizer(), ["Bo saw Ann in Accra.", "An 1."]
    together = dict(write(model, tokenizer, texts, FORMS, beams=3))
    monkeypatch.setattr("ckl_bench_methods.restate.reader._sorts", lambda cache: False)
    for i, text in enumerate(texts):
        ((_, alone),) = write(model, tokenizer, [text], FORMS, beams=3)
        assert [(one.prefix, one.object) for one in together[i]] == [(one.prefix, one.object) for one in alone]
        for one, other in zip(together[i], alone, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)


def test_what_is_not_searched_for_to_its_end_would_not_have_been_learned() -> None:
    base = find_model("tiny")
    model, tokenizer = base.load(), base.tokenizer
    texts = [TEXT, "In 1950 Bo sang to Ann in Accra.", TEXT[:20]]
    every = dict(write(model, tokenizer, texts, FORMS, beams=8))
    for count in (1, 3):
        for i, found in write(model, tokenizer, texts, FORMS, beams=8, count=count):
            one, other = (chosen(statements, count=count, temperature=2.0) for statements in (found, every[i]))
            assert [(a.prefix, a.object) for a, _ in one] == [(a.prefix, a.object) for a, _ in other]
            assert len(found) <= len(every[i])


def test_a_model_that_keeps_nothing_reads_again_and_says_the_same() -> None:
    base = find_model("tiny")
    model, tokenizer = base.load(), base.tokenizer

    class Forgetful(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor) -> object:
            return self.model(input_ids=input_ids)

    ((_, kept),), ((_, reread),) = (write(m, tokenizer, [TEXT], FORMS, beams=4) for m in (model, Forgetful()))
    assert [(one.prefix, one.object) for one in kept] == [(one.prefix, one.object) for one in reread]
    names = ["Ann", "Marie Curie"]
    questions = drawn_questions(tokenizer, FORMS, names, count=6, seed=0)
    for (one, said), (other, again) in zip(*(continued(m, questions, 3) for m in (model, Forgetful())), strict=True):
        assert one == other
        torch.testing.assert_close(said, again, atol=2e-3, rtol=2e-3)
