"""Whether what a record says it has spent can be: costs that contradict each other, or what was learned."""

from __future__ import annotations

from collections.abc import Iterator

from ckl_bench.records import LEARNING, Record
from ckl_bench.results.differences import UNTRAINED

_ROUNDING = 2e-3  # seconds: two phases are kept to three decimals, and the rate of tokens to two


def costs_that_cannot_be(record: Record) -> Iterator[str]:
    """What contradicts in a finished run's cost and in what it measured of other text, a sentence each."""
    cost = record.cost
    if cost is None:
        return
    if cost.trainable_parameters > cost.total_parameters:
        yield f"{cost.trainable_parameters} of its {cost.total_parameters} parameters train"
    idle = record.spec.method == UNTRAINED
    if idle and (cost.trainable_parameters or cost.train_tokens):
        yield f"{UNTRAINED} trains nothing, but {cost.trainable_parameters} parameters on {cost.train_tokens} tokens"
    if not idle and record.spec.epochs and not (cost.trainable_parameters and cost.train_tokens):
        yield f"it trains {cost.trainable_parameters} parameters on {cost.train_tokens} tokens, so it learned nothing"
    seconds = sum(cost.seconds.get(phase, 0.0) for phase in LEARNING)
    least = cost.train_tokens / (seconds + _ROUNDING) - 0.01
    most = cost.train_tokens / max(seconds - _ROUNDING, 1e-9) + 0.01
    if not least <= cost.train_tokens_per_second <= most:
        yield (f"{cost.train_tokens} tokens in {seconds:.3f} seconds are not {cost.train_tokens_per_second} a second")
    for stage in record.stages:
        for text, kl in stage.divergence.items():
            if kl < 0 or (idle and kl > 0):
                yield f"stage {stage.name}: a KL of {kl} on {text} cannot be"
        for text, found in stage.perplexity.items():
            if min(found.before, found.after) < 1 - 1e-6 or (idle and found.before != found.after):
                yield f"stage {stage.name}: perplexities of {found.before} and {found.after} on {text} cannot be"
