"""A benchmark directory as the tables that others' tools see: a config a kind of row, a split a file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ckl_bench.storage.files import read_jsonl

CONFIGS = ("documents", "probes", "attention", "rehearsal")
FACT = ("subject", "relation", "object", "surface")
NESTED = {"fact": False, "more_facts": True}  # columns that hold facts: one, or a list


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file of a benchmark that has rows."""

    config: str
    split: str
    file: str  # its path in the benchmark directory
    rows: int
    columns: tuple[str, ...]  # those that some row has, in their order


def parts(folder: Path, manifest: Mapping[str, Any], kinds: Mapping[str, type]) -> list[Part]:
    """The files of a benchmark that have rows, documents first; `kinds` says what a config's rows are.

    Splits are named by the stage (documents), by the probe set where there is one stage, by both where there are
    several, `train` where there is one file; what `datasets` allows in no split's name becomes `_`. A file without rows
    is left out: `datasets` reads none.
    """
    found = []
    for config, split, file in _files(manifest):
        rows, columns = _seen(folder / file, [field.name for field in fields(kinds[config])])
        if rows:
            found.append(Part(config=config, split=split, file=file, rows=rows, columns=columns))
    return sorted(found, key=lambda part: CONFIGS.index(part.config))


def _files(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Config, split and path of every table that a manifest names."""
    stages = manifest["stages"]
    splits = probe_splits([(stage["name"], stage["probe_sets"]) for stage in stages])
    taken: set[str] = set()
    for stage in stages:
        yield "documents", _free(_plain(stage["name"]), taken), f"{stage['folder']}/documents.jsonl"
        for name in stage["probe_sets"]:
            yield "probes", splits[stage["name"], name], f"{stage['folder']}/probes-{name}.jsonl"
    yield "attention", "train", "attention/train.jsonl"
    yield "rehearsal", "train", "rehearsal.jsonl"


def probe_splits(stages: Sequence[tuple[str, Sequence[str]]]) -> dict[tuple[str, str], str]:
    """The split of every probe set, by stage and set: the set's name, behind its stage's where there are several."""
    taken: set[str] = set()
    return {
        (stage, name): _free(f"{_plain(stage)}.{_plain(name)}" if len(stages) > 1 else _plain(name), taken)
        for stage, names in stages
        for name in names
    }


def _plain(name: str) -> str:
    plain = re.sub(r"\W+", "_", name) or "_"
    return f"{plain}_" if plain == "all" else plain  # `all` asks `datasets` for every split


def _free(wanted: str, taken: set[str]) -> str:
    """The name, or the first numbered one that is not taken yet, and is now: two may differ in a sign alone."""
    number, name = 1, wanted
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name


def _seen(path: Path, order: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    count, seen = 0, set[str]()
    for _, row in read_jsonl(path):
        count += 1
        seen |= row.keys()
    return count, tuple(name for name in order if name in seen)
