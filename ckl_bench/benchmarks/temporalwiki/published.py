"""The published TWiki-Probes (JSONL) and TWiki-Diffsets (CSV) -> a benchmark of consecutive months."""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ckl_bench.benchmarks.building import described
from ckl_bench.benchmarks.format import Document, Probe, StageRows, write_benchmark
from ckl_bench.benchmarks.lama_sources import schematic_prompt
from ckl_bench.errors import UserError
from ckl_bench.storage.files import read_jsonl

from .build import DEFAULTS
from .texts import chunks, refuse_text

_PERIOD = re.compile(r"(\d{4})-?(\d{4})")
KINDS = ("changed", "unchanged")


def build_from_published(published: Path, out: Path, *, defaults: Mapping[str, Any] = DEFAULTS) -> dict[str, Any]:
    """Published files -> benchmark directory; returns the manifest's counts.

    `MMDD-MMDD_changed.jsonl` and `..._unchanged.jsonl`, anywhere under the folder, are taken as they are; a CSV with a
    `text` column whose name has the same period is its diffset, filtered as the builder from dumps filters. Without any
    diffset the benchmark is for scoring only. Raises UserError for a diffset without probes, for a month with only one
    probe set, and where some months have a diffset and others none.
    """
    probes = _files(published, ".jsonl")
    diffsets = {period: kinds[""] for period, kinds in _files(published, ".csv").items()}
    if not probes:
        raise UserError(
            f"--published {published}: no MMDD-MMDD_changed.jsonl in it; expected the files of TWiki_Probes"
        )
    for period, path in diffsets.items():
        if period not in probes:
            raise UserError(f"{path} has no probes; add {period}_changed.jsonl and {period}_unchanged.jsonl")
    missing = sorted(probes.keys() - diffsets.keys())
    if diffsets and missing:
        raise UserError(f"there is no diffset for {missing[0]}; add its CSV, or take the other diffsets away")
    counts: dict[str, Any] = {}
    stages, files = [], []
    for period, kinds in sorted(probes.items()):
        for kind in KINDS:
            if kind not in kinds:
                raise UserError(f"--published {published}: {period}_{kind}.jsonl is missing beside its other half")
        counts[period] = {}
        sets = {kind: list(_probes(kinds[kind], f"{period}/{kind}", counts[period])) for kind in KINDS}
        files += [*kinds.values(), *([diffsets[period]] if period in diffsets else [])]
        documents = _documents(diffsets[period], period, counts[period]) if period in diffsets else iter(())
        stages.append(StageRows(name=period, documents=documents, probes=sets))
    about = {
        "builder": {"command": "build temporalwiki --published", "arguments": {}},
        "sources": described(files, "CC-BY-SA-3.0"),
        "counts": counts,
        "defaults": dict(defaults),
    }
    write_benchmark(out, name=out.name, kind="temporalwiki", about=about, stages=stages)
    return counts


def _files(folder: Path, suffix: str) -> dict[str, dict[str, Path]]:
    """period -> kind (`changed`, `unchanged`, or nothing for a diffset) -> file."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.rglob(f"*{suffix}")):
        period = _PERIOD.search(path.stem)
        kind = next((k for k in reversed(KINDS) if path.stem.endswith(k)), "") if suffix == ".jsonl" else ""
        if period and (kind or suffix == ".csv"):
            name = f"{period[1]}-{period[2]}"
            if kind in found.setdefault(name, {}):
                raise UserError(f"{path} and {found[name][kind]} are both {kind or 'a diffset'} of {name}; keep one")
            found[name][kind] = path
    return found


def _probes(path: Path, prefix: str, counts: dict[str, Any]) -> Iterator[Probe]:
    """Probes as published, but for repeated rows, and objects that a prompt cannot ask for; both are counted."""
    seen: set[tuple[str, str, str]] = set()
    refused: Counter[str] = Counter()
    for number, row in read_jsonl(path):
        try:
            own = (row["subject"], row["relation"], row["object"])
        except KeyError as error:
            raise UserError(f"{path}:{number}: {error} is missing; expected subject, relation and object") from error
        if not all(isinstance(part, str) for part in own):
            raise UserError(f"{path}:{number}: expected text for subject, relation and object, found {row}")
        if own in seen or not own[2].strip():
            refused["repeated" if own in seen else "empty object"] += 1
            continue
        seen.add(own)
        prompt = schematic_prompt(*own)
        yield Probe(id=f"{prefix}-{number}", prompt=prompt, object=own[2], subject=own[0], relation=own[1])
    counts[path.stem] = {"kept": len(seen), "refused": dict(refused)}


def _documents(path: Path, period: str, counts: dict[str, Any]) -> Iterator[Document]:
    """The texts of a diffset that pass the filters, cut to length."""
    refused: Counter[str] = Counter()
    counts["documents"], counts["documents_refused"] = 0, refused
    csv.field_size_limit(min(sys.maxsize, 1 << 28))
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            if "text" not in (rows.fieldnames or ()):
                raise UserError(f"{path} has no column 'text' (it has {', '.join(rows.fieldnames or ['none'])})")
            for number, row in enumerate(rows, 2):
                for part, text in enumerate(chunks((row["text"] or "").split("\n"))):
                    reason = refuse_text(text)
                    if reason:
                        refused[reason] += 1
                    else:
                        counts["documents"] += 1
                        yield Document(id=f"{period}/{number}-{part}", text=text)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}; fetch it again") from error
