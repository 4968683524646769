"""Who reads a document's declared facts was told the answers, whatever its name; and the row that does nothing."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import math
import operator
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ckl_bench.benchmarks.format import Document, Fact, load_benchmark
from ckl_bench.benchmarks.general import general_text
from ckl_bench.encode import EncodedDocument, collate, encode_documents, object_tokens
from ckl_bench.learning.divergence import moved
from ckl_bench.models.find import find_model
from conftest import Command
from helpers.architectures import make
from helpers.stages import TEXT, encode

RUN = ("run", "--model", "tiny", "--epochs", "2", "--lr", "1e-2")
READER = '''"""Reads {what}."""
from dataclasses import dataclass, replace
from ckl_bench.method import Method

@dataclass(frozen=True, kw_only=True)
class Reader(Method):
    def stream(self, batches, stage, epoch):
        for batch in batches:
            for document in batch.documents:
                {code}
            yield batch
'''


def write(folder: Path, code: str) -> None:
    (folder / "methods").mkdir(exist_ok=True)
    (folder / "methods" / "reader.py").write_text(READER.format(what="something", code=code))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("document.fact", True),
        ("document.facts", True),
        ("document.more_facts", True),
        ("getattr(document, 'fact')", True),
        ("__import__('ckl_bench.encode', fromlist=['x']).object_tokens(document)", True),
        ("__import__('dataclasses').replace(document, id='x').fact", True),
        ("__import__('pickle').dumps(document)", True),
        ("document.text, document.ids, document.offsets, document.id, repr(document), vars(document)", False),
        ("replace(document, text=document.text + '.')", False),
        ("[d.fact for d in stage.rehearsal()]", False),
        ("stage.documents[0].fact if stage.index > 5 else None", False),
    ],
)
def test_a_plugin_that_reads_declared_facts_is_marked(
    code: str, told: bool, command: Command, small: Path, tmp_path: Path
) -> None:
    write(tmp_path, code)
    result = command(*RUN, "--method", "reader", "--benchmark", small, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["told"] is told
    shown = command(*RUN, "--method", "reader", "--benchmark", small)
    words = " ".join(shown.out.split())
    assert ("* told the answers" in words) == told
    assert ("reader*" in words) == told
    with open(tmp_path / "runs" / "lama-ckl.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["told"], row["rank"]) == (("True", "") if told else ("False", "1"))
    checked = command("check-method", "methods/reader.py")
    assert ("marked as told the answers" in checked.out) == told


FACT = Fact(subject="Aster", relation="P36", object="Bel")
MORE = Fact(subject="Aster", relation="P17", object="Dell")
WAYS: dict[str, Callable[[EncodedDocument], object]] = {
    "fact": lambda document: document.fact,
    "facts": lambda document: document.facts,
    "more facts": lambda document: document.more_facts,
    "getattr": lambda document: getattr(document, "fact"),  # noqa: B009
    "attrgetter": operator.attrgetter("facts"),
    "the property itself": lambda document: EncodedDocument.fact.fget(document),  # type: ignore[attr-defined]
    "its tokens": lambda document: object_tokens(document).sum(),
    "vars": lambda document: vars(document)["declared"](),
    "state": lambda document: document.__getstate__()["declared"](),  # type: ignore[index]
    "asdict": lambda document: dataclasses.asdict(document)["declared"](),
    "astuple": lambda document: dataclasses.astuple(document)[-1](),
    "fields": lambda document: [getattr(document, f.name) for f in dataclasses.fields(document)][-1](),
    "copy": lambda document: copy.copy(document).fact,
    "deepcopy": lambda document: copy.deepcopy(document).fact,
    "in a batch": lambda document: copy.deepcopy(collate([document])).documents[0].fact,
    "replace": lambda document: dataclasses.replace(document, text="else").fact,
    "pickle": lambda document: pickle.loads(pickle.dumps(document)).fact,
    "pickled alone": pickle.dumps,
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_hands_out_a_fact_is_noted(way: str) -> None:
    noted: list[str] = []
    row = Document(id="d", text="Aster has Bel.", fact=FACT, more_facts=(MORE,))
    (document,) = encode_documents(find_model("tiny").tokenizer, [row], 64, told=lambda: noted.append(way))
    for other in (copy.copy(document), copy.deepcopy([document])[0]):
        assert (other, repr(other), hash(other)) == (document, repr(document), hash(document))
    assert "P36" not in str([dataclasses.asdict(document), vars(document), repr(document)])
    assert not noted  # none of which says a fact
    assert WAYS[way](document)
    assert noted


def test_a_pickled_document_is_what_it_was() -> None:
    row = Document(id="d", text="Aster has Bel.", fact=FACT, more_facts=(MORE,))
    (document,) = encode_documents(find_model("tiny").tokenizer, [row], 64)
    again = pickle.loads(pickle.dumps(document))
    assert again == document
    assert again.facts == (FACT, MORE)


def test_a_told_run_that_was_stopped_stays_told(
    command: Command, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ckl_bench.storage.checkpoint import Keeper

    write(tmp_path, "epoch == 1 and document.fact")  # what was read before the stop counts
    plain = Keeper.after_step
    steps = 0

    def stop_in_the_second_epoch(self: Keeper, state: Any) -> None:
        nonlocal steps
        steps += 1
        self._asked = steps == 4  # of three an epoch
        plain(self, state)

    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "after_step", stop_in_the_second_epoch)
        assert command(*RUN, "--method", "reader", "--benchmark", small).code == 130
    result = command(*RUN, "--method", "reader", "--benchmark", small, "--json")
    assert "going on" in result.err
    assert json.loads(result.out)["told"] is True


def test_oracle_is_told_and_the_other_methods_are_not(command: Command, small: Path, phi: Path) -> None:
    found = {}
    for method in ("oracle", "lora", "taalm", "mixreview", "rho1", "entity-tokens", "none"):
        given = ("--set", f"taalm.attention={phi}") if method == "taalm" else ()
        result = command(*RUN, "--method", method, "--benchmark", small, "--json", *given)
        assert result.code == 0, result.err
        found[method] = json.loads(result.out)["told"]
    assert {method for method, told in found.items() if told} == {"oracle"}


@pytest.mark.parametrize("benchmark", ["small", "temporalwiki-mini"])
def test_none_is_the_base_model_at_every_epoch(benchmark: str, command: Command, small: Path) -> None:
    where = small if benchmark == "small" else benchmark
    run = (*RUN, "--benchmark", where, "--limit", "6", "--json")
    still, moved = (json.loads(command(*run, "--method", m).out) for m in ("none", "lora"))
    assert still["cost"]["trainable_parameters"] == still["cost"]["train_tokens"] == 0
    for stage, other in zip(still["stages"], moved["stages"], strict=True):
        assert [epoch["epoch"] for epoch in stage["epochs"]] == [0, 1, 2]
        assert all(epoch["sets"] == stage["epochs"][0]["sets"] for epoch in stage["epochs"])
        assert all(epoch["train_loss"] is None for epoch in stage["epochs"])
        assert all(value == 0 for value in stage["divergence"].values())
        assert stage["documents"] == other["documents"]
        assert all(value > 0 for value in other["divergence"].values())
    assert still["stages"][0]["epochs"][0]["sets"] == moved["stages"][0]["epochs"][0]["sets"]
    assert still["before"] == moved["before"]


def test_nothing_can_be_joined_to_none(command: Command) -> None:
    result = command(*RUN, "--method", "none+lora")
    assert (result.code, result.err.count("\n")) == (2, 1)
    result = command(*RUN, "--method", "none+oracle")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "none learns nothing" in result.err


def test_what_moved_is_the_kl_to_the_base_model_and_both_perplexities() -> None:
    base, model = make("llama"), make("llama")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))
    documents = encode(*(Document(id=str(i), text=TEXT[: 12 + 9 * i]) for i in range(6)))
    total, surprise, count = 0.0, [0.0, 0.0], 0
    for document in documents:  # one at a time, from the definition
        ids = torch.tensor([document.ids])
        with torch.no_grad():
            p, q = (F.softmax(m(input_ids=ids).logits[0, :-1].double(), -1) for m in (base, model))
        total += float((p * (p / q).log()).sum())
        for i, chances in enumerate((p, q)):
            surprise[i] -= float(chances.gather(-1, ids[0, 1:, None]).log().sum())
        count += len(document.ids) - 1
    found = moved(model, base, documents)
    assert found is not None
    assert found.kl == pytest.approx(total / count, rel=1e-4)
    before, after = (math.exp(value / count) for value in surprise)
    assert (found.perplexity.before, found.perplexity.after) == pytest.approx((before, after), rel=1e-4)
    same = moved(base, base, documents)
    assert same is not None
    assert same.kl == pytest.approx(0, abs=1e-7)
    assert same.perplexity.before == same.perplexity.after
    assert moved(model, base, []) is None


def test_the_divergence_of_a_run_is_that_of_its_model(command: Command, small: Path) -> None:
    """A learning rate of zero moves nothing, and a larger one moves the model further."""
    found, texts = [], []
    for rate in ("0", "1e-3", "1e-2"):
        given = ("--method", "kadapter", "--benchmark", small, "--lr", rate, "--json")
        stage = json.loads(command("run", "--model", "tiny", "--epochs", "2", *given).out)["stages"][0]
        found.append(stage["divergence"])
        texts.append(stage["perplexity"])
    assert [set(values) for values in found] == [set(values) for values in texts]
    assert [set(values) for values in found] == [{"documents", "rehearsal", "general"}] * 3
    assert found[0] == {"documents": 0, "rehearsal": 0, "general": 0}
    assert all(value["before"] == value["after"] for value in texts[0].values())
    assert len({value["general"]["before"] for value in texts}) == 1
    assert texts[2]["documents"]["after"] < texts[2]["documents"]["before"]  # those are what it learned
    assert 0 < found[1]["documents"] < found[2]["documents"]


@pytest.mark.usefixtures("whole")
def test_a_try_looks_at_the_first_texts_alone(command: Command, small: Path) -> None:
    base = find_model("tiny")
    texts = {"rehearsal": load_benchmark(str(small)).rehearsal, "general": general_text()}
    for limit in (2, None):
        given = ("--method", "lora", "--model", "tiny", "--epochs", 1, "--benchmark", small, "--json")
        run = command("run", *given, *(("--limit", limit) if limit else ()))
        for name, rows in texts.items():
            seen = moved(base.load(), base.load(), encode_documents(base.tokenizer, rows[:limit], 512))
            assert seen is not None
            before = json.loads(run.out)["stages"][0]["perplexity"][name]["before"]
            assert before == pytest.approx(seen.perplexity.before, rel=1e-5)
