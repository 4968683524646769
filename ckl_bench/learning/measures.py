"""What is measured of a model, as its method wants it scored: probe sets, how far it has moved, other tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from ckl_bench import ranks
from ckl_bench.benchmarks.format import Document
from ckl_bench.benchmarks.general import general_text
from ckl_bench.encode import EncodedDocument, Tokenizer, encode_documents
from ckl_bench.learning.divergence import DOCUMENTS, Moved, moved
from ckl_bench.learning.retain import Scores as GeneralScores
from ckl_bench.learning.retain import measured
from ckl_bench.learning.tasks import Retain
from ckl_bench.method import Scoring
from ckl_bench.progress import Clock
from ckl_bench.scoring.sets import ProbeSets, Scores, score_sets
from ckl_bench.spec import Spec

View = Callable[[], AbstractContextManager[object]]


class Measures:
    """A model and the views in which it is scored; the seconds of scoring go to `clock`.

    `scoring` is asked once, before anything is learned; None scores the model as it stands. So many tokens are scored
    `at_once`, with padding.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Tokenizer, scoring: Scoring | None, clock: Clock, at_once: int
    ) -> None:
        self.at_once = at_once
        self.model, self.tokenizer, self.clock = model, tokenizer, clock
        self.views: dict[str, View] = dict(scoring.views) if scoring else {}
        self.main = scoring.main if scoring else ""

    @property
    def as_scored(self) -> View:
        """In it, the model is what its scores are of."""
        return self.views[self.main] if self.views else nullcontext

    def score(self, probes: ProbeSets) -> Scores:
        """The scores of the model as its method wants it scored."""
        return self._score_in(self.as_scored, probes)

    def score_views(self, probes: ProbeSets) -> dict[str, Scores]:
        """The scores in every view of the model; empty where it is scored as it stands."""
        return {name: self._score_in(enter, probes) for name, enter in self.views.items()}

    def _score_in(self, enter: View, probes: ProbeSets) -> Scores:
        with self.clock.phase("score"), enter():
            return score_sets(self.model, self.tokenizer, probes, max_batch_tokens=self.at_once)

    def moved(
        self,
        base: Callable[[], nn.Module],
        documents: Sequence[EncodedDocument],
        rehearsal: Sequence[Document],
        spec: Spec,
    ) -> dict[str, Moved]:
        """How far the model, as it is scored, has moved from `base`: on documents, rehearsal and general text.

        Where the spec has a limit, on no more of each.
        """
        other = {"rehearsal": rehearsal[:DOCUMENTS], "general": general_text()}
        first = {name: rows[: spec.limit] for name, rows in other.items()}
        texts = {name: encode_documents(self.tokenizer, rows, spec.max_tokens) for name, rows in first.items()}

        def look() -> dict[str, Moved | None]:
            beside = base()
            with self.as_scored():
                every = {"documents": documents, **texts}
                return {name: moved(self.model, beside, rows) for name, rows in every.items()}

        with self.clock.phase("score"), torch.random.fork_rng(devices=[]):
            found = ranks.by_model(look)
        return {name: value for name, value in found.items() if value is not None}

    def other_tasks(self, asked: Retain) -> GeneralScores:
        """The scores on other tasks."""

        def ask() -> GeneralScores:
            with self.as_scored():
                return measured(self.model, self.tokenizer, asked)

        return ranks.from_first(ask)
