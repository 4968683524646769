"""Restate: forms, the two losses, the writer's training and its file."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ckl_bench.benchmarks.format import AttentionDocument, Fact, load_benchmark
from ckl_bench.models.find import find_model
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench_methods.restate.forms import Form, forms_of, names, spans, subjects
from ckl_bench_methods.restate.learning import Beside, chosen
from ckl_bench_methods.restate.replay import Held, drawn_questions
from ckl_bench_methods.restate.rows import as_branches, side_by_side, try_branches
from ckl_bench_methods.restate.statements import Statement
from ckl_bench_methods.restate.training import Writing, _Training
from ckl_bench_methods.restate.writer import reading
from conftest import Command, forge

TEXT = "Marie Curie, born in Warsaw, taught physics."
FORMS = [Form("", " taught"), Form("The home of ", " is")]
SMALL = ("--set", "epochs=2", "--set", "r=2", "--set", "limit=5")


def pair(prompt: str, subject: str, obj: str) -> AttentionDocument:
    return AttentionDocument(id=prompt, text=TEXT, prompt=prompt, fact=Fact(subject=subject, relation="P0", object=obj))


def test_forms_give_their_prompts_back_and_each_stands_once() -> None:
    pairs = [
        pair("The home of Marie is Warsaw .", "Marie", "Warsaw"),
        pair("The home of Pierre is Paris .", "Pierre", "Paris"),
        pair("Marie taught physics .", "Marie", "physics"),
        pair("Nobody is named: Paris", "Pierre", "Paris"),
    ]
    found = forms_of(pairs)
    assert found == sorted(FORMS)
    for row in pairs[:3]:
        assert any(row.prompt.startswith(f"{form.about(row.fact.subject)} {row.fact.object}") for form in found)


def test_what_a_text_offers_to_be_named_and_answered() -> None:
    text = "In 1950 E. T. Mensah of the Gold Coast's band played highlife. He led The Tempos; Accra Rhythmic won."
    assert {"E. T. Mensah", "Gold Coast", "The Tempos", "highlife", "1950"} <= set(subjects(text))
    assert "highlife. Later" not in spans(text)
    assert "Tempos; Accra" not in spans(text)
    assert {"played highlife", "highlife", "Mensah of the Gold Coast"} <= set(spans(text))
    assert names(text) == ["E. T. Mensah", "Gold Coast", "The Tempos", "Accra Rhythmic"]


def test_the_likeliest_answer_of_a_question_is_learned_and_weighs_as_it_is_sure() -> None:
    def said(prefix: str, obj: str, score: float) -> Statement:
        return Statement(prefix=prefix, object=obj, score=score)

    found = [said("a is", "x", -1.0), said("a is", "y", -2.0), said("b is", "z", -3.0), said("c is", "w", -9.0)]
    best = chosen(found, count=2, temperature=2.0)
    assert [(one.object, weight) for one, weight in best] == [("x", 1.0), ("z", pytest.approx(math.exp(-1)))]


def test_the_loss_of_statements_is_the_weighted_nll_of_their_answers() -> None:
    base = find_model("tiny")
    model = base.load()
    found = {
        "one": [Statement(prefix="a is", object="xyz", score=0.0), Statement(prefix="b is", object="u", score=-1.0)],
        "two": [Statement(prefix="c is", object="v", score=-4.0)],
        "none": [],
    }
    beside = Beside(base.tokenizer, found, count=4, temperature=1.0)

    def loss(*ids: str) -> float:
        rows, weights = beside.of(ids)
        return float(as_branches(model, rows).nll(weights).detach())

    def nll(prefix: str, obj: str) -> float:
        ids = torch.tensor([base.tokenizer(f"{prefix} {obj}")["input_ids"]])
        logits = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        begin = len(prefix) + 1
        return float(-logits[begin - 1 :].gather(1, ids[0, begin:, None]).mean().detach())

    share = math.exp(-1) / (1 + math.exp(-1))
    first = (1 - share) * nll("a is", "xyz") + share * nll("b is", "u")
    assert loss("one") == pytest.approx(first, abs=1e-4)
    assert loss("one", "two") == pytest.approx((first + nll("c is", "v")) / 2, abs=1e-4)
    assert loss("one", "none") == pytest.approx(first / 2, abs=1e-4)
    assert beside.of(["none"]) == ([], [])
    nothing = as_branches(model, [([1, 2], 1)]).nll([])
    nothing.backward()
    assert nothing.item() == 0.0


def test_branches_give_the_losses_and_gradients_of_rows_side_by_side() -> None:
    base = find_model("tiny")
    model = base.load()
    words = ("a long beginning and b", "a long beginning and cde", "a long beginning, another end", "z")
    rows = [(list(base.tokenizer(text)["input_ids"]), 5 if " " in text else 1) for text in (*words, words[0], "zz")]
    rows = [row for row in rows if len(row[0]) > row[1]]
    try_branches(model, rows)
    weights, found = [0.5, 1.0, 2.0], []
    for through in (side_by_side, as_branches):
        model.zero_grad()
        passed = through(model, rows)
        loss = passed.nll(weights) + passed.logits(len(weights)).square().mean()
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    assert as_branches(model, rows).hidden.states.shape[:2].numel() < sum(len(ids) for ids, _ in rows)
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


def test_a_statement_that_is_learned_moves_nothing_more() -> None:
    base = find_model("tiny")
    model = base.load()
    statements = [Statement(prefix="a is", object="xyz", score=0.0), Statement(prefix="b is", object="u", score=0.0)]

    def loss_and_gradient(found: list[Statement], enough: float) -> tuple[float, torch.Tensor]:
        rows, weights = Beside(base.tokenizer, {"one": found}, count=4, temperature=1.0).of(["one"])
        model.zero_grad()
        loss = as_branches(model, rows).nll(weights, enough)
        loss.backward()
        return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    (low, slope_of_low), (high, slope_of_high) = sorted(
        (loss_and_gradient([one], 0.0) for one in statements), key=lambda pair: pair[0]
    )
    between = (low + high) / 2
    loss, slope = loss_and_gradient(statements, between)
    assert loss == pytest.approx((high - between) / 2, abs=1e-4)
    torch.testing.assert_close(slope, slope_of_high / 2, atol=1e-6, rtol=1e-4)
    nothing, still = loss_and_gradient(statements, high + 0.1)
    assert (nothing, still.abs().max().item()) == (0.0, 0.0)
    assert slope_of_low.abs().max() > 0


def test_what_is_held_costs_nothing_at_the_base_model_and_is_kl_elsewhere() -> None:
    base = find_model("tiny")
    model, other = base.load(), base.load()
    held = Held(model, drawn_questions(base.tokenizer, FORMS, ["Ann", "Bo"], count=6, seed=0), words=3)
    rows = held.rows
    assert [len(ids) - begin for ids, begin in rows] == [3] * 6

    def kl(model: torch.nn.Module) -> float:
        return float(held.kl(side_by_side(model, [rows[0], rows[3]]).logits(), [0, 3]).detach())

    assert kl(model) == pytest.approx(0.0, abs=1e-3)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    terms = []
    for ids, begin in (rows[0], rows[3]):
        x = torch.tensor([ids])
        p, q = (m(input_ids=x).logits[0, begin - 1 : -1].log_softmax(-1) for m in (model, other))
        terms += (p.exp() * (p - q)).sum(-1).tolist()
    assert kl(other) == pytest.approx(sum(terms) / len(terms), rel=2e-2)
    assert held.drawn(3, "k") == held.drawn(3, "k")


def test_prepare_writes_a_writer_that_a_run_reads(command: Command, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "writer.safetensors"
    made = command("prepare", "restate", "--benchmark", small, "--model", "tiny", "--out", out, *SMALL)
    assert made.code == 0, made.err
    about = json.loads(out.with_suffix(".json").read_text())
    assert (about["pairs"], len(about["curve"]), about["cost"]["documents"]) == (5, 2, 10)
    assert all("lora_" in name for name in load_file(out))
    assert not list(tmp_path.glob(".*"))
    again = command("prepare", "restate", "--benchmark", small, "--model", "tiny", "--out", out, *SMALL)
    assert "is trained already" in again.err
    run = ("run", "--method", "restate", "--benchmark", small, "--model", "tiny", "--epochs", 1, "--json", "--set")
    few = ("--set", "restate.beams=4", "--set", "restate.replay=8")
    done = command(*run, f"restate.writer={out}", *few)
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert (record["told"], list(record["spec"]["inputs"])) == (False, ["writer"])
    assert [p["tokens"] for p in record["cost"]["preparations"]] == [about["cost"]["tokens"]]


def test_facts_of_another_benchmark_are_left_apart(command: Command, small: Path, tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    shutil.copytree(small, apart)
    out = tmp_path / "writer.safetensors"
    made = command(
        "prepare", "restate", "--benchmark", small, "--model", "tiny", "--out", out, *SMALL, "--set", f"apart={apart}"
    )
    assert made.code == 0, made.err
    about = json.loads(out.with_suffix(".json").read_text())
    assert about["apart_hash"] == load_benchmark(str(small)).hash
    assert about["pairs"] == 5  # of 11, whose facts no probe of this benchmark asks for


def test_what_is_missing_or_does_not_fit_is_one_line(command: Command, small: Path, tmp_path: Path) -> None:
    run = ("run", "--method", "restate", "--benchmark", small, "--model", "tiny", "--epochs", 1)
    none = command(*run)
    assert (none.code, none.err.count("\n")) == (2, 1)
    assert "ckl-bench prepare restate --benchmark" in none.err
    out = tmp_path / "writer.safetensors"
    prepare = ("prepare", "restate", "--benchmark", small, "--model", "tiny", "--out")
    assert command(*prepare, out, *SMALL).code == 0
    forge(out.with_suffix(".json"), lambda about: about.update(tokenizer_hash="other"))
    assert "was made for the tokenizer of 'tiny'" in command(*run, "--set", f"restate.writer={out}").err
    assert "ends in .safetensors" in command(*prepare, tmp_path / "writer.pt").err
    assert "did you mean 'epochs'?" in command(*prepare, out, "--set", "epoch=1").err
    assert "'lora' needs nothing prepared" in command("prepare", "lora", "--out", out).err


def test_a_stopped_training_ends_as_an_undisturbed_one(small: Path) -> None:
    base, rows = find_model("tiny"), list(load_benchmark(str(small)).attention)[:4]
    settings = Writing(epochs=2, batch_size=2, r=2)

    def begun() -> _Training:
        return _Training(base, rows, settings, "cpu", 0)

    whole, first, second = begun(), begun(), begun()
    for _ in range(4):
        whole.take_step()
    for _ in range(3):
        first.take_step()
    second.take_up(first.state())
    second.take_step()
    assert second.about()["curve"] == whole.about()["curve"]
    assert all(torch.equal(p, whole.own[name]) for name, p in second.own.items())


def test_the_tokens_that_the_writer_reads_are_cut() -> None:
    assert len(reading(tiny_tokenizer(), "x" * 100, 10)) == 12
