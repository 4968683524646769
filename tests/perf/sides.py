"""Time and memory of ours beside transformers' Trainer with peft, lm-eval's HFLM, a full log-softmax and create_graph.

Prints one table in Markdown, with machine and date: both sides of every ratio, measured in one run. Each side runs in a
process of its own, on the same weights and the same documents or probes, after one pass to warm up; its time is the
best of two passes. Both sides of a ratio of times run in turns, three times each, and the medians count: a machine that
others use too is a third faster or slower from minute to minute. Trainer pads its batches of 8 as they come; HFLM gets
batches of 32.

    make perf                              (needs: pip install lm_eval accelerate)
    PYTHONPATH=tests python -m perf.sides scoring               the rows whose name holds the word
    PYTHONPATH=tests python -m perf.sides --side lama-hflm      one side alone
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import starmap
from pathlib import Path
from typing import NamedTuple

from perf.sides_learning import DOCUMENT_STEPS, TRAINING, meta, training
from perf.sides_scoring import SCORING, loss, scoring

PASSES = 2
TURNS = 3


class Ratio(NamedTuple):
    """A row of the table; where `theirs` is empty, what is asked bounds ours itself, in bytes or as a share."""

    what: str
    ours: str
    theirs: str
    of: str  # rate (units/s), peak or above (bytes, above what was loaded), share
    asked: float  # at least, of a rate or share; else at most


RATIOS = tuple(
    starmap(
        Ratio,
        [
            ("training, float32, tokens/s, Trainer + peft", "train-ours", "train-trainer", "rate", 1.2),
            ("training, bfloat16, tokens/s, Trainer + peft", "train-ours16", "train-trainer16", "rate", 1.6),
            ("training, real tokens of those computed", "train-ours", "", "share", 0.95),
            ("training, peak memory, Trainer + peft", "train-ours", "train-trainer", "peak", 1.0),
            ("training, 8 documents of 256 tokens, peak memory", "rows-ours", "", "peak", 2.5e9),
            ("scoring LAMA prompts, probes/s, HFLM", "lama-ours", "lama-hflm", "rate", 1.4),
            ("scoring TemporalWiki prompts, probes/s, HFLM", "wiki-ours", "wiki-hflm", "rate", 1.6),
            ("scoring, 262k vocabulary, probes/s, HFLM", "large-ours", "large-hflm", "rate", 2.3),
            ("scoring, 262k vocabulary, memory above weights, HFLM", "large-ours", "large-hflm", "above", 0.15),
            ("loss, 262k vocabulary, memory, full log-softmax", "loss-ours", "loss-full", "above", 0.25),
            ("φ, one document, documents/s, create_graph", "meta-ours1", "meta-graph", "rate", 1 / 0.9),
            ("φ, eight documents, documents/s, create_graph", "meta-ours8", "meta-graph", "rate", 1 / 0.6),
            ("φ, one document, memory above weights, create_graph", "meta-ours1", "meta-graph", "above", 0.45),
            ("φ, eight documents, memory above weights, create_graph", "meta-ours8", "meta-graph", "above", 0.45),
            ("φ, one document, memory above, --checkpoint-activations", "meta-again1", "meta-graph", "above", 0.2),
            ("φ, eight documents, memory above, --checkpoint-activations", "meta-again8", "meta-graph", "above", 0.2),
        ],
    )
)


def memory(name: str) -> int:
    """Bytes that Linux says of this process: VmHWM, its peak since the last `forget_peak`, or VmRSS, now."""
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) * 1024


def forget_peak() -> None:
    """What stood in memory while weights were loaded is no peak of the work, nor free for it to use again."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def measure(name: str) -> dict[str, float]:
    """What one side takes: units a second in its best pass, peak memory and that above what was loaded, in bytes."""
    kind, side = name.split("-")
    made: dict[str, Callable[[str, str], tuple[float, Callable[[], object], float]]] = {
        **dict.fromkeys(TRAINING, training),
        **dict.fromkeys(SCORING, scoring),
        **dict.fromkeys(DOCUMENT_STEPS, meta),
        "loss": loss,
    }
    units, work, share = made[kind](kind, side)
    forget_peak()
    loaded, seconds = memory("VmRSS"), []
    work()
    for _ in range(PASSES):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    peak = memory("VmHWM")
    return {"rate": units / min(seconds), "peak": peak, "above": peak - loaded, "share": share}


def machine() -> str:
    """Processor, threads, versions and date in words."""
    import torch
    import transformers

    named = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return (
        f"{named[1] if named else platform.processor()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, {datetime.date.today()}"
    )


def shown(value: float, of: str) -> str:
    """A figure with its unit."""
    return f"{value / 1e9:.2f} GB" if of in ("peak", "above") else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def line(ratio: Ratio, found: dict[str, dict[str, float]]) -> str:
    """A row of the table."""
    names = [name for name in (ratio.ours, ratio.theirs) if name]
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    missing = [name for name in names if name not in found]
    if ratio.of == "rate" and any("turns" not in found.get(name, {}) for name in names):
        missing = names * TURNS
    for name in missing:
        done = subprocess.run(
            [sys.executable, "-m", "perf.sides", "--side", name], stdout=subprocess.PIPE, text=True, check=True
        )
        turns[name].append(json.loads(done.stdout.splitlines()[-1]))
    for name, each in turns.items():
        if each:
            found[name] = {of: statistics.median(one[of] for one in each) for of in each[0]}
        if len(each) == TURNS:
            found[name]["turns"] = TURNS
    ours = found[ratio.ours][ratio.of]
    theirs = found[ratio.theirs][ratio.of] if ratio.theirs else 0.0
    value = ours / theirs if theirs else ours
    least = ratio.of in ("rate", "share")
    met = value >= ratio.asked if least else value <= ratio.asked
    bound = f"{ratio.asked:.2f}" if ratio.theirs or ratio.of == "share" else shown(ratio.asked, ratio.of)
    cells = [
        ratio.what,
        shown(ours, ratio.of),
        shown(theirs, ratio.of) if theirs else "",
        f"{value:.2f}" if theirs else "",
        f"{'at least' if least else 'at most'} {bound}",
        "yes" if met else "no",
    ]
    return f"| {' | '.join(cells)} |"


def main(word: str = "") -> None:
    """The table: both sides of every ratio, what is asked, and whether it is met."""
    from ckl_bench.learning.sizes import multiplies_bfloat16

    found: dict[str, dict[str, float]] = {}
    print(
        f"{machine()}, by `make perf`:\n\n"
        "| what, beside whom | ours | theirs | ratio | asked | met |\n|---|--:|--:|--:|---|---|"
    )
    for ratio in RATIOS:
        if word not in ratio.what:
            continue
        if ratio.ours.endswith("16") and not multiplies_bfloat16("cpu"):
            print(f"| {ratio.what} | | | | at least {ratio.asked:.2f} | this processor has no bfloat16 |", flush=True)
            continue
        print(line(ratio, found), flush=True)


if __name__ == "__main__":
    if "--side" in sys.argv:
        print(json.dumps(measure(sys.argv[-1])))
    else:
        main(*sys.argv[1:])
