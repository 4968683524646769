"""Metrics of a finished run, as pure functions of its record (design: LAMA-ckl's published and unbiased measures)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ckl_bench.benchmarks.manifest import KINDS
from ckl_bench.records import Record, best_total, total


@dataclass(frozen=True, kw_only=True)
class LamaCkl:
    """LAMA-ckl's measures of one run. A(e), N(e): mean accuracy on to_learn and not_to_forget after epoch e.

    `top_acc`, `epoch`, `nf_acc` and `total_knowledge` are the published definition, which picks the epoch on the
    evaluated set; the rest does not.
    """

    top_acc: float  # max A(e)
    epoch: int  # the first e that reaches it
    nf_acc: float  # N(epoch)
    total_knowledge: float  # top_acc + nf_acc
    best_total: float  # max over e of A(e) + N(e)
    best_total_epoch: int
    learned_at_1pct: float  # the best A(e) among epochs with N(e) >= N(0) - 0.01
    forgetting: float  # N(0) - N(epoch)
    final_to_learn: float  # A(E)
    final_not_to_forget: float  # N(E)
    untrained_total: float  # A(0) + N(0): what doing nothing gives, 1 where the split is certified for the model
    top_exact: float  # share of to-learn facts with every object token right, at the table's epoch
    nf_exact: float  # the same of not-to-forget facts
    otherwise_acc: float | None  # accuracy on `asked_otherwise` at the table's epoch, where there is such a set
    otherwise_exact: float | None


def lama_ckl(record: Record) -> LamaCkl:
    """The measures of a run on a benchmark of kind lama-ckl, or of kind own with one stage."""
    epochs = record.stages[0].epochs
    learned = [epoch.sets["to_learn"].accuracy for epoch in epochs]
    kept = [epoch.sets["not_to_forget"].accuracy for epoch in epochs]
    top = max(range(len(epochs)), key=lambda e: (learned[e], -e))
    best = best_total(epochs)
    sets = epochs[top].sets
    otherwise = sets.get("asked_otherwise")
    return LamaCkl(
        top_acc=learned[top],
        epoch=epochs[top].epoch,
        nf_acc=kept[top],
        total_knowledge=learned[top] + kept[top],
        best_total=total(best),
        best_total_epoch=best.epoch,
        learned_at_1pct=max(a for a, n in zip(learned, kept, strict=True) if n >= kept[0] - 0.01),
        forgetting=kept[0] - kept[top],
        final_to_learn=learned[-1],
        final_not_to_forget=kept[-1],
        untrained_total=learned[0] + kept[0],
        top_exact=sets["to_learn"].exact,
        nf_exact=sets["not_to_forget"].exact,
        otherwise_acc=otherwise.accuracy if otherwise else None,
        otherwise_exact=otherwise.exact if otherwise else None,
    )


def in_sequence(record: Record) -> bool:
    """Whether a run is measured stage after stage, as TemporalWiki is, not epoch after epoch as LAMA-ckl."""
    kind = record.spec.benchmark_kind
    return kind == "temporalwiki" or (kind == "own" and len(record.stages) > 1)


def part_sets(record: Record) -> dict[str, str]:
    """The probe set of what a stage changes, and of what it leaves as it was: `changed`, `unchanged` -> the set."""
    unchanged, changed = KINDS["temporalwiki"]
    if record.spec.benchmark_kind == "temporalwiki":
        return {unchanged: unchanged, changed: changed}
    learned, kept = KINDS[record.spec.benchmark_kind]
    return {unchanged: kept, changed: learned}


def told(record: Record) -> bool:
    """Whether the run's method was told the answers, as it was noted in the run; the oracle is, by what it does."""
    return bool(record.told) or "oracle" in record.spec.hyperparameters


@dataclass(frozen=True, kw_only=True)
class MonthNll:
    """Mean object NLL of a month's probe sets right after the month was learned, nats; `avg` is the mean of the two."""

    name: str
    unchanged: float
    changed: float
    avg: float


@dataclass(frozen=True, kw_only=True)
class TemporalWiki:
    """TemporalWiki's measures of one run over T months (paper, section 5.2; transfer and forgetting over the sequence).

    R(i, j): the score -NLL on `changed` of month j after month i has been learned; R(0, j) is the base model's. What
    needs an earlier month is None where there is but one, and where the model was scored only.
    """

    months: tuple[MonthNll, ...]
    avg_nll: float  # mean of the months' averages
    before_avg_nll: float  # the same of the base model
    # Forgotten over gained (FUAR, Jang et al. 2022, here in NLL): Σ_j max(0, NLL rise on `unchanged` of month j) over
    # Σ_j max(0, NLL fall on `changed` of month j), both from the base model to the end. None where nothing was gained.
    fuar: float | None
    backward_transfer: float | None  # mean over j < T of R(T, j) - R(j, j) (Lopez-Paz & Ranzato 2017)
    forward_transfer: float | None  # mean over j > 1 of R(j-1, j) - R(0, j) (the same)
    forgetting: float | None  # mean over j < T of max over i in j..T-1 of R(i, j), - R(T, j) (Chaudhry et al. 2018)


def temporalwiki(record: Record) -> TemporalWiki:
    """The measures of a run on a benchmark of kind temporalwiki, or of kind own with several stages.

    There `to_learn` is what is changed and `not_to_forget` what is unchanged.
    """
    stages, part = record.stages, part_sets(record)
    alone = record.spec.scored_only  # one model, of which no earlier state is known
    last = len(stages) - 1
    months = []
    for stage in stages:
        unchanged, changed = (stage.epochs[-1].sets[part[name]].nll for name in ("unchanged", "changed"))
        months.append(MonthNll(name=stage.name, unchanged=unchanged, changed=changed, avg=(unchanged + changed) / 2))

    def before(j: int, name: str) -> float:
        return (stages[j].epochs[0].sets if j == 0 or alone else record.before[stages[j].name])[part[name]].nll

    def after(i: int, j: int, name: str = "changed") -> float:
        return (stages[j].epochs[-1].sets if i == j or alone else stages[i].earlier[stages[j].name])[part[name]].nll

    def at_start(j: int) -> float:
        return stages[j].epochs[0].sets[part["changed"]].nll

    every = range(len(stages))
    lost = sum(max(0.0, after(last, j, "unchanged") - before(j, "unchanged")) for j in every)
    gained = sum(max(0.0, before(j, "changed") - after(last, j)) for j in every)
    early = range(0 if alone else last)
    return TemporalWiki(
        months=tuple(months),
        avg_nll=_mean(month.avg for month in months),
        before_avg_nll=_mean(before(j, name) for j in every for name in ("unchanged", "changed")),
        fuar=lost / gained if gained > 0 else None,
        backward_transfer=_mean(after(j, j) - after(last, j) for j in early) if early else None,
        forward_transfer=_mean(before(j, "changed") - at_start(j) for j in every[1:]) if early else None,
        forgetting=(_mean(after(last, j) - min(after(i, j) for i in range(j, last)) for j in early) if early else None),
    )


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
