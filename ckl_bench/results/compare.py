"""Two stacks on the same probes and seeds: is their difference more than chance? (paired permutation tests)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ckl_bench.errors import UserError
from ckl_bench.records import Record, SetScores
from ckl_bench.results.differences import differences, shown
from ckl_bench.results.metrics import in_sequence, lama_ckl, part_sets
from ckl_bench.results.select_runs import names_of

EXACT = 16  # up to so many probes that differ, every one of the 2^n sign patterns is looked at
DRAWS = 100_000
_KNOWLEDGE = ("to_learn accuracy", "not_to_forget accuracy")  # what Total Knowledge is the sum of


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One measure of two stacks: their means over probes (each averaged over the shared seeds), and the test's p.

    `p` is corrected for all measures that were tested with this one.
    """

    measure: str
    first: float
    second: float
    p: float
    probes: int
    lower_is_better: bool


def permutation_p(*sets: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of the sum of the sets' mean differences under the null that each pair's sign is a coin toss.

    For differences of -1, 0, 1 in one set this is McNemar's exact test. Exact up to 16 pairs that differ; beyond that
    from 100,000 draws of a fixed seed, of which the observed pattern counts as one (Phipson & Smyth 2010).
    """
    weighted = np.concatenate([np.asarray(values, dtype=np.float64) / len(values) for values in sets])
    weighted = weighted[weighted != 0]
    observed = abs(weighted.sum()) * (1 - 1e-12)  # sums of other signs may round differently
    if not len(weighted):
        return 1.0
    if len(weighted) <= EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(weighted))))
        return float(np.mean(np.abs(signs @ weighted) >= observed))
    draw, reached, done = np.random.default_rng(seed), 0, 0
    while done < DRAWS:
        signs = draw.integers(0, 2, size=(10_000, len(weighted))) * 2.0 - 1.0
        reached += int(np.sum(np.abs(signs @ weighted) >= observed))
        done += len(signs)
    return (reached + 1) / (done + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values, corrected so that the chance of even one false difference among them stays below 5 % (Holm 1979).

    The i-th smallest of m becomes max over j <= i of (m - j + 1) p_(j), at most 1.
    """
    corrected, reached = [0.0] * len(ps), 0.0
    for passed, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        reached = max(reached, min(1.0, (len(ps) - passed) * ps[i]))
        corrected[i] = reached
    return corrected


def compare(first: Sequence[Record], second: Sequence[Record]) -> tuple[list[Comparison], list[int]]:
    """Every measure of two stacks' runs, and the seeds they share.

    LAMA-ckl: accuracy on both probe sets at each run's own top epoch, and their sum. TemporalWiki: NLL on each set
    right after its month, over all months, and the mean of the two. Their p-values are corrected together (`holm`).
    UserError where the runs cannot be paired.
    """
    one, two = ({record.spec.seed: record for record in group} for group in (first, second))
    seeds = sorted(one.keys() & two.keys())
    specs = [record.spec for record in (first[0], second[0])]
    for name in ("benchmark_hash", "model_revision", "limit"):
        values = [getattr(spec, name) for spec in specs]
        if values[0] != values[1]:
            raise UserError(
                f"{specs[0].method} and {specs[1].method} were run with different {name.replace('_', ' ')} "
                f"({values[0]} and {values[1]}); only runs on the same probes and model can be compared"
            )
    if not seeds:
        raise UserError(
            f"{specs[0].method} has seeds {sorted(one)} and {specs[1].method} {sorted(two)}: none in common; "
            "run one of them with --seed of the other"
        )
    values = [_per_probe([group[seed] for seed in seeds]) for group in (one, two)]
    if values[0].keys() != values[1].keys():
        raise UserError(f"{specs[0].method} and {specs[1].method} have other probe sets; run them again")
    lower = in_sequence(first[0])
    found = []
    for name in values[0]:
        a, b = values[0][name], values[1][name]
        found.append(_comparison(name, [a], [b], lower))
    summable = {f"{name} NLL" for name in part_sets(first[0]).values()} if lower else {*_KNOWLEDGE}
    joint = "total knowledge" if not lower else "average NLL"
    summed = [[side[name] for name in side if name in summable] for side in values]
    found.append(_comparison(joint, summed[0], summed[1], lower, halve=lower))
    return [replace(one, p=p) for one, p in zip(found, holm([one.p for one in found]), strict=True)], seeds


def _comparison(
    name: str,
    ours: Sequence[np.ndarray],
    theirs: Sequence[np.ndarray],
    lower: bool,
    halve: bool = False,  # type: ignore[type-arg]
) -> Comparison:
    means = [sum(float(values.mean()) for values in side) / (len(side) if halve else 1) for side in (ours, theirs)]
    return Comparison(
        measure=name,
        first=means[0],
        second=means[1],
        p=permutation_p(*(a - b for a, b in zip(ours, theirs, strict=True))),  # type: ignore[arg-type]
        probes=sum(map(len, ours)),
        lower_is_better=lower,
    )


def _per_probe(records: Sequence[Record]) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """measure -> one value a probe, averaged over the runs."""
    runs: list[dict[str, list[float]]] = []
    for record in records:
        if not in_sequence(record):
            top = lama_ckl(record).epoch
            sets: Mapping[str, SetScores] = next(e for e in record.stages[0].epochs if e.epoch == top).sets
            runs.append({f"{name} accuracy": scores.probe_accuracy for name, scores in sets.items()})
        else:
            own: dict[str, list[float]] = {}
            for stage in record.stages:
                for name, scores in stage.epochs[-1].sets.items():
                    own.setdefault(f"{name} NLL", []).extend(scores.probe_nll)
            runs.append(own)
    return {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}


def headline(
    first: Record, second: Record, benchmark: str, seeds: Sequence[int], comparisons: int
) -> tuple[str, tuple[str, str]]:
    """What is compared with what, beyond the methods' names by the settings that differ; and each side's name."""
    specs = [first.spec, second.spec]
    ours, theirs = (spec.method for spec in specs) if first.spec.method != second.spec.method else names_of(specs)
    if ours == theirs:
        ours, theirs = (f"{name} ({side.run_id[:8]})" for name, side in ((ours, first), (theirs, second)))
    told = [f"{name} {' against '.join(shown(name, values))}" for name, values in differences(specs).items()]
    where = ", ".join([f"{first.spec.method} against {second.spec.method} on {benchmark}", *told])
    runs = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    line = f"{where}, {runs}; p corrected for {comparisons} comparisons (Holm):"
    return line, (ours, theirs)


def sentence(found: Comparison, names: tuple[str, str]) -> str:
    """What a comparison says, in words."""
    difference = found.first - found.second
    p = f"corrected p {'<' if found.p < 1e-4 else '='} {max(found.p, 1e-4):.4f} over {found.probes} probes"
    numbers = f"{found.first:.3f} against {found.second:.3f} ({difference:+.3f}; {p})"
    if found.p >= 0.05 or difference == 0:
        return f"{found.measure}: {numbers}: no more than chance would give."
    better = names[0] if (difference < 0) == found.lower_is_better else names[1]
    return f"{found.measure}: {numbers}: more than chance, {better} is better."
