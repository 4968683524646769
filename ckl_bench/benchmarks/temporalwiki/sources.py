"""Which files make up which snapshot: part files by the date in their names, folders of them; their hashes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ckl_bench.benchmarks.building import described
from ckl_bench.errors import UserError
from ckl_bench.storage.files import read_json
from ckl_bench.storage.writing import write_json

# Not the page numbers of a part's name (`pages-articles27.xml-p20010102p20110101`).
_DATE = re.compile(r"(?<![\dp])((?:19|20)\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)")
_KIND = re.compile(r".*\.(xml|json|sql)(-p\d+p\d+)?(\.gz|\.bz2)?")
# Wikis whose name is not the code of their language.
_LANGUAGES = {"simple": "en", "no": "nb", "als": "gsw", "be_x_old": "be-tarask", "zh_yue": "yue", "zh_min_nan": "nan"}


def is_xml(path: Path) -> bool:
    """Whether a dump is XML by its name: `...xml`, `...xml.bz2`, or a part such as `...xml-p1p441397.bz2`."""
    named = _KIND.fullmatch(path.name)
    return named is not None and named[1] == "xml"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The files of one snapshot, and its date (year, month, day), where a name has one."""

    date: tuple[int, int, int] | None
    wikipedia: Sequence[Path]
    wikidata: Sequence[Path]
    page_props: Sequence[Path] = ()


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Dumps of consecutive snapshots, the oldest first; `page_props` where items are not found by sitelinks.

    Files of one date are the parts of one snapshot, and so are the files of one folder.
    """

    wikipedia: Sequence[Path]
    wikidata: Sequence[Path]
    page_props: Sequence[Path] = ()
    wiki: str = "enwiki"
    language: str = ""
    licence: str = "CC-BY-SA-4.0 (Wikipedia), CC0-1.0 (Wikidata)"

    @property
    def languages(self) -> tuple[str, ...]:
        """Where labels are looked for, in turn: the language, what it is a variety of (de-at: de), and `mul`.

        Not English after that: a German probe with an English relation would be asked in two languages.
        """
        code = (self.language or language_of(self.wiki)).lower()
        parts = code.split("-")
        return (*("-".join(parts[:n]) for n in range(len(parts), 0, -1)), "mul")

    @property
    def files(self) -> list[Path]:
        """Every dump."""
        groups = (*_groups(self.wikipedia), *_groups(self.wikidata), *_groups(self.page_props))
        return [path for _, paths in groups for path in paths]

    def snapshots(self) -> list[Snapshot]:
        """The snapshots; UserError where the files do not fit together."""
        wikipedia, wikidata, props = map(_groups, (self.wikipedia, self.wikidata, self.page_props))
        number = len(wikipedia)
        if number < 2:
            raise UserError("--wikipedia needs two snapshots or more, the oldest first: --wikipedia OLD NEW")
        if len(wikidata) != number:
            raise UserError(
                f"--wikipedia has {number} snapshots and --wikidata {len(wikidata)}; give one of each a month "
                "(files of one date, or of one folder, are parts of one snapshot)"
            )
        if props and len(props) != number:
            raise UserError(f"--page-props has {len(props)} files, expected one a snapshot ({number})")
        for option, groups in (("--wikipedia", wikipedia), ("--wikidata", wikidata), ("--page-props", props)):
            for (old, before), (new, after) in pairwise(groups):
                if old and new and old > new:
                    raise UserError(f"{option}: {before[0].name} is later than {after[0].name}; give the oldest first")
        return [
            Snapshot(
                date=wikidata[i][0] or wikipedia[i][0],
                wikipedia=wikipedia[i][1],
                wikidata=wikidata[i][1],
                page_props=props[i][1] if props else (),
            )
            for i in range(number)
        ]

    def names(self) -> list[str]:
        """A pair's name: `0901-1001` from the dates in the Wikipedia dumps' names, the whole dates where years differ.

        `1-2` where they have none.
        """
        dates = [date for date, _ in _groups(self.wikipedia)]
        known = [date for date in dates if date]
        whole = len({year for year, _, _ in known}) > 1
        marks = [str(i) for i in range(1, len(dates) + 1)]
        if len(known) == len(dates):
            marks = [(f"{y:04d}" if whole else "") + f"{m:02d}{d:02d}" for y, m, d in known]
        return [f"{old}-{new}" for old, new in pairwise(marks)]


def language_of(wiki: str) -> str:
    """The language of a wiki by its name: `de` of `dewiki`."""
    name = wiki.removesuffix("wiki")
    return _LANGUAGES.get(name, name.replace("_", "-"))


Group = tuple[tuple[int, int, int] | None, list[Path]]


def _groups(paths: Sequence[Path]) -> list[Group]:
    """(date, files) of every snapshot, in the order in which they are given."""
    found: list[Group] = []
    for path in paths:
        files, date = list(_inside(path)), _date(path)
        if path.is_dir():
            dates = {_date(file) for file in files}
            if len(dates) > 1:
                raise UserError(f"{path} has dumps of several dates; give a folder a snapshot, or the files themselves")
            date = dates.pop() or date
        for known, others in found:
            again = next((file for file in files if file in others), None)
            if again:
                raise UserError(f"{again} is given twice; give every snapshot's files once, the oldest first")
            if date and known == date:
                others += files
                break
        else:
            found.append((date, files))
    return found


def _inside(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        if not path.is_file():
            raise UserError(f"there is no file {path}; give the dumps as they were downloaded")
        yield path
        return
    files = [file for file in path.iterdir() if _KIND.fullmatch(file.name) and file.is_file()]
    if not files:
        raise UserError(
            f"{path} has no dump (.xml, .json or .sql, packed or not); give the files as they were downloaded"
        )
    yield from sorted(files, key=lambda file: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", file.name)])


def _date(path: Path) -> tuple[int, int, int] | None:
    """The date in a dump's name, or in the name of the folder it lies in, as Wikimedia's server has them."""
    found = _DATE.search(path.name) or _DATE.fullmatch(path.absolute().parent.name)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def hashed(files: Sequence[Path], licence: str, known: Path) -> list[dict[str, str]]:
    """What a manifest says of its sources (`described`); a file is read once, unless its size or time has changed.

    `known` is the file in which (size, time, hash) are kept: hashing two full months takes longer than some builds.
    """
    kept: dict[str, list[object]] = {}
    if known.is_file():
        try:
            kept = dict(read_json(known))
        except (UserError, TypeError, ValueError):
            kept = {}  # damaged: everything is read again
    found = []
    for path in files:
        name, stat = str(path.resolve()), path.stat()
        own = kept.get(name)
        if not (isinstance(own, list) and own[:2] == [stat.st_size, stat.st_mtime_ns] and len(own) == 3):
            (one,) = described([path], licence)
            own = kept[name] = [stat.st_size, stat.st_mtime_ns, one["sha256"]]
            known.parent.mkdir(parents=True, exist_ok=True)
            write_json(known, kept)
        found.append({"file": path.name, "sha256": str(own[2]), "licence": licence})
    return found
