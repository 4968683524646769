"""The tripwire: rehearsing what is probed fails the run; what was read is recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ckl_bench.benchmarks.format import Document, Fact, Probe, load_benchmark, write_benchmark
from ckl_bench.encode import collate
from ckl_bench.errors import CklError
from ckl_bench.learning.tripwire import Tripwire
from conftest import Command
from helpers.stages import encode

PROBE = Probe(id="p", prompt="The capital of France is Paris .", object="Paris", subject="France", relation="P36")
CHEAT = '''"""Replays a probed fact that it remembers from elsewhere."""
from dataclasses import dataclass, replace
from ckl_bench.encode import collate
from ckl_bench.method import Method

@dataclass(frozen=True, kw_only=True)
class Cheat(Method):
    text: str = ""

    def stream(self, batches, stage, epoch):
        for batch in batches:
            first = batch.documents[0]
            yield collate([*batch.documents, replace(first, id="extra", text=self.text, fact=None)])
'''


@pytest.mark.parametrize(
    ("document", "caught"),
    [
        (Document(id="a", text="Paris is the capital of France."), True),
        (Document(id="a", text="In Paris it rains. In France it is dry."), False),
        (Document(id="a", text="The Parisians left Francestown."), False),
        (Document(id="a", text="A text.", fact=Fact(subject="France", relation="P36", object="Paris")), False),
    ],
)
def test_a_sentence_with_subject_and_object_gives_a_probe_away(document: Document, caught: bool) -> None:
    tripwire = Tripwire([PROBE])
    tripwire.begin(encode(Document(id="own", text="Paris is the capital of France.")))
    tripwire.watch(encode(Document(id="own", text="Paris is the capital of France.")))  # the stage's own document
    if caught:
        with pytest.raises(CklError, match=r"'a' was rehearsed and states a probed fact \(France, P36, Paris"):
            list(tripwire.watch_stream([collate(encode(document))]))
        assert tripwire.read == []
    else:
        tripwire.watch(encode(document))
        assert tripwire.read == ["a"]


def test_a_rehearsal_document_is_judged_by_its_fact() -> None:
    france = Fact(subject="France", relation="P36", object="Paris")
    lyon = Fact(subject="Lyon", relation="P17", object="France")
    passing = encode(Document(id="b", text="Lyon is in France, as Paris is.", fact=lyon))
    tripwire = Tripwire([PROBE])
    tripwire.hand_out(passing)
    assert tripwire.read == ["b"]
    with pytest.raises(CklError, match="probe 'p'"):
        tripwire.hand_out(encode(Document(id="c", text="no names here", fact=france)))
    other = encode(Document(id="b", text="Paris is the capital of France.", fact=lyon))
    with pytest.raises(CklError, match="probe 'p'"):
        tripwire.watch(other)  # another text under an id that was allowed


def test_a_method_that_replays_a_probed_fact_fails_and_leaves_a_record(
    command: Command, small: Path, tmp_path: Path
) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "cheat.py").write_text(CHEAT)
    probe = next(iter(load_benchmark(str(small)).stages[0].probes["not_to_forget"]))
    run = ("run", "--method", "cheat", "--model", "tiny", "--benchmark", small)
    told = f"cheat.text=It is {probe.object} that {probe.subject} names."
    result = command(*run, "--set", told)
    assert result.code == 1
    assert "document 'extra' was rehearsed and states a probed fact" in result.err
    assert probe.id in result.err
    (path,) = (tmp_path / "runs" / "records").glob("*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "failed"
    assert "extra" in record["error"]
    harmless = command(*run, "--set", "cheat.text=The weather was fine.", "--json")
    assert json.loads(harmless.out)["stages"][0]["rehearsed"] == ["extra"]


def test_a_rehearsal_set_with_a_probed_fact_is_refused_before_anything_is_loaded(
    command: Command, small: Path, tmp_path: Path
) -> None:
    found = load_benchmark(str(small))
    probe = found.stages[0].probes["not_to_forget"][0]
    fact = Fact(subject=probe.subject, relation=probe.relation, object=probe.object)
    about = {"builder": "t", "defaults": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3}}
    write_benchmark(
        tmp_path / "leaky",
        name="leaky",
        kind="lama-ckl",
        about=about,
        stages=found.stages,
        rehearsal=[Document(id="leak", text="It says so.", fact=fact)],
    )
    run = ("run", "--model", "tiny", "--benchmark", tmp_path / "leaky", "--method")
    result = command(*run, "mixreview")
    assert result.code == 2
    assert "rehearsal document 'leak' states a probed fact" in result.err
    assert command(*run, "lora").code == 0  # it rehearses nothing


def test_what_was_rehearsed_is_in_the_record(command: Command, small: Path) -> None:
    run = ("run", "--model", "tiny", "--benchmark", small, "--json", "--method")
    rehearsal = sorted(document.id for document in load_benchmark(str(small)).rehearsal)
    assert len(rehearsal) == 3
    for method in ("mixreview", "ewc"):
        assert json.loads(command(*run, method).out)["stages"][0]["rehearsed"] == rehearsal
    assert json.loads(command(*run, "lora").out)["stages"][0]["rehearsed"] == []
