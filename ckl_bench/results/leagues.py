"""Which rows of a table may be ranked against each other, and the settings that tell its rows apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby

from ckl_bench.records import Record
from ckl_bench.results.differences import OF_TRAINING, SETTINGS, SHORT, UNTRAINED, shown
from ckl_bench.results.rows import Row
from ckl_bench.spec import SCHEMA, Spec

_TYPED = {long: short for short, long in SHORT.items()}


def league(row: Row) -> tuple[str, str, str, str, int, int]:
    """What rows must share to be ranked against each other: benchmark, model, how much of it, and for how long."""
    names = (str(row[name]) for name in ("benchmark", "benchmark_hash", "model", "model_revision"))
    benchmark, benchmark_hash, model, revision = names
    return benchmark, benchmark_hash, model, revision, row["limit"] or 0, row["epochs"]


def leagues(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows that come sorted by league, league by league."""
    return [list(group) for _, group in groupby(rows, key=league)]


def titles(made: Sequence[Sequence[Row]]) -> list[str]:
    """What each league is called: benchmark and model, and where several share these, what tells them apart.

    Records of an older schema are named as such: less is known of them.
    """
    plain = [f"{rows[0]['benchmark']} · {rows[0]['model']}" for rows in made]
    found = []
    for name, rows in zip(plain, made, strict=True):
        first = rows[0]
        long = "scored only" if first.get("scored_only") else f"{first['epochs']} epochs"
        which = f", {long}, benchmark {first['benchmark_hash'][:8]}" if plain.count(name) > 1 else ""
        old = sorted({row["schema_version"] for row in rows} - {SCHEMA, None})
        which += f", records of schema {' and '.join(map(str, old))}" if old else ""
        found.append(name + which + (f", first {first['limit']} of every set: a try" if first["limit"] else ""))
    return found


def ranks(rows: Sequence[Row], best_first: Callable[[Row], float]) -> list[int | None]:
    """The place of every row of one league; rows that agree to four decimals share the better one ("1, 2, 2, 4").

    A row that was told the answers has none: the others are not to be measured against it. Nor has a model that was
    scored only, of which nobody knows what it has read.
    """
    values = [None if row["told"] or row.get("scored_only") else round(best_first(row), 4) for row in rows]
    ranked = [value for value in values if value is not None]
    return [None if value is None else 1 + sum(other < value for other in ranked) for value in values]


Question = tuple[str, str, str, int | None]


def question(spec: Spec) -> Question:
    """What the untrained model's scores depend on: benchmark hash, model revision, dtype and limit."""
    return spec.benchmark_hash, spec.model_revision, spec.dtype, spec.limit


def untrained(records: Iterable[Record]) -> Mapping[Question, list[Record]]:
    """Runs of the method that does nothing, by `question`."""
    found: dict[Question, list[Record]] = {}
    for record in records:
        if record.spec.method == UNTRAINED and record.status == "done":
            found.setdefault(question(record.spec), [])[:] = [record]
    return found


def labels(rows: Sequence[Row]) -> list[str]:
    """A name for every row of one table: its method, with each setting in which it differs from most of the others.

    `finetune@lr=5e-5` is also what `compare` takes. Rows that would still share a name, as those that read another φ
    or are of an edited plugin, say in what they differ; those of an older schema alone, that they are.
    """
    every, usual = _every(rows), _usual(rows)
    telling = [
        {name for name, value in usual.items() if _says(row, name) and own[name] != value}
        for row, own in zip(rows, every, strict=True)
    ]
    same: dict[str, list[int]] = {}
    for i, label in enumerate(_written(rows, every, telling)):
        same.setdefault(label, []).append(i)
    newest = max((row["schema_version"] for row in rows), default=None)
    for alike in same.values():
        names = _differing([every[i] for i in alike])
        for i in alike if len(alike) > 1 else ():
            telling[i] |= names or ({"schema_version"} if rows[i]["schema_version"] != newest else set())
    return _written(rows, every, telling)


def without_settings(label: str, every: Sequence[str], width: int) -> str:
    """A label of more than `width` characters without its hyperparameters, where these do not tell it from the others.

    `restate(statements=4,keep=8.0)` is `restate(…)` then.
    """

    def short(one: str) -> str:
        return re.sub(r"\([^()]*\)", "(…)", one)

    alone = len({other for other in every if short(other) == short(label)} | {label}) == 1
    return short(label) if len(label) > width and alone else label


def unsaid(rows: Sequence[Row]) -> str:
    """What the settings that some of these rows have in their label are where a label has none: `lr=2e-4,batch=8`."""
    every, usual = _every(rows), _usual(rows)
    texts = {name: shown(name, [value, *(own[name] for own in every)])[0] for name, value in usual.items()}
    told = [
        n for n, v in usual.items() if any(_says(row, n) and own[n] != v for row, own in zip(rows, every, strict=True))
    ]
    return ",".join(f"{_typed(name)}={texts[name]}" for name in told if name != "limit")


def _every(rows: Sequence[Row]) -> list[Mapping[str, object]]:
    return [row.get("settings") or {name: row.get(name) for name in SETTINGS} for row in rows]


def _usual(rows: Sequence[Row]) -> dict[str, object]:
    """The value of each setting that most rows have; a try always says that it is one."""
    found: dict[str, object] = {"limit": None}
    every = _every(rows)
    for name in SETTINGS:
        counted = Counter(own[name] for row, own in zip(rows, every, strict=True) if _says(row, name))
        if name not in ("limit", "schema_version") and counted:
            found[name] = counted.most_common(1)[0][0]
    return {name: found[name] for name in SETTINGS if name in found}


def _says(row: Row, name: str) -> bool:
    """Whether a row's setting tells anything: not what its record lacks (an older schema), nor what was not used."""
    return row.get(name) is not None and not (name in OF_TRAINING and _idle(row))


def _idle(row: Row) -> bool:
    return bool(row["method"] == UNTRAINED) or bool(row.get("scored_only"))


def _differing(every: Sequence[Mapping[str, object]]) -> set[str]:
    """The settings in which some of these differ; a tokenizer's hash that an older record lacks is no difference."""
    found = set()
    for name in {name for own in every for name in own} - {"schema_version"}:
        values = [own.get(name) for own in every]
        known = [value for value in values if value is not None] if name == "tokenizer_hash" else values
        if any(value != known[0] for value in known):
            found.add(name)
    return found


def _written(
    rows: Sequence[Row], every: Sequence[Mapping[str, object]], telling: Sequence[Collection[str]]
) -> list[str]:
    """The labels of rows: each method, with the settings that are to be told of it."""
    names = [*SETTINGS, *sorted({name for own in telling for name in own} - set(SETTINGS))]
    texts = {name: shown(name, [own.get(name) for own in every]) for name in names}
    made = []
    for i, row in enumerate(rows):
        own = [f"{_typed(name)}={texts[name][i]}" for name in names if name in telling[i]]
        made.append(str(row["method"]) + ("@" + ",".join(own) if own else ""))
    return made


def _typed(name: str) -> str:
    """A setting's name as it may be typed behind an `@`."""
    return _TYPED.get(name, name).removeprefix("inputs.")
