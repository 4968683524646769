"""What ckl-bench asks of vLLM, answered by transformers: for tests of what stands around an engine, where none is."""

from __future__ import annotations

import sys
from dataclasses import dataclass, make_dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch


@dataclass(frozen=True)
class Logprob:
    logprob: float
    rank: int


class EngineDeadError(Exception):
    """As vLLM's own."""


class Engines:
    """Engines that were started, what they were asked, and after how many prompts they die."""

    def __init__(self) -> None:
        self.arguments: list[dict[str, Any]] = []
        self.asked: list[int] = []
        self.prompts: list[list[int]] = []
        self.dies_after = 10**9
        self.noise = 0.0
        self.ended = 0

    def start(self, model: str, **arguments: Any) -> SimpleNamespace:
        from transformers import AutoModelForCausalLM

        self.arguments.append(arguments)
        if arguments.get("tensor_parallel_size", 1) > 1:
            raise RuntimeError("Engine core initialization failed. See root cause above.\nmore of it")
        at = {"revision": arguments.get("revision")}
        loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, **at).eval()

        adapted: dict[str, Any] = {}

        def over(request: tuple[str, int, str] | None) -> Any:
            if request is None:
                return loaded
            if not arguments["enable_lora"]:
                raise ValueError("LoRA is not enabled")
            if request[2] not in adapted:
                from peft import PeftModel

                whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
                adapted[request[2]] = PeftModel.from_pretrained(whole, request[2]).eval()
            return adapted[request[2]]

        def generate(
            prompts: list[dict[str, list[int]]], asked: Any, lora_request: tuple[str, int, str] | None, **more: Any
        ) -> list[SimpleNamespace]:
            print("an engine writes to stdout")
            if sum(self.asked) + len(prompts) > self.dies_after:
                raise EngineDeadError("EngineCore encountered an issue. See stack trace (above) for the root cause.")
            self.asked.append(len(prompts))
            ids = [one["prompt_token_ids"] for one in prompts]
            self.prompts += ids
            return [SimpleNamespace(prompt_logprobs=self.read(over(lora_request), each)) for each in ids]

        core = SimpleNamespace(shutdown=self.end)
        return SimpleNamespace(generate=generate, llm_engine=SimpleNamespace(engine_core=core))

    def end(self) -> None:
        self.ended += 1

    @torch.no_grad()
    def read(self, model: Any, ids: list[int]) -> list[dict[int, Logprob] | None]:
        told = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
        found: list[dict[int, Logprob] | None] = [None]
        for row, true in zip(told, ids[1:], strict=False):
            rank = int((row > row[true]).sum()) + 1
            top = int(row.argmax())
            moved = self.noise * len(self.asked)
            found.append({true: Logprob(float(row[true]) - moved, rank), top: Logprob(float(row[top]), 1)})
            if rank == 1:
                found[-1] = {true: Logprob(float(row[true]) - moved, 1)}
        return found


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    """An importable `vllm` whose engines these are."""
    made = Engines()
    names = ("tensor_parallel_size", "max_num_seqs", "max_num_batched_tokens", "quantization")
    modules: dict[str, dict[str, Any]] = {
        "vllm": {"LLM": made.start, "SamplingParams": SimpleNamespace},
        "vllm.engine": {},
        "vllm.engine.arg_utils": {"EngineArgs": make_dataclass("EngineArgs", [(name, Any, None) for name in names])},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": lambda *given: given},
    }
    for name, values in modules.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    return made
