"""Probes a second of vLLM and of transformers on the same probes in one run, and every probe on which the two differ.

Each backend is one process, which scores slices of 1,000 probes of distinct prompts, those of the benchmarks in their
order. What is done is kept in a folder, so that a run may be stopped and goes on. Prints two tables in Markdown.

    PYTHONPATH=tests .venv-vllm/bin/python -m perf.vllm_sides --benchmark lama-ckl --benchmark temporalwiki
    ... --probes 1000 --probes 10000 --work DIR     at how many probes the rate is read; where the slices are kept
    ... --pause-after 200                           seconds behind which a side stops, at the end of a slice
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from perf.sides import machine

BACKENDS = ("transformers", "vllm")
SLICE = 1000
NEAR = 1e-3  # nats


def probes_of(benchmarks: Sequence[str], count: int) -> list[Any]:
    """The first probes of the benchmarks, each prompt once."""
    from ckl_bench.benchmarks.format import load_benchmark

    stages = [stage for name in benchmarks for stage in load_benchmark(name).stages]
    every = (probe for stage in stages for rows in stage.probes.values() for probe in rows)
    found = {probe.prompt: probe for probe in every}
    if len(found) < count:
        sys.exit(f"the benchmarks have {len(found)} distinct prompts; give more of them, or --probes {len(found)}")
    return list(found.values())[:count]


def slices_of(work: Path, backend: str) -> list[dict[str, Any]]:
    """The slices that a side has finished: seconds to start and to score, and the scores."""
    file = work / f"{backend}.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def side(backend: str, model: str, probes: Sequence[Any], work: Path, pause_after: float) -> None:
    """Score what a side has not scored yet."""
    from ckl_bench.encode import Tokenizer
    from ckl_bench.learning.environment import give_back
    from ckl_bench.models.find import find_model
    from ckl_bench.scoring.engine import ProbeScore, encode_probe, score_probes
    from ckl_bench.scoring.vllm_backend import vllm_scorer
    from ckl_bench.scoring.vllm_engine import Engine

    begun, done = time.perf_counter(), len(slices_of(work, backend))
    base = find_model(model)
    tokenizer: Tokenizer = base.tokenizer
    score: Callable[[Sequence[Any]], list[ProbeScore]]
    with ExitStack() as ending, (work / f"{backend}.jsonl").open("a", encoding="utf-8") as kept:
        if backend == "vllm":
            longest = max(len(encode_probe(tokenizer, probe).ids) for probe in probes)
            score = ending.enter_context(vllm_scorer(Engine(base=base), longest))
        else:
            give_back()  # as a run does
            loaded = base.load()
            score = lambda rows: score_probes(loaded, tokenizer, rows)  # noqa: E731
        start = time.perf_counter() - begun
        score(probes[:16])  # both are warm then
        for at in range(done * SLICE, len(probes), SLICE):
            before = time.perf_counter()
            scores = score(probes[at : at + SLICE])
            seconds = time.perf_counter() - before
            kept.write(json.dumps({"start": start, "seconds": seconds, "scores": [asdict(one) for one in scores]}))
            kept.write("\n")
            kept.flush()
            if time.perf_counter() - begun > pause_after:
                return


def margins(model: str, probes: Sequence[Any]) -> list[float]:
    """Of each probe the least distance, in nats, of the two likeliest tokens at any of its object's positions."""
    import torch

    from ckl_bench.models.find import find_model
    from ckl_bench.scoring.engine import encode_probe

    base = find_model(model)
    loaded, found = base.load(), []
    for probe in probes:
        encoded = encode_probe(base.tokenizer, probe)
        with torch.no_grad():
            told = loaded(input_ids=torch.tensor([encoded.ids])).logits[0].log_softmax(-1)
        top = told[[at - 1 for at in encoded.objects]].topk(2).values
        found.append(float((top[:, 0] - top[:, 1]).min()))
    return found


