"""The method under check, and what the rules share: its plan on each model, one plain run, its hooks' arguments."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from ckl_bench.benchmarks.format import Document
from ckl_bench.encode import EncodedDocument, encode_documents
from ckl_bench.learning.learner import context_of
from ckl_bench.learning.planned import Plan
from ckl_bench.learning.run import RunRequest, execute, plan_run
from ckl_bench.method import Method, StageContext, hooks_of
from ckl_bench.records import Record
from ckl_bench.stacks.plugins import load_method

from .data import DOCUMENTS, write_check_benchmark


class Breach(Exception):
    """A rule that the method breaks, in words its author can act on."""


class Subject:
    """The method under check, and what the rules share: its plan on each model, and one plain run."""

    def __init__(self, name: str, methods_dir: Path | None, folder: Path) -> None:
        self.name, self.methods_dir, self.folder = name, methods_dir, folder
        self._settings: dict[str, list[str]] = {}
        self.benchmark = write_check_benchmark(folder / "check")

    @cached_property
    def cls(self) -> type[Method]:
        return load_method(self.name, self.methods_dir)

    @property
    def alone(self) -> str:
        """The method with as little beside it as possible: every weight trains."""
        return self.name if "build" in hooks_of(self.cls) else f"{self.name}+finetune"

    def settings(self, model: str) -> list[str]:
        """What the method says it needs to be run on a tiny model."""
        if model not in self._settings:
            place = self.folder / f"for-{Path(model).name}"
            place.mkdir()
            made = self.cls.for_check(benchmark=str(self.benchmark), model=model, folder=place)
            self._settings[model] = [f"{self.name}.{field}={value}" for field, value in made.items()]
        return self._settings[model]

    def plan(self, expression: str | None = None, model: str = "tiny", lr: float = 1e-3) -> Plan:
        request = RunRequest(
            method=expression or self.alone,
            benchmark=str(self.benchmark),
            model=model,
            learning_rate=lr,
            limit=DOCUMENTS,  # which is all of the benchmark, but not of the general text
            settings=self.settings(model),
            methods_dir=self.methods_dir,
        )
        return plan_run(request)

    def run(self, expression: str | None = None, model: str = "tiny", lr: float = 1e-3) -> Record:
        record = execute(self.plan(expression, model, lr))
        if record.status != "done":
            raise Breach(f"a run of {record.spec.method} fails: {record.error}")
        return record

    @cached_property
    def record(self) -> Record:
        return self.run()

    @cached_property
    def built(self) -> tuple[nn.Module, StageContext, Plan]:
        """A model as the method builds it, and the stage its other hooks are given."""
        plan = self.plan()
        torch.manual_seed(0)
        model = plan.stack.build(plan.base.load, context_of(plan))

        def encode(rows: Iterable[Document]) -> tuple[EncodedDocument, ...]:
            return encode_documents(plan.base.tokenizer, rows, 512)

        stage = StageContext(
            name="check",
            index=0,
            seed=0,
            documents=encode(plan.benchmark.stages[0].documents),
            rehearsal=lambda: encode(plan.benchmark.rehearsal),
            base=plan.base.load,
            inputs=plan.inputs,
            tokenizer=plan.base.tokenizer,
            solved=lambda: plan.benchmark.attention,
        )
        return model, stage, plan
