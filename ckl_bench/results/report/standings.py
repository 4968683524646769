"""Records -> leagues as a page shows them: rows with their runs, names and colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ckl_bench.records import Record
from ckl_bench.results.differences import UNTRAINED
from ckl_bench.results.leagues import labels, leagues, titles
from ckl_bench.results.rows import Row
from ckl_bench.results.tables import BOARDS, groups, rows

# Told apart by every kind of colour vision, with the dashes; on white, and on black.
COLOURS = ("#c84e00", "#0067a5", "#00805a", "#b03a83", "#8f6200", "#6f4fb3", "#0b7f86", "#a3292e")
BRIGHT = ("#ff8a3d", "#5cb3f2", "#3ddc9f", "#f08cc4", "#e3b341", "#b79cf5", "#4fd6d2", "#ff7b7b")
CHOSEN = ("taalm+lora", "lora", "finetune")  # in colour before anyone asks, beside the best
MOST_CHOSEN = 4
_NEXT = ("oracle+lora", "rho1+lora")  # they stand beside the best where passages are shown: in colours of their own


@dataclass(frozen=True, kw_only=True)
class Series:
    """A row of a leaderboard, its runs (a seed each), its number on the page, and whether it is in colour at first."""

    index: int
    label: str
    row: Row
    runs: Sequence[Record]
    shown: bool


@dataclass(frozen=True, kw_only=True)
class League:
    """Rows that may be ranked against each other, the best first; `series` are those that learned at all."""

    kind: str
    title: str
    rows: Sequence[Row]
    series: Sequence[Series]
    runs: Sequence[Sequence[Record]]  # of every row


def standings(records: Iterable[Record]) -> list[League]:
    """The leagues of these records, by kind: those of a benchmark as it was run last come first, and the largest.

    A stack has one number, and so one colour, in all of them. Colours are fewer than stacks: those that the first
    league shows before anyone asks come first, then those of its passage, so that no two of these share one. The page
    is about learning: models that were scored only stand in the tables alone.
    """
    every = [record for record in records if not record.spec.scored_only]
    by_id = {group[0].run_id: group for group in groups(every)}
    found = []
    for kind in BOARDS:
        unsorted = leagues(rows(every, kind))
        age = _ages([(row, by_id[row["run_ids"].split(" ")[0]]) for league in unsorted for row in league])
        made = sorted(unsorted, key=lambda league: (age[_edition(league[0])], -len(league)))
        found += [(kind, league, _numbered(league)) for league in made]
    chosen = [_chosen(league, names) for _, league, names in found]
    stacks = [name for _, _, names in found for name in names]
    beside = [name for name in stacks if name[0] in _NEXT]
    order = [name for own in [*chosen[:1], beside, *chosen[1:], stacks] for name in own]
    number = {name: index for index, name in enumerate(dict.fromkeys(order))}
    standing = []
    named = titles([league for _, league, _ in found])
    for title, (kind, league, names), coloured in zip(named, found, chosen, strict=True):
        runs = [by_id[row["run_ids"].split(" ")[0]] for row in league]
        series = [
            Series(
                index=number[name],
                label=label + ("*" if row["told"] else ""),
                row=row,
                runs=own,
                shown=name in coloured,
            )
            for row, name, label, own in zip(league, names, labels(league), runs, strict=True)
            if row["method"] != UNTRAINED
        ]
        standing.append(League(kind=kind, title=title, rows=league, series=series, runs=runs))
    return standing


def _ages(made: Sequence[tuple[Row, Sequence[Record]]]) -> dict[tuple[str, str], int]:
    """Of the benchmark and hash of every row, how many hashes of that benchmark were run later."""
    last: dict[tuple[str, str], str] = {}
    for row, runs in made:
        edition = _edition(row)
        last[edition] = max(last.get(edition, ""), *(run.environment.started for run in runs))
    return {
        (name, which): sum(other == name and later > when for (other, _), later in last.items())
        for (name, which), when in last.items()
    }


def _edition(row: Row) -> tuple[str, str]:
    return str(row["benchmark"]), str(row["benchmark_hash"])


Name = tuple[str, int]  # a stack, and which of its rows, the best first


def _numbered(league: Sequence[Row]) -> list[Name]:
    methods = [str(row["method"]) for row in league]
    return [(method, methods[:place].count(method)) for place, method in enumerate(methods)]


def _chosen(league: Sequence[Row], names: Sequence[Name]) -> list[Name]:
    """The best that was not told the answers, then those that people know, then the next best."""
    able = [
        (row["method"], name)
        for row, name in zip(league, names, strict=True)
        if row["method"] != UNTRAINED and not row["told"]
    ]
    known = [name for wanted in CHOSEN for method, name in able if method == wanted]
    best = [name for _, name in able]
    return list(dict.fromkeys([*best[:1], *known, *best]))[:MOST_CHOSEN]
