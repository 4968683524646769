"""Which of the files that the authors of TemporalWiki, of its datasets and of TAALM ship are a month's, and for what.

probes      0801-0901_changed.jsonl or .csv (also 1001_1101_changed); 20210801_20210901/changed/final_changed_item.scv
diffsets    wikipedia_0809_gpt2.csv, wikipedia_20210801_20210901_gpt2.csv, diffset_0809_filtered.jsonl, 0801-0901.csv
            wikipedia_0809_subset.csv: the same changes, an article a row
attention   train_attention_traindata_0809.jsonl
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ckl_bench.errors import UserError
from ckl_bench.storage.files import sha256_file

KINDS = ("changed", "unchanged")
Diffset = Literal["whole", "subset"]
Day = tuple[int, int, int]  # year (0 where it is not said), month, day
Period = tuple[Day, Day]

_DATES = re.compile(r"(?<!\d)(\d{4})(\d\d)(\d\d)[-_](\d{4})(\d\d)(\d\d)(?!\d)")
_DAYS = re.compile(r"(?<!\d)(\d\d)(\d\d)[-_]?(\d\d)(\d\d)(?!\d)")
_MONTHS = re.compile(r"(?<!\d)(\d\d)(\d\d)(?!\d)")
_KIND = re.compile(r"(?:^|[_-])(changed|unchanged)(?:$|[_-]item$)")
_TABLES = (".csv", ".scv", ".tsv", ".jsonl")  # `.scv` is how the datasets' own code spells it
_FORMS = ("jsonl", "csv", "scv", "tsv")  # which is taken where the same probes are there in several
_NEUTRAL = {"wikipedia", "diffset", "diffsets", "diff", "twiki", "temporalwiki"}
_WHOLE = ("gpt2", "filtered", "")  # which is taken of the diffsets cut to length; "" has a period for its name


@dataclass(kw_only=True)
class Published:
    """The files of a published folder, by period in time's order, and why the others are not used."""

    probes: dict[Period, dict[str, Path]] = field(default_factory=dict)  # kind -> file
    diffsets: dict[Period, Path] = field(default_factory=dict)
    attention: list[Path] = field(default_factory=list)
    unused: dict[Path, str] = field(default_factory=dict)


def find_published(folder: Path, diffset: Diffset | None = None, score_only: bool = False) -> Published:
    """The published files under `folder`; `diffset` asks for the diffsets cut to length or for those of whole articles.

    Without it the former are taken where they are there. Raises UserError where two files could be meant, a period's
    year is unclear, or the diffset asked for is missing beside the other.
    """
    found = Published()
    probes: dict[Period, dict[str, list[Path]]] = {}
    diffsets: dict[Period, dict[str, list[Path]]] = {}
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _hidden(path, folder)]
    for path in files:
        period = _period(path, folder)
        kind, cut = _kind(path), _diffset(path)
        if path.suffix.lower() not in _TABLES:
            found.unused[path] = "neither .csv, .tsv nor .jsonl"
        elif path.stem.startswith("train_attention_traindata"):
            found.attention.append(path)
        elif period is None:
            found.unused[path] = "no period in its name"
        elif kind is not None:
            probes.setdefault(period, {}).setdefault(kind, []).append(path)
        elif cut is None:
            found.unused[path] = "neither probes nor a diffset by its name"
        elif score_only:
            found.unused[path] = "--score-only reads probes alone"
        else:
            diffsets.setdefault(period, {}).setdefault(cut, []).append(path)
    same = _years(probes.keys() | diffsets.keys())
    for period, kinds in probes.items():
        for kind, paths in kinds.items():
            _put(found.probes.setdefault(same[period], {}), kind, paths, found.unused)
    chosen: dict[Period, dict[str, Path]] = {}
    for period, every in diffsets.items():
        for form, paths in every.items():
            _put(chosen.setdefault(same[period], {}), form, paths, found.unused)
    for period, forms in chosen.items():
        found.diffsets[period] = _choose(forms, diffset, found.unused)
    order = in_time(found.probes.keys() | found.diffsets.keys())
    found.probes = {period: found.probes[period] for period in order if period in found.probes}
    found.diffsets = {period: found.diffsets[period] for period in order if period in found.diffsets}
    return found


