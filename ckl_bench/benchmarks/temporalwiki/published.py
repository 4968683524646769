"""The published TWiki-Probes and TWiki-Diffsets, as their authors ship them -> a benchmark of consecutive months."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ckl_bench.benchmarks.building import described
from ckl_bench.benchmarks.format import AttentionDocument, Document, Fact, Probe, StageRows, write_benchmark
from ckl_bench.benchmarks.lama_sources import schematic_prompt
from ckl_bench.benchmarks.statements import Statements
from ckl_bench.errors import UserError
from ckl_bench.progress import log
from ckl_bench.storage.files import read_jsonl
from ckl_bench.words import names

from .build import DEFAULTS
from .published_files import KINDS, Diffset, Published, find_published, named
from .texts import chunks, refuse_text

_NAMED = 20  # files that are not used, each by its name
Numbered = Iterator[tuple[int, Mapping[str, Any]]]


def build_from_published(
    published: Path,
    out: Path,
    *,
    diffset: Diffset | None = None,
    score_only: bool = False,
    defaults: Mapping[str, Any] = DEFAULTS,
) -> dict[str, Any]:
    """Published files -> benchmark directory; returns the manifest's counts.

    Which files are read, and which of several, is in `find_published`. Probes are taken as they are; a diffset is
    filtered as the builder from dumps filters. With `score_only` no document is read, and nothing can be learned.
    Raises UserError for a diffset without probes, a month with only one probe set, a month without documents.
    """
    found = find_published(published, diffset, score_only)
    for path, why in list(found.unused.items())[:_NAMED]:
        log(f"not used: {path.relative_to(published)} ({why})")
    if len(found.unused) > _NAMED:
        log(f"not used: {len(found.unused) - _NAMED} other files")
    stage_names = _complete(published, found, score_only)
    counts: dict[str, Any] = {}
    stages, files = [], []
    for period, name in stage_names.items():
        counts[name] = {}
        kinds = found.probes[period]
        sets = {kind: list(_probes(kinds[kind], f"{name}/{kind}", counts[name])) for kind in KINDS}
        files += [*kinds.values(), *([found.diffsets[period]] if period in found.diffsets else [])]
        documents = iter(()) if score_only else _documents(found.diffsets[period], name, counts[name])
        stages.append(StageRows(name=name, documents=documents, probes=sets))
    probed = [probe for stage in stages for probes in stage.probes.values() for probe in probes]
    arguments = ({"diffset": diffset} if diffset else {}) | ({"score_only": True} if score_only else {})
    about = {
        "builder": {"command": "build temporalwiki --published", "arguments": arguments},
        "sources": described([*files, *found.attention], "CC-BY-SA-3.0"),
        "counts": counts,
        "defaults": dict(defaults),
    }
    attention = _attention(found.attention, probed, counts)
    write_benchmark(
        out,
        name=out.name,
        kind="temporalwiki",
        about=about,
        stages=stages,
        attention=attention,
        score_only=score_only,
    )
    return counts


def _complete(folder: Path, found: Published, score_only: bool) -> dict[Any, str]:
    """The names of the periods, each of which has both probe sets and, unless only scored, documents."""
    if not found.probes:
        raise UserError(
            f"--published {folder}: no MMDD-MMDD_changed.jsonl or .csv in it; expected the files of TWiki_Probes"
        )
    periods = found.probes.keys() | found.diffsets.keys()
    whole = len({day[0] for period in periods for day in period}) > 1
    stage_names = {period: named(period, whole) for period in found.probes}
    for period, path in found.diffsets.items():
        if period not in found.probes:
            name = named(period, whole)
            raise UserError(f"{path} has no probes; add {name}_changed.jsonl and {name}_unchanged.jsonl")
    for period, kinds in found.probes.items():
        for kind in KINDS:
            if kind not in kinds:
                raise UserError(
                    f"--published {folder}: {stage_names[period]}_{kind}.jsonl is missing beside its other half"
                )
        if period not in found.diffsets and not score_only:
            raise UserError(
                f"there is no diffset for {stage_names[period]}, so that nothing could be learned in it; add its CSV, "
                "or give --score-only"
            )
    return stage_names


def _probes(path: Path, prefix: str, counts: dict[str, Any]) -> Iterator[Probe]:
    """Probes as published, but for repeated rows, and objects that a prompt cannot ask for; both are counted."""
    seen: set[tuple[str, str, str]] = set()
    refused: Counter[str] = Counter()
    for number, row in _rows(path, "subject", "relation"):
        own = _triple(row, f"{path}:{number}")
        if own in seen or not own[2].strip():
            refused["repeated" if own in seen else "empty object"] += 1
            continue
        seen.add(own)
        prompt = schematic_prompt(*own)
        yield Probe(id=f"{prefix}-{number}", prompt=prompt, object=own[2], subject=own[0], relation=own[1])
    if not seen:
        raise UserError(f"{path} holds no probe; expected rows with subject, relation and object")
    counts[path.stem] = {"kept": len(seen), "refused": dict(refused)}


def _triple(row: Mapping[str, Any], where: str) -> tuple[str, str, str]:
    """Subject, relation and object; the datasets' own code calls the last one `objective`."""
    names_of = ("subject", "relation", "object" if "object" in row else "objective")
    for name in names_of:
        if name not in row:
            raise UserError(f"{where}: '{name}' is missing; expected subject, relation and object")
    values = [row[name] for name in names_of]
    if not all(isinstance(value, str) for value in values):
        raise UserError(f"{where}: expected text for subject, relation and object, found {dict(row)}")
    return values[0], values[1], values[2]


