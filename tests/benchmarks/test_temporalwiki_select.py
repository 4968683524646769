"""TemporalWiki's filters and shares on made-up facts, and its documents' length."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.benchmarks.temporalwiki.facts import CANDIDATES
from ckl_bench.benchmarks.temporalwiki.joins import connect
from ckl_bench.benchmarks.temporalwiki.select import Caps, Chosen, Selection
from ckl_bench.benchmarks.temporalwiki.shards import run_step
from ckl_bench.benchmarks.temporalwiki.texts import MOST, chunks, refuse_text


def rows(*facts: tuple[str, str, str], text: str | None = "x") -> list[dict[str, Any]]:
    labels = {label: i for i, label in enumerate(dict.fromkeys(part for fact in facts for part in fact))}
    return [
        {
            "subject_id": f"Q{labels[s]}",
            "subject": s,
            "relation": r,
            "object": o,
            "text": None if text is None else o,
            "page": i,
            "property": labels[r],
            "object_id": labels[o],
            "kind": "changed",
            "was": None,
            "revised": True,
            "learned": True,
        }
        for i, (s, r, o) in enumerate(facts)
    ]


def test_every_filter_refuses_what_it_should_and_says_so(tmp_path: Path) -> None:
    good = rows(("Ada", "field", "mathematics"), ("Bo", "born in", "the city of New York"), ("Cy", "works for", "Ico"))
    bad = {
        "object over five words": rows(("A", "b", "one two three four five six")),
        "subject and object overlap": rows(("New York City", "in", "new york"), ("Bern", "in", "Canton of Bern")),
        "object not in the text": rows(("D", "in", "E"), text=None),
        "no label": [row | {"object": None} for row in rows(("F", "in", "G"))],
        "no document states it": [row | {"learned": False} for row in rows(("J", "in", "K"))],
        "duplicate": [row | {"subject_id": "Q77"} for row in rows(("Ada", "field", "mathematics"))],
        "used elsewhere": [row | {"subject_id": "Q99"} for row in rows(("H", "in", "I"))],
    }
    # A fact that another filter refuses is no original of which the next were a duplicate.
    twins = rows(("L", "in", "M"))
    bad["object not in the text"] += [twins[0] | {"text": None, "subject_id": "Q1"}]
    good += [twins[0] | {"subject_id": "Q2"}]
    every = [*good, *(row for group in bad.values() for row in group)]
    folder = run_step(tmp_path / "facts", CANDIDATES, lambda start: iter([(every, {})]))
    selection, (taken,) = Selection(connect(tmp_path, 200)), bad["used elsewhere"]
    selection.use([(taken["subject_id"], taken["property"], taken["object_id"])])
    chosen = selection.choose(folder, "changed", None, "found")
    assert sorted(row["subject"] for row in chosen.facts) == ["Ada", "Bo", "Cy", "L"]
    assert chosen.refused == {reason: len(group) for reason, group in bad.items()}


@pytest.mark.parametrize("seed", [1, 2])
def test_no_subject_and_no_relation_is_over_its_share(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    facts = {(f"s{int(draw.expovariate(0.05))}", f"r{int(draw.expovariate(0.1))}", f"o{i}") for i in range(3000)}
    folder = run_step(tmp_path / "facts", CANDIDATES, lambda start: iter([(rows(*sorted(facts)), {})]))
    selection = Selection(connect(tmp_path, 200))

    def choose(name: str, **more: Any) -> Chosen:
        return selection.choose(
            folder, "changed", Caps(**{"subject": 0.02, "relation": 0.06, "seed": seed} | more), name
        )

    kept = choose("kept")
    total = len(kept.facts)
    assert total > 300
    for column, share in (("subject", 0.02), ("relation", 0.06)):
        ((_, most),) = Counter(row[column] for row in kept.facts).most_common(1)
        assert most <= share * total
    assert sum(kept.refused.values()) + total == len(facts)
    again, other = choose("again"), choose("other", seed=seed + 1)
    assert again.facts == kept.facts
    assert other.facts != kept.facts
    assert len(choose("few", probes=100).facts) <= 100


def test_documents_are_whole_sentences_of_bounded_length() -> None:
    sentences = [f"Sentence {i} says that {'very ' * (i % 7)}little happened." for i in range(200)]
    texts = list(chunks(sentences))
    assert " ".join(texts) == " ".join(sentences)
    assert max(map(len, texts)) <= MOST
    assert len(texts) > 3
    assert list(chunks(["x" * (MOST + 5)])) == ["x" * (MOST + 5)]
    assert refuse_text("short") == "under 50 characters"
    assert refuse_text(" nan ") == "nan"
    assert refuse_text("12 345 678 " * 9) == "mostly not letters"
    assert refuse_text("A sentence that is long enough to be worth learning from.") is None