def named(period: Period, whole: bool) -> str:
    """A period's name: `0801-0901`, or `20210801-20210901` with its `whole` dates."""
    return "-".join((f"{y:04d}" if whole else "") + f"{m:02d}{d:02d}" for y, m, d in period)


def in_time(periods: Iterable[Period]) -> list[Period]:
    """Periods in the order of time; where no year is said the longest time without any lies before the first one."""
    order = sorted(periods)
    if any(old[0] for old, _ in order):
        return order

    def gap(index: int) -> int:
        (_, before), (after, _) = order[index - 1], order[index]
        return (after[1] * 31 + after[2] - before[1] * 31 - before[2]) % (12 * 31)

    first = max(range(len(order)), key=lambda index: (gap(index), -index), default=0)
    return order[first:] + order[:first]


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)


def _period(path: Path, folder: Path) -> Period | None:
    """The period in a file's name, or else in the name of the nearest folder that has one."""
    for name in (path.stem, *reversed(path.relative_to(folder).parts[:-1])):
        if match := _DATES.search(name):
            year, month, day, *new = map(int, match.groups())
            period = (year, month, day), (new[0], new[1], new[2])
        elif match := _DAYS.search(name):
            a, b, c, d = map(int, match.groups())
            period = (0, a, b), (0, c, d)
        elif match := _MONTHS.search(name):
            period = (0, int(match[1]), 1), (0, int(match[2]), 1)
        else:
            continue
        if all(1 <= month <= 12 and 1 <= day <= 31 for _, month, day in period) and period[0] != period[1]:
            return period
    return None


def _kind(path: Path) -> str | None:
    """Which probes a file holds by its name; None where it holds none."""
    if path.stem.startswith(("wikipedia", "filtered", "total", "lighttuning")):
        return None  # articles that did not change; facts before their last filter
    match = _KIND.search(path.stem)
    return match[1] if match else None


def _diffset(path: Path) -> str | None:
    """Which form of a diffset a file is by its name: `gpt2`, `filtered`, `subset`, or a bare period; None for none."""
    words = [word for word in re.split(r"[-_.\s]+", path.stem.lower()) if not word.isdigit() and word not in _NEUTRAL]
    form = " ".join(words)
    return form if form in (*_WHOLE, "subset") and path.suffix.lower() != ".scv" else None


def _put(into: dict[str, Path], name: str, paths: list[Path], unused: dict[Path, str]) -> None:
    """One file of several that are the same thing; UserError where they are not."""
    paths = sorted([*paths, *([into[name]] if name in into else [])], key=lambda p: _FORMS.index(p.suffix.lower()[1:]))
    into[name] = paths[0]
    for other in paths[1:]:
        if other.suffix.lower() == paths[0].suffix.lower() and sha256_file(other) != sha256_file(paths[0]):
            raise UserError(f"{other} and {paths[0]} are both {name or 'a diffset'} of one period; keep one")
        unused[other] = f"{paths[0].name} is taken"


def _choose(forms: Mapping[str, Path], asked: Diffset | None, unused: dict[Path, str]) -> Path:
    """The diffset of a period in the form that is asked for."""
    whole = next((form for form in _WHOLE if form in forms), None)
    subset = "subset" if "subset" in forms else None
    form = subset if asked == "subset" or (asked is None and whole is None) else whole
    if form is None:
        raise UserError(
            f"--diffset {asked}: there is only {next(iter(forms.values()))}; add the other file, or leave --diffset out"
        )
    unused |= {path: f"{forms[form].name} is taken" for name, path in forms.items() if name != form}
    return forms[form]


def _years(periods: Iterable[Period]) -> dict[Period, Period]:
    """Each period, with the years that another file says of the same days; UserError where two could be meant."""
    full: dict[Period, list[Period]] = {}
    for old, new in periods:
        if old[0]:
            full.setdefault(((0, *old[1:]), (0, *new[1:])), []).append((old, new))
    same = {}
    for period in periods:
        years = full.get(period, [])
        if len(years) > 1:
            both = " or ".join(named(year, whole=True) for year in sorted(years))
            raise UserError(f"{named(period, whole=False)}: {both}? Give the files of both years whole dates")
        same[period] = years[0] if years else period
    mixed = {bool(period[0][0]) for period in same.values()}
    if len(mixed) > 1:
        bare = next(named(period, whole=False) for period in same.values() if not period[0][0])
        raise UserError(f"{bare}: of which year? Others have whole dates; give its files such a name too")
    return same
