"""The command `plan`: what a run needs, said before it."""

from __future__ import annotations

import math
import os
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ckl_bench.cli.options import (
    LOADING,
    AttentionOption,
    BenchmarkOption,
    CheckpointOption,
    DtypeOption,
    MethodsOption,
    MicroBatchOption,
    ModelOption,
    RemoteOption,
    at_least_one,
    say,
)
from ckl_bench.errors import UserError, printable

if TYPE_CHECKING:
    from ckl_bench.forecast.forecast import Forecast

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(plan)


def plan(
    method: Annotated[str, typer.Option("--method", help="A method, or several joined by +, as in taalm+lora.")],
    benchmark: BenchmarkOption = "lama-ckl-mini",
    model: ModelOption = "smollm2-135m",
    epochs: Annotated[int | None, typer.Option(help="Passes over a stage.", show_default="benchmark's default")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Documents a step.", show_default="benchmark's default")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="method.field=value, as lora.r=64.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a document at most; the rest of it is not read.")] = 512,
    limit: Annotated[int | None, typer.Option(help="Only the first N documents and probes: a try.")] = None,
    methods_dir: MethodsOption = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda; there need be none here.")] = "auto",
    memory: Annotated[
        str | None,
        typer.Option(help="What the device has, as 24GB or 24GiB.", show_default="this machine's"),
    ] = None,
    dtype: DtypeOption = "auto",
    micro_batch: MicroBatchOption = None,
    checkpoint_activations: CheckpointOption = False,
    attention: AttentionOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON, and nothing else, to stdout.")] = False,
    trust_remote_code: RemoteOption = False,
) -> None:
    """Say what a run needs before it: memory by part, tokens, time, the micro-batch that fits. No weight is loaded."""
    from ckl_bench.progress import line

    at_least_one(epochs=epochs, batch_size=batch_size, max_tokens=max_tokens, limit=limit, micro_batch=micro_batch)
    room = None if memory is None else bytes_of(memory)
    if device not in ("auto", "cpu") and not re.fullmatch(r"cuda(:\d+)?", device):
        raise UserError(f"--device {device}: expected auto, cpu or cuda")
    with line(LOADING):
        import torch

        from ckl_bench.forecast.forecast import ForecastRequest, forecast
        from ckl_bench.learning.environment import pick_dtype
        from ckl_bench.storage.json import json_text

    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if room is None:
        room = _here(on_gpu)
    here = on_gpu and torch.cuda.is_available()
    kind = pick_dtype(dtype, "cuda") if here else "bfloat16" if on_gpu and dtype == "auto" else pick_dtype(dtype, "cpu")
    request = ForecastRequest(
        method=method,
        benchmark=benchmark,
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        max_tokens=max_tokens,
        limit=limit,
        settings=settings or [],
        methods_dir=methods_dir,
        on_gpu=on_gpu,
        dtype=kind,
        micro_batch=micro_batch,
        checkpoint_activations=checkpoint_activations,
        attention=attention,
        trust_remote_code=trust_remote_code,
        memory=room,
    )
    with line(f"reading {benchmark} and {model}"):
        found = forecast(request)
    if json:
        sys.stdout.write(json_text(found.as_json()))
    else:
        for text in _lines(found):
            say(text)


def bytes_of(text: str, option: str = "--memory") -> int:
    """`24GB`, `24 GiB`, `500M` -> bytes; UserError for what is no size."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if not found or (found[3] and not found[2]) or not 0 < float(found[1]) < 1e15:
        raise UserError(f"{option} {printable(text)}: expected a size such as 24GB or 24GiB")
    power = 1024 ** "_kmgt".index(found[2]) if found[3] else _UNITS[found[2]]
    return int(float(found[1]) * power)


def _here(on_gpu: bool) -> int:
    """Bytes of this machine's memory, or of its GPU's."""
    import torch

    if on_gpu:
        if not torch.cuda.is_available():
            raise UserError("--device cuda: there is no GPU here whose memory could be asked; give --memory, as 24GB")
        return int(torch.cuda.get_device_properties("cuda").total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # Windows
        import psutil

        return int(psutil.virtual_memory().total)


def _lines(found: Forecast) -> list[str]:
    where = "a GPU" if found.on_gpu else "a CPU"
    lines = [
        f"{found.benchmark} · {found.model} · {found.method} on {where} in {found.dtype}",
        "by arithmetic: no weight was loaded",
        f"parameters       {found.parameters:,}, of which {found.trained:,} train",
        "",
        f"memory at most   {_size(found.memory.peak)}, while {_fullest(found)}",
        *(f"  {_size(size):>9}  {name}" for name, size in found.memory.parts.items()),
        "  by phase: " + ", ".join(f"{name} {_size(size)}" for name, size in found.memory.phases.items()),
        f"of {_size(found.available)}       "
        + ("it fits" if found.fits else "IT DOES NOT FIT")
        + f"; at once {_documents(found.micro_batch)}"
        + (f", with --checkpoint-activations {_documents(found.with_checkpoints)}" if found.trained else ""),
        "",
        f"tokens           {found.tokens.epoch:,} an epoch, {found.tokens.all:,} in all"
        + (" (estimated)" if found.tokens.estimated else "")
        + f"; the longest document has {found.tokens.longest:,}",
        f"computing        {found.operations:.2g} operations",
        *(f"  {_time(seconds):>9}  {name}" for name, seconds in found.seconds.items()),
    ]
    if found.preparing is not None:
        of = found.preparing
        lines += ["", "before the run   " + (f"to be prepared: {of.why}" if of.needed else f"nothing: {of.why}")]
        if of.tokens:
            lines.append(
                f"  training it takes {of.tokens:,} tokens in {of.documents:.0f} documents, {_size(of.memory)}:"
            )
            lines.append("  " + ", ".join(f"{_time(value)} on {name}" for name, value in of.seconds.items()))
    return [*lines, *(f"note: {note}" for note in found.notes)]


def _fullest(found: Forecast) -> str:
    return max(found.memory.phases, key=lambda name: found.memory.phases[name])


def _documents(count: int) -> str:
    return "not one document" if not count else f"{count} document{'s' * (count > 1)} (--micro-batch {count})"


def _size(value: int) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 1e8 else f"{value / 1e6:.1f} MB"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
