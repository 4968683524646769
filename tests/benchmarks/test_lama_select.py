"""Which set a fact qualifies for: the published rows, the borders of the rules, the caps of a relation."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckl_bench.benchmarks.format import Fact
from ckl_bench.benchmarks.lama_select import eligible, select
from ckl_bench.benchmarks.lama_sources import Candidate, read_published
from ckl_bench.errors import UserError


def test_every_published_row_lands_in_the_set_it_came_from(reference: Path) -> None:
    variant = read_published(reference / "lama_ckl" / "variant.jsonl")
    invariant = read_published(reference / "lama_ckl" / "invariant_descriptive.jsonl")
    assert (len(variant), len(invariant)) == (500, 500)
    for candidate in variant:
        assert eligible(candidate, "to_learn", "descriptive")
        assert not eligible(candidate, "not_to_forget", "descriptive")
    for candidate in invariant:
        assert eligible(candidate, "not_to_forget", "descriptive")
        assert not eligible(candidate, "to_learn", "descriptive")
    chosen = select([*variant, *invariant], to_learn=500, not_to_forget=500, seed=42, form="descriptive")
    assert {c.id for c in chosen.to_learn} <= {c.id for c in variant}
    assert {c.id for c in chosen.not_to_forget} == {c.id for c in invariant}
    assert not chosen.rehearsal


def candidate(code: str, descriptive: tuple[float, ...], schematic: tuple[float, ...]) -> Candidate:
    return Candidate(
        id=code,
        fact=Fact(subject="s", relation=code, object="o"),
        evidence="e",
        descriptive="d",
        schematic="s",
        scores={"descriptive": descriptive, "schematic": schematic},
    )


def test_the_selection_rules_at_their_borders() -> None:
    variant, invariant = "P108", "P36"
    assert eligible(candidate(invariant, (1.0, 1.0), (0.0, 0.0)), "not_to_forget", "descriptive")
    assert not eligible(candidate(invariant, (1.0, 0.99), (1.0, 1.0)), "not_to_forget", "descriptive")
    assert eligible(candidate(invariant, (1.0, 0.99), (1.0, 1.0)), "not_to_forget", "schematic")
    assert not eligible(candidate(variant, (1.0,), (1.0,)), "not_to_forget", "descriptive")
    assert eligible(candidate(variant, (0.0,), (0.0,)), "to_learn", "descriptive")
    assert not eligible(candidate(variant, (0.0,), (0.1,)), "to_learn", "descriptive")
    assert not eligible(candidate(invariant, (0.0,), (0.0,)), "to_learn", "descriptive")
    assert eligible(candidate(invariant, (0.49,), (0.0,)), "attention", "descriptive")
    assert not eligible(candidate(variant, (0.5,), (0.0,)), "attention", "descriptive")


def test_caps_bound_a_relation(tmp_path: Path) -> None:
    many = [
        Candidate(
            id=f"{code}{i}",
            fact=Fact(subject=f"{code}s{i}", relation=code, object=f"o{i}"),
            evidence=f"{code}e{i}",
            descriptive="d",
            schematic="s",
            scores={"descriptive": (known,), "schematic": (known,)},
        )
        for code, count, known in (("P530", 600, 0.0), ("P36", 1, 1.0))
        for i in range(count)
    ]
    with pytest.raises(UserError, match="130 facts qualify"):
        select(many, to_learn=131, not_to_forget=1, seed=0, form="descriptive")
    chosen = select(many, to_learn=130, not_to_forget=1, seed=0, form="descriptive")
    assert (len(chosen.to_learn), len(chosen.attention)) == (130, 350)
