"""Where a run stands: what it has measured and learned so far, as it is saved and taken up again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from ckl_bench.learning.train import Progress
from ckl_bench.progress import Clock, log
from ckl_bench.records import EpochScores, SetScores, StageScores
from ckl_bench.scoring.sets import Scores
from ckl_bench.storage.checkpoint import random_state, set_random_state


class Standing:
    """What a stopped run needs to go on as if it had never stopped; `trained` are the parameters that train, by name.

    A stage that was stopped begins as it did, since what the hooks make may depend on it: with the weights of its
    start. Optimizer, random generators and the weights of the last step are put back once the hooks have been made.
    """

    def __init__(self, trained: Mapping[str, nn.Parameter], device: str) -> None:
        self.trained, self.device, self.clock = trained, device, Clock()
        self.tokens = 0  # read in training, over all finished epochs
        self.told = False  # whether a document that is to be learned has handed out the facts that it declares
        self.before: dict[str, Scores] = {}
        self.scored: list[StageScores] = []
        # Of the stage under way:
        self.stage, self.epoch, self.progress = 0, 1, Progress()
        self.results: list[EpochScores] = []
        self.optimizer: torch.optim.Optimizer | None = None
        self._start: dict[str, Tensor] = {}
        self._saved: dict[str, Any] | None = None  # what is put back later than the rest

    def tell(self) -> None:
        """A document hands out its facts: whoever asks for them knows what the probes ask for."""
        self.told = True

    def state(self) -> dict[str, Any]:
        """Everything that the run needs to go on behind this step; see `checkpoint.Resumable`."""
        assert self.optimizer is not None
        return {
            "stage": self.stage,
            "epoch": self.epoch,
            "progress": asdict(self.progress),
            "tokens": self.tokens,
            "told": self.told,
            "seconds": dict(self.clock.seconds),
            "before": {s: {n: x.model_dump() for n, x in sets.items()} for s, sets in self.before.items()},
            "scored": [item.model_dump() for item in self.scored],
            "results": [item.model_dump() for item in self.results],
            "start": dict(self._start),
            "now": dict(self.trained),
            "optimizer": self.optimizer.state_dict(),
            "random": random_state(self.device),
        }

    def take_up(self, saved: dict[str, Any]) -> None:
        """Put back what was measured before the run was stopped, and the weights with which its stage began."""
        log(f"going on behind step {saved['progress']['steps']} of epoch {saved['epoch']}, stage {saved['stage'] + 1}")
        self.told = saved.get("told", False)  # a checkpoint from before it was noted has none
        self.tokens, self.clock.seconds = saved["tokens"], dict(saved["seconds"])
        self.scored = [StageScores.model_validate(stage) for stage in saved["scored"]]
        self.before = {
            stage: {name: SetScores.model_validate(scores) for name, scores in sets.items()}
            for stage, sets in saved["before"].items()
        }
        self.results = [EpochScores.model_validate(epoch) for epoch in saved["results"]]
        self.stage, self.epoch, self.progress = saved["stage"], saved["epoch"], Progress(**saved["progress"])
        self._start, self._saved = saved["start"], saved
        self._put(self._start)

    def begin(self, stage: int) -> bool:
        """Begin a stage; False where it is the one that was stopped, whose scores are there up to the last epoch."""
        if self._saved is not None:
            return False
        self.stage, self.epoch, self.progress, self.results = stage, 1, Progress(), []
        # The first stage starts with what the seed has built.
        self._start = {name: p.detach().clone() for name, p in self.trained.items()} if stage else {}
        return True

    def ready(self, optimizer: torch.optim.Optimizer) -> None:
        """The hooks have been made: from here on the weights are those of the last step."""
        self.optimizer = optimizer
        if self._saved is not None:
            self._put(self._saved["now"])
            optimizer.load_state_dict(self._saved["optimizer"])

    def epochs(self, last: int) -> Iterator[int]:
        """The epochs of the stage that are still to be learned, up to the last one."""
        for epoch in range(self.epoch, last + 1):
            self.epoch = epoch
            yield epoch
            self.progress = Progress()

    def behind(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches of an epoch that are still to be learned."""
        if self._saved is not None:
            for _ in range(self.progress.steps):
                next(batches, None)
            set_random_state(self._saved["random"], self.device)
            self._saved = None
        return batches

    @contextmanager
    def put_in(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """In it, the parameters that train are these; behind it, what they were."""
        own = {name: self.trained[name].detach().cpu().clone() for name in weights}
        self._put(weights)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, tensor in weights.items():
            self.trained[name].copy_(tensor)