def _documents(path: Path, period: str, counts: dict[str, Any]) -> Iterator[Document]:
    """The texts of a diffset that pass the filters, cut to length; a title is joined to its text, as the authors do."""
    refused: Counter[str] = Counter()
    counts["documents"], counts["documents_refused"] = 0, refused
    for number, row in _rows(path, "text"):
        text, title = row["text"] or "", row.get("title")
        if not isinstance(text, str):
            raise UserError(f"{path}:{number}: expected a text 'text', found {text!r}")
        whole = f"{title}. {text}" if title and text.strip() else text
        for part, piece in enumerate(chunks(whole.split("\n"))):
            reason = refuse_text(piece)
            if reason:
                refused[reason] += 1
            else:
                counts["documents"] += 1
                yield Document(id=f"{period}/{number}-{part}", text=piece)
    if not counts["documents"]:
        why = ", ".join(f"{count} {reason}" for reason, count in refused.items()) or "it has no row"
        raise UserError(f"{path}: no text in it is a document ({why}); give a diffset that has some, or --score-only")


def _attention(paths: Iterable[Path], probed: Iterable[Probe], counts: dict[str, Any]) -> Iterator[AttentionDocument]:
    """The published pairs that train φ, but for those that do not name their object or that state a probed fact."""
    asked: Statements | None = None
    for path in paths:
        if asked is None:
            asked = Statements(Fact(subject=p.subject, relation=p.relation, object=p.object) for p in probed)
        refused: Counter[str] = Counter()
        kept = counts[path.stem] = {"kept": 0, "refused": refused}
        for number, row in _rows(path, "text"):
            own, text = _triple(row, f"{path}:{number}"), row["text"]
            if not isinstance(text, str):
                raise UserError(f"{path}:{number}: expected a text 'text', found {text!r}")
            if not names(text, own[2]):
                refused["object not in the text"] += 1
            elif asked.stated_in(text):
                refused["states a probed fact"] += 1
            else:
                kept["kept"] += 1
                fact = Fact(subject=own[0], relation=own[1], object=own[2])
                prompt = schematic_prompt(*own)
                yield AttentionDocument(id=f"{path.stem}/{number}", text=text, fact=fact, prompt=prompt)


def _rows(path: Path, *columns: str) -> Numbered:
    """(line, row) of a JSONL file, or one of columns by commas, semicolons or tabs, whose rows have these `columns`."""
    if path.suffix.lower() == ".jsonl":
        for number, row in read_jsonl(path):
            if missing := [name for name in columns if name not in row]:
                raise UserError(f"{path}:{number}: '{missing[0]}' is missing")
            yield number, row
        return
    csv.field_size_limit(min(sys.maxsize, 1 << 28))
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            rows = csv.DictReader(file, strict=True, delimiter=max(",;\t", key=head.count))
            header = [name.strip().lower() for name in rows.fieldnames or () if name is not None]
            if missing := [name for name in columns if name not in header]:
                raise UserError(f"{path} has no column '{missing[0]}' (it has {', '.join(header) or 'none'})")
            rows.fieldnames = header
            yield from enumerate(rows, 2)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}; fetch it again") from error
