"""Mix-review (He et al. 2021): every batch is joined by documents of what the model already knows."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ckl_bench.encode import Batch, collate
from ckl_bench.errors import UserError
from ckl_bench.method import Extent, Method, Needs, StageContext


@dataclass(frozen=True, kw_only=True)
class MixReview(Method):
    """`ratio` rehearsal documents for every new one, from the benchmark's rehearsal.jsonl, never from probed facts.

    The order is shuffled anew for every seed, stage and epoch. With `decay` below 1 the ratio of epoch e is
    ratio · decay^(e-1), as in the paper. Raises UserError where the benchmark has nothing to rehearse.
    """

    ratio: float = 1.0
    decay: float = 1.0

    def stream(self, batches: Iterable[Batch], stage: StageContext, epoch: int) -> Iterator[Batch]:
        documents = list(stage.rehearsal())
        if not documents:
            raise UserError("mixreview needs rehearsal documents and this benchmark has none; choose another benchmark")
        random.Random(f"review:{stage.seed}:{stage.index}:{epoch}").shuffle(documents)
        place = 0
        for batch in batches:
            count = round(len(batch.documents) * self.ratio * self.decay ** (epoch - 1))
            review = [documents[(place + i) % len(documents)] for i in range(count)]
            place += count
            yield collate([*batch.documents, *review], batch.ids.device) if review else batch

    def needs(self, extent: Extent) -> Needs:
        ratios = [self.ratio * self.decay**epoch for epoch in range(extent.epochs)]
        return Needs(documents=1.0 + sum(ratios) / len(ratios))
