"""One command on several processes, as torchrun starts it; and a method that watches them, or makes one misbehave."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import SystemRandom

from helpers.children import Child, start

WITNESS = '''"""Writes down what every process has after every step; `act` makes process 1 misbehave, once."""
import hashlib, os, signal
from dataclasses import dataclass
from pathlib import Path

import torch

from ckl_bench.method import Method


@dataclass(frozen=True, kw_only=True)
class Witness(Method):
    act: str = ""

    def optimizer(self, params, lr):
        return Witnessed(params, lr, self.act)

    def weigh(self, model, tokenizer, stage):
        def weights(batch, nll):
            if self.act == "raise" and os.environ.get("RANK") == "1":
                raise ValueError("no weight today")
            torch.rand(len(batch.ids))  # as dropout does
            return nll.new_ones(nll.shape)

        return weights

    def stream(self, batches, stage, epoch):
        for batch in batches:
            if not (self.act == "stray" and os.environ.get("RANK") == "1"):
                yield batch


class Witnessed(torch.optim.AdamW):
    def __init__(self, params, lr, act):
        super().__init__(params, lr=lr, weight_decay=0.0)
        self.act, self.count = act, 0

    def step(self, closure=None):
        super().step(closure)
        self.count += 1
        rank = os.environ.get("RANK", "0")
        sums = hashlib.sha256()
        for p in self.param_groups[0]["params"]:
            for t in (p, p.grad, *self.state[p].values()):
                if t is not None:
                    sums.update(t.detach().numpy().tobytes())
        with open(f"seen-{rank}.txt", "a") as file:
            file.write(sums.hexdigest() + "\\n")
        once = Path("acted")
        name, _, who = self.act.partition(" of ")
        if rank == (who or "1") and self.count == 3 and name in ("SIGTERM", "SIGKILL") and not once.exists():
            once.touch()
            os.kill(os.getpid(), getattr(signal, name))
'''


@dataclass(frozen=True)
class Ended:
    """How several processes ended: exit codes in their order, and what all of them together printed."""

    codes: list[int | None]
    out: str
    err: str


def _place(rank: int, world: int, port: int, before: Callable[[int], object] | None) -> None:
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()} | {"MASTER_ADDR": "127.0.0.1"})
    if before is not None:
        before(rank)


def _free_port() -> int:
    """A port to meet at: none of those that the system gives out by itself, which another may get in the meantime."""
    while True:
        port = SystemRandom().randrange(20000, 32000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def start_several(
    world: int, arguments: Sequence[object], folder: Path, before: Callable[[int], object] | None = None
) -> list[Child]:
    """Start `ckl-bench ARGUMENTS` in `folder` as so many processes of one run; one as it is.

    Of several each calls `before` with its rank first.
    """
    folder.mkdir(exist_ok=True)
    port = _free_port()
    logs = folder.parent / f"{folder.name}-logs"
    befores = [partial(_place, rank, world, port, before) if world > 1 else None for rank in range(world)]
    return [start(arguments, folder, logs, before=before) for before in befores]


def run_several(
    world: int, arguments: Sequence[object], folder: Path, before: Callable[[int], object] | None = None
) -> Ended:
    """`start_several`, to the end."""
    children = start_several(world, arguments, folder, before)
    codes = [child.wait(120) for child in children]
    return Ended(codes, "".join(c.out.read_text() for c in children), "".join(c.err.read_text() for c in children))
