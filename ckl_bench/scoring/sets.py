"""A model's scores on probe sets, as they go into a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from torch import nn

from ckl_bench import shares
from ckl_bench.benchmarks.format import Probe
from ckl_bench.encode import Tokenizer
from ckl_bench.records import SetScores
from ckl_bench.scoring.engine import ProbeScore, score_probes

ProbeSets = Mapping[str, Sequence[Probe]]
Scores = dict[str, SetScores]


def score_sets(model: nn.Module, tokenizer: Tokenizer, probes: ProbeSets, *, max_batch_tokens: int = 1024) -> Scores:
    """All probe sets in one pass, so that batches are full; then apart again. Processes share them, all get all."""
    flat = list(chain(*probes.values()))

    def work(own: list[int]) -> list[ProbeScore]:
        return score_probes(model, tokenizer, [flat[i] for i in own], max_batch_tokens=max_batch_tokens)

    return in_sets(shares.shared([len(probe.prompt) for probe in flat], work), probes)


def in_sets(scores: Sequence[ProbeScore], probes: ProbeSets) -> Scores:
    """Scores of all probes, set after set, as the scores of each set."""
    scored = iter(scores)
    sets = {}
    for name, rows in probes.items():
        own = [next(scored) for _ in rows]
        sets[name] = SetScores(
            accuracy=sum(s.accuracy for s in own) / len(own),
            exact=sum(s.exact for s in own) / len(own),
            nll=sum(s.nll for s in own) / len(own),
            probe_accuracy=[round(s.accuracy, 6) for s in own],
            probe_nll=[round(s.nll, 6) for s in own],
            probe_guess=[s.guess for s in own],
        )
    return sets
