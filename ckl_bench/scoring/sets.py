"""A model's scores on probe sets, as they go into a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from ckl_bench import ranks
from ckl_bench.benchmarks.format import Probe
from ckl_bench.encode import Tokenizer
from ckl_bench.records import SetScores
from ckl_bench.scoring.engine import score_probes

ProbeSets = Mapping[str, Sequence[Probe]]
Scores = dict[str, SetScores]


def score_sets(model: nn.Module, tokenizer: Tokenizer, probes: ProbeSets) -> Scores:
    """All probe sets in one pass, so that batches are full; then apart again. Processes share them, all get all."""
    flat = [probe for rows in probes.values() for probe in rows]
    lengths = [len(probe.prompt) for probe in flat]
    scored = iter(ranks.shared(lengths, lambda own: score_probes(model, tokenizer, [flat[i] for i in own])))
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
