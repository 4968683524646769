"""Which rows of a table may be ranked against each other, and the settings that tell its rows apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

from ckl_bench.records import Record
from ckl_bench.results.differences import SETTINGS, SHORT
from ckl_bench.results.rows import Row

UNTRAINED = "none"  # the method that does nothing: its row is what the others have to beat
_OF_TRAINING = ("learning_rate", "batch_size", "epochs")  # tell nothing of a row that learns nothing
_TYPED = {long: short for short, long in SHORT.items()}


def league(row: Row) -> tuple[str, str, str, str, int, int]:
    """What rows must share to be ranked against each other: benchmark, model, how much of it, and for how long."""
    names = (str(row[name]) for name in ("benchmark", "benchmark_hash", "model", "model_revision"))
    benchmark, benchmark_hash, model, revision = names
    return benchmark, benchmark_hash, model, revision, row["limit"] or 0, row["epochs"]


def leagues(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows that come sorted by league, league by league."""
    return [list(group) for _, group in groupby(rows, key=league)]


def ranks(rows: Sequence[Row], best_first: Callable[[Row], float]) -> list[int | None]:
    """The place of every row of one league; rows that agree to four decimals share the better one ("1, 2, 2, 4").

    A row that was told the answers has none: the others are not to be measured against it. Nor has a model that was
    scored only, of which nobody knows what it has read.
    """
    values = [None if row["told"] or row.get("scored_only") else round(best_first(row), 4) for row in rows]
    ranked = [value for value in values if value is not None]
    return [None if value is None else 1 + sum(other < value for other in ranked) for value in values]


def untrained(records: Iterable[Record]) -> Mapping[tuple[str, str, int | None], list[Record]]:
    """Runs of the method that does nothing, by benchmark hash, model revision and limit."""
    found: dict[tuple[str, str, int | None], list[Record]] = {}
    for record in records:
        spec = record.spec
        if spec.method == UNTRAINED and record.status == "done":
            found.setdefault((spec.benchmark_hash, spec.model_revision, spec.limit), [])[:] = [record]
    return found


def labels(rows: Sequence[Row]) -> list[str]:
    """A name for every row of one table: its method, with each setting in which it differs from most of the others.

    `finetune@lr=5e-05` is also what `compare` takes. A row of an older schema says so where another one would have the
    same name.
    """
    usual: dict[str, object] = {"limit": None}  # a try always says so
    for name in SETTINGS:
        counted = Counter(row[name] for row in rows if row.get(name) is not None and not row.get("scored_only"))
        if name not in ("limit", "schema_version") and counted:
            usual[name] = counted.most_common(1)[0][0]
    # What a record does not say (those of an older schema) tells nothing.
    telling = [
        {k: row[k] for k, v in usual.items() if row.get(k) not in (None, v) and not (k in _OF_TRAINING and _idle(row))}
        for row in rows
    ]
    made = [_label(row, own) for row, own in zip(rows, telling, strict=True)]
    times, newest = Counter(made), max((row["schema_version"] for row in rows), default=None)
    for i, row in enumerate(rows):
        if times[made[i]] > 1 and row["schema_version"] != newest:
            made[i] = _label(row, {**telling[i], "schema_version": row["schema_version"]})
    return made


def _idle(row: Row) -> bool:
    return bool(row["method"] == UNTRAINED) or bool(row.get("scored_only"))


def _label(row: Row, telling: Mapping[str, object]) -> str:
    shown = [f"{_TYPED.get(name, name)}={_short(value)}" for name, value in telling.items()]
    return str(row["method"]) + ("@" + ",".join(shown) if shown else "")


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:12]
