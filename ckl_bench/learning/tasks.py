"""Which of other people's tasks a run is asked to answer beside it (`--retain`), and which a record lacks. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ckl_bench.errors import UserError
from ckl_bench.progress import log
from ckl_bench.records import Record


@dataclass(frozen=True, kw_only=True)
class Retain:
    """Which tasks a model is asked before and after: lm-eval's names, or those of YAML files under `include_path`."""

    tasks: tuple[str, ...]
    limit: int | None = None  # only the first so many samples of a task
    include_path: Path | None = None


def wanted(tasks: str | None, limit: int | None = None, include_path: Path | None = None) -> Retain | None:
    """`TASK[,TASK...]` as typed; UserError for an empty name, and for what belongs to tasks where none is named."""
    if tasks is None:
        if limit is not None or include_path is not None:
            given = "--retain-limit" if limit is not None else "--include-path"
            raise UserError(f"{given} belongs to --retain; give --retain TASK[,TASK...] too")
        return None
    names = [name.strip() for name in tasks.split(",")]
    if not all(names):
        raise UserError(f"--retain {tasks}: expected TASK[,TASK...], as in --retain hellaswag,arc_easy")
    return Retain(tasks=tuple(dict.fromkeys(names)), limit=limit, include_path=include_path)


def lacking(record: Record, asked: Retain) -> list[str]:
    """The tasks asked for of which a record has no number; a task may be named whole, by its group or by a pattern."""
    return [t for t in asked.tasks if not any(k.startswith(f"{t}_") or fnmatch(k, t) for k in record.retained)]


def tell_lacking(records: Sequence[Record], asked: Retain | None) -> None:
    """Say what to type where finished runs, which are not made again, have no scores of the tasks asked for."""
    found = [(record, tasks) for record in records if asked and (tasks := lacking(record, asked))]
    if not found:
        return
    record, tasks = found[0]
    more = f" (as {len(found) - 1} more)" if found[1:] else ""
    kept = f"; of a kept model ckl-bench score --model DIR --retain {','.join(tasks)} asks them"
    log(
        f"note: run {record.run_id}{more} was finished before, and its record has no scores of {', '.join(tasks)}: "
        f"--fresh (fresh=True) makes it anew{'' if record.spec.scored_only else kept}"
    )
