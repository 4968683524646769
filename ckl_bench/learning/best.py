"""The weights of the epoch that is best so far, set aside while the run goes on learning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ckl_bench.errors import UserError
from ckl_bench.learning.standing import Standing
from ckl_bench.records import EpochScores, best_total
from ckl_bench.storage.checkpoint import Keeper


class Best:
    """Of a run of one stage: what trains, as it was after the epoch with the best total; where it is not `wanted`, as
    the last epoch leaves it, and nothing is set aside.
    """

    def __init__(self, now: Standing, keeper: Keeper, *, wanted: bool) -> None:
        self._now, self._keeper, self._wanted = now, keeper, wanted

    def scored(self, epochs: int) -> None:
        """An epoch of so many has been scored: set its weights aside where it is the best and others follow."""
        last = self._now.results[-1]
        if self._wanted and last.epoch < epochs and best_total(self._now.results) is last:
            self._keeper.set_aside(_name(last), self._now.trained)

    def require(self) -> None:
        """UserError where a run goes on whose best epoch so far was learned without being set aside."""
        if self._wanted and self._keeper.aside(_name(best := best_total(self._now.results))) is None:
            raise UserError(
                f"this run was begun without --keep best-total, and the model of its best epoch so far, {best.epoch}, "
                "is gone; leave out --keep, or run it anew with --fresh"
            )

    @contextmanager
    def put_in(self) -> Iterator[int]:
        """In the first process, behind the last epoch: in it, the model has these weights; gives their epoch."""
        last = self._now.results[-1]
        chosen = best_total(self._now.results) if self._wanted else last
        weights = {} if chosen is last else self._keeper.aside(_name(chosen))
        assert weights is not None
        with self._now.put_in(weights):
            yield chosen.epoch


def _name(scores: EpochScores) -> str:
    return f"epoch-{scores.epoch}"
