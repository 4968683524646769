"""What goes into a record: a model's scores on probe sets, and the weights that a method gives to tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ckl_bench.benchmarks.format import Probe
from ckl_bench.encode import EncodedDocument, Tokenizer, collate
from ckl_bench.learning.train import token_nll
from ckl_bench.method import Weigh
from ckl_bench.records import SetScores, TokenWeights
from ckl_bench.scoring.engine import score_probes

ProbeSets = Mapping[str, Sequence[Probe]]
Scores = dict[str, SetScores]


def score_sets(model: nn.Module, tokenizer: Tokenizer, probes: ProbeSets) -> Scores:
    """All probe sets in one pass, so that batches are full; then apart again."""
    flat = [probe for rows in probes.values() for probe in rows]
    scored = iter(score_probes(model, tokenizer, flat))
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


@torch.no_grad()
def token_weights(model: nn.Module, documents: Sequence[EncodedDocument], weigh: Weigh) -> list[TokenWeights]:
    """The weights that the method gives now to some documents' tokens."""
    shown, device = [], next(model.parameters()).device
    for document in documents:
        batch = collate([document], device)
        weights = weigh(batch, token_nll(model, batch.ids, batch.mask))[0]
        tokens = [document.text[start:end] for start, end in document.offsets]
        rounded = [round(weight, 4) for weight in weights.tolist()]
        shown.append(TokenWeights(document=document.id, tokens=tokens, weights=rounded))
    return shown
