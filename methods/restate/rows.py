"""Rows of which the first tokens are only read: through a model together, and what it makes of the written ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ckl_bench.encode import pad
from ckl_bench.models.head import Hidden, forward, logits_of, nll_of, weighted_nll
from ckl_bench.scoring.branches import branching, stack, suits

Row = tuple[list[int], int]  # tokens, and how many of them are only read


@dataclass(frozen=True, kw_only=True)
class Passed:
    """N written tokens of rows that went through a model together."""

    hidden: Hidden
    row: Tensor  # (N,) of each, in order: the row it is of
    where: Tensor  # (N,) the place that predicts it, in the flattened states
    targets: Tensor  # (N,)
    count: int  # of rows

    def nll(self, slopes: Sequence[float] | None = None, enough: float = 0.0) -> Tensor:
        """Scalar, nats: mean NLL of the written tokens of the first rows, as many as `slopes`, each row's mean so much.

        All rows count alike where no slopes are given. Of a row's mean only what is above `enough` counts: a row at or
        below it moves nothing.
        """
        slopes = slopes if slopes is not None else [1 / self.count] * self.count
        own = self.row < len(slopes)
        row, where, targets = self.row[own], self.where[own], self.targets[own]
        share = torch.tensor(slopes, device=row.device)
        counts = torch.bincount(row, minlength=len(share)).clamp_min(1)
        if enough:
            with torch.no_grad():
                means = share.new_zeros(len(share)).index_add_(0, row, nll_of(self.hidden, where, targets)) / counts
            share = share * (means > enough)
        return weighted_nll(self.hidden, where, targets, (share / counts)[row]) - enough * share.sum()

    def logits(self, first: int = 0) -> Tensor:
        """(n, V) float32, with gradient: what predicts the written tokens of the rows from `first` on."""
        return logits_of(self.hidden, self.where[self.row >= first])


def side_by_side(model: nn.Module, rows: Sequence[Row]) -> Passed:
    """One row beside the other, padded on the right."""
    ids, mask = (x.to(next(model.parameters()).device) for x in pad([ids for ids, _ in rows]))
    row, place = _written(rows)
    return _passed(rows, forward(model, ids, mask), row * ids.shape[1] + place)


def as_branches(model: nn.Module, rows: Sequence[Row]) -> Passed:
    """What several rows begin with alike goes through the model once, where the model suits.

    A row's last token predicts nothing and stays out.
    """
    prompts = [tuple(ids[:-1]) for ids, _ in rows]
    longest = max(map(len, prompts))
    branches = branching(model, prompts, longest * len(rows), longest * len(rows))
    if not branches:
        return side_by_side(model, rows)
    stacked = stack(branches, model)
    width = stacked.ids.shape[1]
    places = {i: [r * width + p for p in branch.places[i]] for r, branch in enumerate(branches) for i in branch.places}
    where = [place for i, (ids, read) in enumerate(rows) for place in places[i][read - 1 : len(ids) - 1]]
    return _passed(rows, forward(model, stacked.ids, stacked.mask, stacked.positions), torch.tensor(where))


def try_branches(model: nn.Module, rows: Sequence[Row]) -> None:
    """Find out whether the model suits: at rest, since dropout would tell branches from rows, and once for all."""
    model.eval()
    suits(model, [tuple(ids) for ids, _ in rows])


def _passed(rows: Sequence[Row], hidden: Hidden, where: Tensor) -> Passed:
    device = hidden.states.device
    targets = torch.tensor([token for ids, read in rows for token in ids[read:]], device=device)
    return Passed(
        hidden=hidden, row=_written(rows)[0].to(device), where=where.to(device), targets=targets, count=len(rows)
    )


def _written(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """(row, place) of what predicts each written token."""
    row = [i for i, (ids, read) in enumerate(rows) for _ in ids[read:]]
    place = [at for ids, read in rows for at in range(read - 1, len(ids) - 1)]
    return torch.tensor(row, dtype=torch.long), torch.tensor(place, dtype=torch.long)
