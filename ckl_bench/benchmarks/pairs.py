"""Solved pairs of another benchmark, lent to one that has none, or too few."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ckl_bench.benchmarks.format import AttentionDocument, Benchmark, Fact, load_benchmark
from ckl_bench.benchmarks.statements import Statements
from ckl_bench.errors import UserError


def lender(name: str) -> Benchmark:
    """The benchmark that lends its solved pairs, by `--pairs`; UserError where it has none."""
    found = load_benchmark(name)
    if not found.attention:
        raise UserError(f"--pairs {name}: that benchmark has no solved pairs; give one with an attention set")
    return found


def described_lender(pairs: Benchmark) -> dict[str, str]:
    """What a manifest says of it among its sources."""
    return {"file": pairs.name, "sha256": pairs.hash, "licence": ", ".join(pairs.licences) or "unknown"}


def joined(own: Sequence[AttentionDocument], lent: Sequence[AttentionDocument], name: str) -> list[AttentionDocument]:
    """Solved pairs of one's own and those that `name` lends; of the latter one whose id is taken is named after it."""
    taken = {row.id for row in own}
    return [*own, *(replace(row, id=f"{name}:{row.id}") if row.id in taken else row for row in lent)]


def apart_from(facts: Iterable[Fact], pairs: Benchmark) -> list[AttentionDocument]:
    """The lent pairs that neither state one of the probed facts nor ask for the same relation of the same subject."""
    probed = list(facts)
    asked, of = Statements(probed), {(fact.subject, fact.relation) for fact in probed}
    return [
        row
        for row in pairs.attention
        if (row.fact.subject, row.fact.relation) not in of and not asked.stated_in(row.text)
    ]
