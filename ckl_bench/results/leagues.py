"""Which rows of a table may be ranked against each other, and the settings that tell its rows apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

from ckl_bench.records import Record
from ckl_bench.results.differences import SETTINGS, SHORT
from ckl_bench.results.rows import Row

UNTRAINED = "none"  # the method that does nothing: its row is what the others have to beat
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

    A row that was told the answers has none: the others are not to be measured against it.
    """
    values = [None if row["told"] else round(best_first(row), 4) for row in rows]
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

    `finetune@lr=5e-05` is also what `compare` takes.
    """
    usual = {name: Counter(row.get(name) for row in rows).most_common(1)[0][0] for name in SETTINGS}
    usual["limit"] = None  # a try always says so
    usual["schema_version"] = max((row["schema_version"] for row in rows), default=None)  # an old one says so too
    made = []
    for row in rows:
        telling = {name: row.get(name) for name in SETTINGS if row.get(name) != usual[name]}
        shown = [f"{_TYPED.get(name, name)}={_short(value)}" for name, value in telling.items() if value is not None]
        made.append(str(row["method"]) + ("@" + ",".join(shown) if shown else ""))
    return made


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:12]
