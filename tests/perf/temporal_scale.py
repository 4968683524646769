"""Time and memory of `build temporalwiki` on synthetic months 1, 4 and 16 times as large: linear, and flat.

python tests/perf/temporal_scale.py [ARTICLES=4000] [MEMORY=300]

Seconds are of processors, of all processes together, less those of a build of 100 articles (starting, importing): other
work on the machine does not count. Memory is the peak of the build and its workers together (proportional set size).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from synthetic_months import write  # type: ignore[import-not-found]

RUN = "from ckl_bench.cli.app import main; main()"


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    own = children.read_text().split() if children.exists() else []
    return [pid, *(found for child in own for found in _tree(int(child)))]


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def measure(arguments: list[str]) -> tuple[int, float, float]:
    """Peak memory in bytes, seconds of processors, seconds on the clock."""
    start, before = time.perf_counter(), os.times()
    child = subprocess.Popen(
        [sys.executable, "-c", RUN, "build", "temporalwiki", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.3):
            most = max(most, sum(map(_resident, _tree(child.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = child.wait()
    done.set()
    watcher.join()
    assert code == 0
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return most, spent, time.perf_counter() - start


def build(articles: int, memory: int) -> tuple[int, float, float]:
    """What a build of two months of so many articles takes."""
    with tempfile.TemporaryDirectory() as folder:
        dumps = write(Path(folder), articles)
        out = [
            "--out",
            f"{folder}/out",
            "--memory",
            str(memory),
            "--max-relation-share",
            "1",
            "--max-subject-share",
            "1",
        ]
        return measure([*dumps, *out])


def main() -> None:
    """Print time and memory at each size, and how far they are from linear and flat."""
    base = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    memory = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    _, fixed, _ = build(100, memory)
    found = []
    for factor in (1, 4, 16):
        most, spent, clock = build(base * factor, memory)
        each = 1e3 * (spent - fixed) / (base * factor)
        found.append((most, each))
        print(
            f"{factor:2d} times, {base * factor:7,} articles: {spent - fixed:6.1f} s of processors ({each:.2f} ms an "
            f"article), {clock:5.0f} s on the clock, peak {most / 1e6:4.0f} MB",
            flush=True,
        )
    (small, least), _, (large, most_each) = found
    print(
        f"an article at 16 times takes {most_each / least:.2f} of its time, the build {large / small:.2f} of its memory"
    )


if __name__ == "__main__":
    main()
