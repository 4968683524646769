"""Records -> pandas tables: every score of every probe, and the leaderboards."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ckl_bench.errors import UserError
from ckl_bench.records import Record, read_records
from ckl_bench.results.tables import BOARDS, table

if TYPE_CHECKING:
    import pandas as pd


def load_records(folder: str | Path = "runs") -> pd.DataFrame:
    """The records of a folder of runs as a table: a row a run, stage, epoch, probe set and probe.

    Columns: run_id, method, benchmark, model, seed, stage, epoch, set, probe, accuracy (of the answer's tokens), nll
    (nats), guess. Epoch 0 is the model before it learns. UserError for a folder without records or a damaged one.
    """
    import pandas as pd

    found = _records(folder)
    rows = [
        (
            *(record.run_id, record.spec.method, record.spec.benchmark, record.spec.model, record.spec.seed),
            *(stage.name, epoch.epoch, name, probe, accuracy, nll, guess),
        )
        for record in found
        for stage in record.stages
        for epoch in stage.epochs
        for name, scores in epoch.sets.items()
        for probe, accuracy, nll, guess in zip(
            stage.probe_ids[name], scores.probe_accuracy, scores.probe_nll, scores.probe_guess, strict=True
        )
    ]
    columns = ["run_id", "method", "benchmark", "model", "seed", "stage", "epoch", "set", "probe", "accuracy", "nll"]
    return pd.DataFrame(rows, columns=[*columns, "guess"])


def leaderboard(
    records: str | Path | Iterable[Record] = "runs", kind: str = "lama-ckl", *, each_run: bool = False
) -> pd.DataFrame:
    """The leaderboard of a kind of benchmark: a row for runs that differ in their seed alone, the best first.

    `records` are Record objects or a folder of runs; the columns are those of the kind's CSV file. With `each_run`
    every run has a row, and a column `seed`. Raises UserError for an unknown kind, and where there is no finished run
    of that kind.
    """
    import io

    import pandas as pd

    if kind not in BOARDS:
        raise UserError(f"kind '{kind}': expected one of {', '.join(BOARDS)}")
    found = _records(records) if isinstance(records, str | Path) else list(records)
    text = table(found, kind, each_run=each_run)
    if text is None:
        raise UserError(f"there is no finished run of kind {kind}; run a method on such a benchmark first")
    frame = pd.read_csv(io.StringIO(text))
    if each_run:
        seeds = {record.run_id: record.spec.seed for record in found}
        frame.insert(list(frame).index("seeds"), "seed", [seeds[run_id] for run_id in frame["run_ids"]])
    return frame


def _records(folder: str | Path) -> list[Record]:
    found = list(read_records(Path(folder)))
    if not found:
        raise UserError(f"{folder} holds no records; expected a folder of runs, with records/ in it")
    return found