def rates(found: dict[str, list[dict[str, Any]]], counts: Sequence[int]) -> None:
    """The table of probes a second, without the start and with it."""
    print(
        "| probes | backend | start, s | scoring, s | probes/s | probes/s with the start |\n|--:|---|--:|--:|--:|--:|"
    )
    for count in counts:
        for backend, slices in found.items():
            seconds = sum(one["seconds"] for one in slices[: count // SLICE])
            start = slices[0]["start"]
            shown = f"{start:.1f} | {seconds:.1f} | {count / seconds:.1f} | {count / (start + seconds):.1f}"
            print(f"| {count:,} | {backend} | {shown} |")


def differences(found: dict[str, list[dict[str, Any]]], counts: Sequence[int], model: str, probes: list[Any]) -> None:
    """The table of how far apart the scores are, and each probe whose accuracy or guess is another."""
    ours, theirs = ([score for one in found[name] for score in one["scores"]] for name in BACKENDS)
    other = [at for at, (a, b) in enumerate(zip(ours, theirs, strict=True)) if _told(a) != _told(b)]
    near = dict(zip(other, margins(model, [probes[at] for at in other]), strict=True)) if other else {}
    print(
        "| probes | mean accuracy, both | NLL apart by at most | another accuracy | another guess | none a near-tie |"
    )
    print("|--:|--:|--:|--:|--:|--:|")
    for count in counts:
        means = " / ".join(f"{sum(one['accuracy'] for one in rows[:count]) / count:.5f}" for rows in (ours, theirs))
        apart = max(abs(a["nll"] - b["nll"]) for a, b in zip(ours[:count], theirs[:count], strict=True))
        here = [at for at in other if at < count]
        moved = sum(ours[at]["accuracy"] != theirs[at]["accuracy"] for at in here)
        far = sum(near[at] > NEAR for at in here)
        print(f"| {count:,} | {means} | {apart:.1e} | {moved} | {len(here)} | {far} |")
    for at in other:
        guesses = f"{ours[at]['guess']!r}, vLLM {theirs[at]['guess']!r}"
        print(f"- probe {at + 1}, {probes[at].id}: {guesses}; the two likeliest {near[at]:.1e} nats apart")


def _told(score: dict[str, Any]) -> tuple[float, str]:
    return score["accuracy"], score["guess"]


def version() -> str:
    """vLLM's own, whose distribution has another name on a CPU."""
    from importlib.metadata import packages_distributions, version

    return version(packages_distributions()["vllm"][0])


def main() -> None:
    """Both sides, one after the other, then the tables; where a side has paused, nothing but that."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", action="append", required=True)
    parser.add_argument("--probes", action="append", type=int)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--work", type=Path, default=Path("runs/vllm-sides"))
    parser.add_argument("--pause-after", type=float, default=float("inf"))
    parser.add_argument("--side", choices=BACKENDS)
    given = parser.parse_args()
    counts = sorted(given.probes or [1000])
    if any(count % SLICE or count < 1 for count in counts):
        parser.error(f"--probes {counts}: expected multiples of {SLICE}")
    given.work.mkdir(parents=True, exist_ok=True)
    probes = probes_of(given.benchmark, counts[-1])
    if given.side:
        side(given.side, given.model, probes, given.work, given.pause_after)
        return
    for backend in BACKENDS:
        if len(slices_of(given.work, backend)) * SLICE < counts[-1]:
            again = [sys.executable, "-m", "perf.vllm_sides", *sys.argv[1:], "--side", backend]
            subprocess.run(again, check=True)
        if len(slices_of(given.work, backend)) * SLICE < counts[-1]:
            sys.exit(f"{backend} has paused; the same command goes on")
    found = {backend: slices_of(given.work, backend)[: counts[-1] // SLICE] for backend in BACKENDS}
    print(f"{machine()}, vLLM {version()}, by `{' '.join(['perf.vllm_sides', *sys.argv[1:]])}`:\n")
    rates(found, counts)
    print()
    differences(found, counts, given.model, probes)


if __name__ == "__main__":
    main()
