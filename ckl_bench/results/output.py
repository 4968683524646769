"""The output folder of runs: records/*.json, the tables made of them, and how they stand beside the committed ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from rich.table import Table

from ckl_bench import ranks
from ckl_bench.events import Watcher
from ckl_bench.learning.keep import LAST, require_kept
from ckl_bench.learning.planned import Plan
from ckl_bench.learning.run import execute
from ckl_bench.learning.score import ScorePlan, score_model
from ckl_bench.learning.tasks import tell_lacking
from ckl_bench.records import Record, read_record, read_records, write_record
from ckl_bench.results.tables import BOARDS, rows, tables_locked, write_tables
from ckl_bench.results.terminal import leaderboard_table
from ckl_bench.scoring.vllm_backend import Running
from ckl_bench.storage.checkpoint import Store, undertaking
from ckl_bench.storage.files import leaderboards_dir


def finished(output: Path, run_id: str) -> Record | None:
    """The record of a run that is done already, if there is one."""
    path = output / "records" / f"{run_id}.json"
    record = read_record(path) if path.is_file() else None
    return record if record is not None and record.status == "done" else None


def store(output: Path, record: Record) -> None:
    """Write a record, and the tables of all records in the output folder; any number of processes may do so at once.

    A failed run never takes the place of a finished one.
    """
    path = output / "records" / f"{record.run_id}.json"
    fresh = not path.exists()
    if record.status == "failed" and finished(output, record.run_id):
        return
    write_record(output, record)
    update_tables(output, record if fresh else None)


def update_tables(output: Path, new: Record | None = None) -> None:
    """Write the tables of all records in the output folder.

    A table that names the run of a `new` record was written by a process that was ahead in the queue, and has seen it.
    """
    with tables_locked(output):
        table = output / BOARDS[new.spec.benchmark_kind].file if new else None
        if not (new and table and table.is_file() and new.run_id in table.read_text(encoding="utf-8")):
            write_tables(output, read_records(output))


def run_once(
    output: Path,
    plan: Plan,
    *,
    fresh: bool = False,
    save_to: Path | None = None,
    watchers: Sequence[Watcher] = (),
    keep: str = LAST,
) -> tuple[Record, bool]:
    """The record of a plan, and whether it was there already; else it is run, from where it was stopped.

    `fresh` runs it anew; `save_to` keeps its model of the epoch that `keep` names (`keep.save_model`); `watchers` are
    told what happens in it.
    UserError where another process is running it.
    """

    def run(own: Store) -> Record:
        return execute(plan, own, save_to, watchers, keep)

    record, was_there = once(output, plan.spec.run_id, run, fresh=fresh)
    if was_there:
        tell_lacking([record], plan.retain)
    if was_there and save_to is not None:
        ranks.from_first(partial(require_kept, save_to, record, keep))
    return record, was_there


def score_once(
    output: Path, plan: ScorePlan, *, fresh: bool = False, running: Running | None = None
) -> tuple[Record, bool]:
    """The record of a model that is scored as it stands, and whether it was there already; as `run_once`.

    An engine of vLLM is the one that is `running`, where that is given (`score_model`).
    """
    record, was_there = once(output, plan.spec.run_id, lambda own: score_model(plan, own, running), fresh=fresh)
    if was_there:
        tell_lacking([record], plan.retain)
    return record, was_there


def once(output: Path, run_id: str, make: Callable[[Store], Record], *, fresh: bool = False) -> tuple[Record, bool]:
    """The record of that id, and whether it was there already; else `make` gives it, and saves in its store.

    UserError where another process is making it.
    """
    folder = output / "checkpoints"
    own, lock = Store(folder / run_id, run_id), folder / f"{run_id}.lock"
    with ExitStack() as held:

        def begin() -> Record | None:
            held.enter_context(undertaking(own, lock, f"run {run_id} in {output}", fresh=fresh))
            found = None if fresh else finished(output, run_id)
            if found is not None:
                update_tables(output)  # it may have been killed before it could
            return found

        found = ranks.from_first(begin)  # of several processes one holds the lock and writes
        if found is None:
            record = make(own)
            ranks.from_first(lambda: store(output, record))
    if ranks.first():
        with suppress(OSError):
            folder.rmdir()  # where no other run is under way
    return (found, True) if found is not None else (record, False)


def _records_like(folder: Path, record: Record) -> list[Record]:
    """A folder's records on the same benchmark hash and base model."""
    spec = record.spec
    same = (spec.benchmark_hash, spec.model_revision)
    found = read_records(folder, naming=same)
    return [other for other in found if (other.spec.benchmark_hash, other.spec.model_revision) == same]


def table_beside_committed(output: Path, record: Record) -> Table:
    """The output's rows of the record's benchmark and model, with the committed leaderboard's beside them."""
    kind, board = record.spec.benchmark_kind, leaderboards_dir()
    ours = _records_like(output, record)
    theirs = [] if output.resolve() == board.resolve() else _records_like(board, record)
    return leaderboard_table(kind, rows(ours, kind, beside=theirs), rows(theirs, kind))
