"""Sweeps in a process of their own, a method that can be met midway, and records held against each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import psutil

from helpers.terminal import MAIN

# A method that takes its time, so that a run can be met midway; of a run of a sweep it notes every batch it weighs.
SLOW = '''"""Uniform weights, slowly."""
import os, time
from dataclasses import dataclass
from pathlib import Path
import psutil
from ckl_bench.method import Method

@dataclass(frozen=True, kw_only=True)
class Slow(Method):
    pause: float = 0.0

    def weigh(self, model, tokenizer, stage):
        def weights(batch, nll):
            time.sleep(self.pause)
            with open("weighed.txt", "a") as file:
                file.write(f"{Path(psutil.Process().cmdline()[-1]).stem} {os.getpid()}\\n")
            return nll * 0 + 1
        return weights
'''


def weighed(folder: Path) -> dict[str, list[int]]:
    """By run id: how many batches each of its processes has weighed, in the order in which they began."""
    counts: dict[str, dict[str, int]] = {}
    for line in (folder / "weighed.txt").read_text().splitlines():
        run, process = line.split()
        each = counts.setdefault(run, {})
        each[process] = each.get(process, 0) + 1
    return {run: list(each.values()) for run, each in counts.items()}


def assert_went_on(folder: Path, run: str, of: Collection[str]) -> None:
    """A run that was lost did not begin anew: behind that it weighed fewer batches than those of `of` that were not."""
    counts = weighed(folder)
    whole = {counts[other][0] for other in of if len(counts[other]) == 1}
    assert len(whole) == 1, counts
    assert 0 < sum(counts[run][1:]) < whole.pop(), counts


def measured(path: Path) -> str:
    """A record's text but for its surroundings and what they decide: seconds, memory, and the checksum over all."""
    record = json.loads(path.read_text())
    del record["environment"], record["checksum"]
    for cost in ("seconds", "train_tokens_per_second", "peak_memory_bytes"):
        del record["cost"][cost]
    return json.dumps(record)


def assert_same_records(one: Path, other: Path, count: int) -> None:
    names = sorted(path.name for path in one.glob("records/*.json"))
    assert names == sorted(path.name for path in other.glob("records/*.json"))
    assert len(names) == count
    for name in names:
        assert measured(one / "records" / name) == measured(other / "records" / name)


class Sweep:
    """`ckl-bench sweep --json` in a process of its own."""

    def __init__(self, *words: object, cwd: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "sweep", "--json", *map(str, words)],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def lines(self) -> Iterator[dict[str, Any]]:
        """What it tells, as it tells it."""
        assert self.process.stdout is not None
        yield from map(json.loads, self.process.stdout)

    def children(self) -> dict[str, psutil.Process]:
        """The processes of its runs, by run id."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            words = child.cmdline()
            if "ckl_bench.running.child" in words:
                found[Path(words[-1]).stem] = child
        return found

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it said."""
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        return self.process.wait(), said
