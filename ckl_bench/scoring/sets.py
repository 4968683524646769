"""A model's scores on probe sets, as they go into a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from ckl_bench.benchmarks.format import Probe
from ckl_bench.encode import Tokenizer
from ckl_bench.records import SetScores
from ckl_bench.scoring.engine import score_probes

ProbeSets = Mapping[str, Sequence[Probe]]
Scores = dict[str, SetScores]


def score_sets(model: nn.Module, tokenizer: Tokenizer, probes: ProbeSets, *, max_batch_tokens: int = 1024) -> Scores:
    """All probe sets in one pass, so that batches are full; then apart again. See `score_probes`."""
    flat = [probe for rows in probes.values() for probe in rows]
    scored = iter(score_probes(model, tokenizer, flat, max_batch_tokens=max_batch_tokens))
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
