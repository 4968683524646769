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
    found: list[Part] = []
    for config, wanted, file in _files(manifest):
        rows, columns = _seen(folder / file, [field.name for field in fields(kinds[config])])
        if rows:
            split = _free(wanted, {part.split for part in found if part.config == config})
            found.append(Part(config=config, split=split, file=file, rows=rows, columns=columns))
    return sorted(found, key=lambda part: CONFIGS.index(part.config))


def _files(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Config, split and path of every table that a manifest names."""
    several = len(manifest["stages"]) > 1
    for stage in manifest["stages"]:
        name = _plain(stage["name"])
        yield "documents", name, f"{stage['folder']}/documents.jsonl"
        for probes in stage["probe_sets"]:
            split = f"{name}.{_plain(probes)}" if several else _plain(probes)
            yield "probes", split, f"{stage['folder']}/probes-{probes}.jsonl"
    yield "attention", "train", "attention/train.jsonl"
    yield "rehearsal", "train", "rehearsal.jsonl"


def _plain(name: str) -> str:
    plain = re.sub(r"\W+", "_", name) or "_"
    return f"{plain}_" if plain == "all" else plain  # `all` asks `datasets` for every split


def _free(wanted: str, taken: set[str]) -> str:
    """The name, or the first numbered one that is not taken: two stages may differ in a sign alone."""
    number, name = 1, wanted
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def _seen(path: Path, order: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    count, seen = 0, set[str]()
    for _, row in read_jsonl(path):
        count += 1
        seen |= row.keys()
    return count, tuple(name for name in order if name in seen)
