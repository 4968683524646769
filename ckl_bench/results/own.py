"""The row of a benchmark of one's own: LAMA-ckl's measures of one stage, TemporalWiki's of several, and every set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean

from ckl_bench.records import Record, SetScores
from ckl_bench.results.metrics import in_sequence, lama_ckl
from ckl_bench.results.rows import (
    LAMA_CKL_COLUMNS,
    Row,
    before_training,
    in_months,
    lama_ckl_row,
    temporalwiki_columns,
    temporalwiki_row,
)

_MEASURES = ("accuracy", "exact", "nll")
# Of rows in sequence: columns that speak of months by the names of TemporalWiki's sets, which stand here by set.
_BY_PART = ("_unchanged_nll", "_changed_nll", "_avg_nll", "_perplexity")


def own_row(group: Sequence[Record], users: Mapping[str, int], untrained: Sequence[Record] = ()) -> Row:
    """The row of runs that share everything but the seed; `sets` names every probe set, as its columns begin.

    A set is scored at the table's epoch (the first that learned most) where there is one stage, right after its own
    stage where there are several; `_before`: by the base model, which is epoch 0, measured in the same run.
    """
    sequence = in_sequence(group[0])
    row = (temporalwiki_row if sequence else lama_ckl_row)(group, users, untrained)
    row["sets"] = []
    for index, stage in enumerate(group[0].stages):
        for name in stage.probe_ids:
            column = f"{stage.name}_{name}" if sequence else name
            row["sets"].append(column)
            pairs = [_before_and_after(record, index, name) for record in group]
            for measure in _MEASURES:
                row[f"{column}_{measure}"] = mean(getattr(after, measure) for _, after in pairs)
                if not group[0].spec.scored_only:
                    row[f"{column}_{measure}_before"] = mean(getattr(before, measure) for before, _ in pairs)
    return row


def _before_and_after(record: Record, index: int, name: str) -> tuple[SetScores, SetScores]:
    stage = record.stages[index]
    first = before_training(record, index)
    if in_sequence(record):
        return first[name], stage.epochs[-1].sets[name]
    top = lama_ckl(record).epoch
    return first[name], next(epoch for epoch in stage.epochs if epoch.epoch == top).sets[name]


def own_columns(rows: Sequence[Row]) -> list[str]:
    """The columns of own.csv: LAMA-ckl's, those of sequences that it has not, and six for every set that is met."""
    sequence = [name for name in temporalwiki_columns([row for row in rows if in_months(row)]) if not _by_part(name)]
    return list(dict.fromkeys([*LAMA_CKL_COLUMNS, *sequence, *_of_sets(rows)]))


def _by_part(name: str) -> bool:
    return name.endswith(_BY_PART) and name not in ("avg_nll", "before_avg_nll")


def _of_sets(rows: Sequence[Row]) -> Iterator[str]:
    for column in dict.fromkeys(column for row in rows for column in row.get("sets", ())):
        for measure in _MEASURES:
            yield f"{column}_{measure}"
            yield f"{column}_{measure}_before"


def best_first(row: Row) -> float:
    """What ranks a row: the average NLL of a sequence, else Total Knowledge."""
    return float(row["avg_nll"]) if in_months(row) else -float(row["total_knowledge"])
