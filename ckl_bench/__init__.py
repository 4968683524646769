"""ckl-bench: benchmark and evaluation harness for continual knowledge learning.

    from ckl_bench import run, sweep, load_benchmark, load_records, leaderboard, Method

Each of these names is imported when it is first used: `import ckl_bench` alone loads neither torch nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ckl_bench.api import Place as Place
    from ckl_bench.api import RunResult as RunResult
    from ckl_bench.api import run as run
    from ckl_bench.api import score as score
    from ckl_bench.api import sweep as sweep
    from ckl_bench.benchmarks.format import Benchmark as Benchmark
    from ckl_bench.benchmarks.format import load_benchmark as load_benchmark
    from ckl_bench.errors import CklError as CklError
    from ckl_bench.errors import UserError as UserError
    from ckl_bench.events import EpochDone as EpochDone
    from ckl_bench.events import Watcher as Watcher
    from ckl_bench.learning.tasks import Retain as Retain
    from ckl_bench.method import Method as Method
    from ckl_bench.records import Record as Record
    from ckl_bench.results.frames import leaderboard as leaderboard
    from ckl_bench.results.frames import load_records as load_records

__version__ = "0.1.0"

_WHERE = {
    "run": "api",
    "score": "api",
    "sweep": "api",
    "load_records": "results.frames",
    "leaderboard": "results.frames",
    "RunResult": "api",
    "load_benchmark": "benchmarks.format",
    "Benchmark": "benchmarks.format",
    "Method": "method",
    "Record": "records",
    "Place": "api",
    "Retain": "learning.tasks",
    "Watcher": "events",
    "EpochDone": "events",
    "UserError": "errors",
    "CklError": "errors",
}
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'ckl_bench' has no attribute '{name}'; it has {', '.join(_WHERE)}")
    return getattr(import_module(f"ckl_bench.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
