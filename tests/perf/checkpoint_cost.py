"""What checkpoints cost a run: one run that saves its state in odd epochs and not in even ones.

python tests/perf/checkpoint_cost.py [--model smollm2-135m] [--benchmark lama-ckl-mini] [--method lora] [--epochs 8]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from ckl_bench.learning.run import RunRequest, execute, plan_run
from ckl_bench.learning.stages import _Run
from ckl_bench.storage.checkpoint import Keeper, Store


class Measure:
    """Seconds of training an epoch, and of `Keeper.after_step` where it may save."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.keeping = 0.0
        self.saves = self.steps = 0
        self._after_step, self._learn_epoch, self._save = Keeper.after_step, _Run.learn_epoch, Store.save

    @property
    def on(self) -> bool:
        """Whether the epoch under way saves."""
        return len(self.epochs) % 2 == 0

    def patch(self) -> None:
        """Put the clock around both, and the switch in front of saving."""
        measure = self

        def after_step(keeper: Keeper, state: Callable[[], Any]) -> None:
            if measure.on:
                start = time.perf_counter()
                measure._after_step(keeper, state)
                measure.keeping += time.perf_counter() - start
                measure.steps += 1

        def learn_epoch(run: _Run, *arguments: Any) -> None:
            start = time.perf_counter()
            measure._learn_epoch(run, *arguments)
            seconds = time.perf_counter() - start
            if not measure.on:
                run.keeper._saved += seconds  # else the next epoch would begin by making up for this one
            measure.epochs.append(seconds)

        def save(store: Store, state: Any) -> None:
            measure.saves += 1
            measure._save(store, state)

        for owner, own in ((Keeper, after_step), (_Run, learn_epoch), (Store, save)):
            setattr(owner, own.__name__, own)


def main() -> None:
    """Print the seconds of every epoch, their ratio, and the direct share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("model", "smollm2-135m"), ("benchmark", "lama-ckl-mini"), ("method", "lora")):
        parser.add_argument(f"--{name}", default=default)
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    plan = plan_run(RunRequest(**vars(given)))
    if len(plan.benchmark.stages) * given.epochs < 2:
        parser.error("--epochs: two or more are needed, one that saves and one that does not")
    measure = Measure()
    measure.patch()
    with tempfile.TemporaryDirectory() as folder:
        record = execute(plan, Store(Path(folder) / "run", plan.spec.run_id))
    if record.status == "failed":
        raise SystemExit(f"the run failed: {record.error}")
    with_saves, without = measure.epochs[::2], measure.epochs[1::2]
    for name, seconds in (("saving", with_saves), ("not saving", without)):
        each = ", ".join(f"{value:.2f}" for value in seconds)
        print(f"{name}: {each} s an epoch, median {median(seconds):.2f} s")
    print(f"ratio of the medians: {median(with_saves) / median(without):.4f}")
    share = measure.keeping / sum(with_saves)
    print(f"in Keeper.after_step: {measure.keeping:.3f} s of {sum(with_saves):.1f} s, {share:.2%}")
    print(f"saves: {measure.saves} in {measure.steps} steps")


if __name__ == "__main__":
    main()
