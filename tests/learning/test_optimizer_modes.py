"""An optimizer that is scored with other weights than it learns with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import Command


def scores(command: Command, small: Path, *arguments: str) -> Any:
    result = command("run", "--model", "tiny", "--benchmark", small, "--json", "--output", "out", *arguments)
    assert result.code == 0, result.err
    return json.loads(result.out)["stages"]


PLUGIN = '''
import torch
from dataclasses import dataclass
from ckl_bench.method import Method


def note(what):
    with open("calls", "a") as file:
        file.write(what + " ")


class Two(torch.optim.AdamW):
    def train(self): note("train")
    def eval(self): note("eval")
    def step(self, closure=None):
        note("step")
        return super().step(closure)


@dataclass(frozen=True, kw_only=True)
class Modes(Method):
    """An optimizer with two modes."""

    def optimizer(self, params, lr):
        return Two(params, lr=lr)

    def scoring(self, model):
        from contextlib import contextmanager
        from ckl_bench.method import Scoring

        @contextmanager
        def view():
            note("score")
            yield

        return Scoring(main="as it is", views={"as it is": view})
'''


def test_the_core_switches_such_an_optimizer_around_every_epoch(command: Command, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "modes.py").write_text(PLUGIN)
    scores(command, small, "--method", "modes", "--methods-dir", str(folder), "--epochs", "2")
    calls = Path("calls").read_text().split()
    begin = calls.index("train")
    assert calls[begin : begin + 12] == [*["train", "step", "step", "step", "eval", "score"]] * 2
    assert set(calls[:begin] + calls[begin + 12 :]) == {"score"}
