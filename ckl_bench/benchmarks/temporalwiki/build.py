"""Snapshots of Wikipedia and Wikidata -> a benchmark of consecutive months (Jang et al. 2022; paper, section 4.2)."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from ckl_bench.benchmarks.building import building, built, described
from ckl_bench.benchmarks.format import AttentionDocument, Document, Probe, StageRows, write_benchmark
from ckl_bench.benchmarks.lama_sources import schematic_prompt
from ckl_bench.errors import CklError, UserError
from ckl_bench.progress import log
from ckl_bench.storage.json import sha256_json

from . import ingest
from .facts import candidates, changed_pages, connect, diff_texts
from .select import Caps, Chosen, Key, choose, fact, key
from .shards import Row, batches, counts_of
from .texts import chunks, refuse_text
from .workers import workers

DEFAULTS: Mapping[str, Any] = {"epochs": 1, "batch_size": 64, "learning_rate": 1e-4}
VERSION = 2  # of the intermediate files: another one starts anew


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Dumps of consecutive snapshots, the oldest first; `page_props` where items are not found by sitelinks."""

    wikipedia: Sequence[Path]
    wikidata: Sequence[Path]
    page_props: Sequence[Path] = ()
    wiki: str = "enwiki"
    licence: str = "CC-BY-SA-4.0 (Wikipedia), CC0-1.0 (Wikidata)"

    @property
    def files(self) -> list[Path]:
        """Every dump."""
        return [*self.wikipedia, *self.wikidata, *self.page_props]


@dataclass(frozen=True, kw_only=True)
class Month:
    """What a pair of snapshots gave."""

    name: str
    diff: Path
    found: Path
    counts: dict[str, Any] = field(default_factory=dict)


def build_from_dumps(
    sources: Sources,
    out: Path,
    *,
    caps: Caps,
    attention_months: int | None = None,
    defaults: Mapping[str, Any] = DEFAULTS,
    memory_mb: int = 2000,
    work: Path | None = None,
) -> dict[str, Any]:
    """Dumps -> benchmark directory; returns the manifest's counts. A stopped build, given again, goes on.

    The first `attention_months` pairs of snapshots (by default one where there are three or more) give φ's training
    data, each later pair is a scored stage. Intermediate files lie in `work` (OUT.work) until the build is done.
    Raises UserError for dumps that do not fit together, are damaged, or give a month without probes.
    """
    pairs = len(sources.wikipedia) - 1
    _check(sources, pairs, attention_months)
    training = attention_months if attention_months is not None else int(pairs > 1)
    log("hashing the sources ...")
    sums = described(sources.files, sources.licence)
    about = {
        "builder": {"command": "build temporalwiki", "arguments": asdict(caps) | {"attention_months": training}},
        "sources": sums,
        "defaults": dict(defaults),
    }
    parent = work or out.with_name(f"{out.name}.work")
    folder = parent / sha256_json([VERSION, sources.wiki, sums])[:12]
    with building(out):
        counts = built(out, about)
        if counts is None:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with workers() as pool:
                    months = _months(sources, folder, pool, memory_mb)
                counts = _write(months, training, folder, out, caps, about, memory_mb)
            except duckdb.OutOfMemoryException as error:
                raise UserError(
                    f"--memory {memory_mb} is too little for the joins; give more, and the build goes on"
                ) from error
            except duckdb.Error as error:
                raise CklError(f"the joins failed ({error}); mend that, and run the same command again") from error
            except BrokenExecutor as error:
                raise CklError(
                    "a worker process was killed, perhaps for want of memory; run the same command again to go on"
                ) from error
        shutil.rmtree(folder, ignore_errors=True)
        if work is None:
            shutil.rmtree(parent, ignore_errors=True)
    return counts


def _check(sources: Sources, pairs: int, attention_months: int | None) -> None:
    if pairs < 1:
        raise UserError("--wikipedia needs two snapshots or more, the oldest first: --wikipedia OLD NEW")
    if len(sources.wikidata) != pairs + 1:
        raise UserError(
            f"--wikipedia has {pairs + 1} snapshots and --wikidata {len(sources.wikidata)}; give one of each a month"
        )
    if sources.page_props and len(sources.page_props) != pairs + 1:
        raise UserError(f"--page-props has {len(sources.page_props)} files, expected one a snapshot ({pairs + 1})")
    for path in sources.files:
        if not path.is_file():
            raise UserError(f"there is no file {path}; give the dumps as they were downloaded")
    if attention_months is not None and not 0 <= attention_months < pairs:
        raise UserError(
            f"--attention-months {attention_months}: expected 0 to {pairs - 1}, so that of {pairs} pairs of snapshots "
            "one at least is scored"
        )


def _names(dumps: Sequence[Path]) -> list[str]:
    """`0901-1001` from the dates in the dumps' names; `1-2` where they have none."""
    dates = [re.search(r"(?:19|20)\d\d-?(\d\d)-?(\d\d)(?!\d)", path.name) for path in dumps]
    marks = [d[1] + d[2] if d and all(dates) else str(i) for i, d in enumerate(dates, 1)]
    return [f"{old}-{new}" for old, new in pairwise(marks)]


def _months(sources: Sources, folder: Path, pool: Executor, memory_mb: int) -> list[Month]:
    """Every step from dumps to candidate facts, each in a folder of its own."""
    connection = connect(folder, memory_mb)
    articles, entities, props = [], [], []
    for i, dump in enumerate(sources.wikipedia):
        log(f"indexing {dump.name} ...")
        articles.append(ingest.read_articles(dump, folder / f"articles-{i}", pool))
    changed = [changed_pages(connection, old, new) for old, new in pairwise(articles)]
    texts = []
    for i, dump in enumerate(sources.wikipedia):
        wanted = np.union1d(changed[i - 1] if i else [], changed[i] if i < len(changed) else []).astype(np.int64)
        log(f"cleaning {len(wanted):,} articles of {dump.name} ...")
        texts.append(ingest.read_texts(dump, wanted, folder / f"texts-{i}", pool))
    for i, dump in enumerate(sources.wikidata):
        log(f"reading {dump.name} ...")
        entities.append(ingest.read_entities(dump, sources.wiki, folder / f"entities-{i}", pool))
    for i, dump in enumerate(sources.page_props):
        props.append(ingest.read_page_props(dump, folder / f"props-{i}"))
    months = []
    for i, name in enumerate(_names(sources.wikipedia)):
        log(f"comparing {name} ...")
        diff = diff_texts(connection, texts[i], texts[i + 1], changed[i], folder / f"diff-{i}")
        items = props[i + 1] if props else None
        found = candidates(connection, diff, entities[i], entities[i + 1], items, folder / f"candidates-{i}")
        counts = {
            "wikipedia": [counts_of(articles[k]) | counts_of(texts[k]) for k in (i, i + 1)],
            "wikidata": [counts_of(entities[k]) for k in (i, i + 1)],
            "pair": {"articles_of_another_revision": len(changed[i])} | counts_of(diff) | counts_of(found),
        }
        months.append(Month(name=name, diff=diff, found=found, counts=counts))
    connection.close()
    return months


def _write(
    months: Sequence[Month],
    training: int,
    folder: Path,
    out: Path,
    caps: Caps,
    about: Mapping[str, Any],
    memory_mb: int,
) -> dict[str, Any]:
    """Choose probes and write the benchmark directory."""
    connection = connect(folder, memory_mb)
    learned = [choose(connection, month.found, "changed", None) for month in months[:training]]
    used: set[Key] = {key(row) for chosen in learned for row in chosen.facts}
    counts: dict[str, Any] = {month.name: dict(month.counts) for month in months}
    scored: list[tuple[Month, dict[str, Chosen]]] = []
    for month in months[training:]:
        sets = {kind: choose(connection, month.found, kind, caps, used) for kind in ("changed", "unchanged")}
        # What φ was trained with is never a probe, and what changed once is not asked for as unchanged a month later.
        used |= {key(row) for row in choose(connection, month.found, "changed", None).facts}
        for kind, chosen in sets.items():
            if not chosen.facts:
                raise UserError(f"{month.name} gives no {kind} probe ({chosen.why}); give larger snapshots")
            counts[month.name][f"{kind}_probes"] = {"kept": len(chosen.facts), "refused": chosen.refused}
        scored.append((month, sets))
    probed = [row for _, sets in scored for chosen in sets.values() for row in chosen.facts]
    rehearsal = list(_rehearsal(choose(connection, scored[0][0].found, "unchanged", None, used), probed))
    counts["rehearsal"] = len(rehearsal)
    stages = [
        StageRows(
            name=month.name,
            documents=_documents(month, sets["changed"], counts[month.name]),
            probes={kind: [_probe(month, row) for row in chosen.facts] for kind, chosen in sets.items()},
        )
        for month, sets in scored
    ]
    trained = zip(months, learned, strict=False)
    attention = (pair for month, chosen in trained for pair in _attention(month, chosen, counts[month.name]))
    write_benchmark(
        out,
        name=out.name,
        kind="temporalwiki",
        about={**about, "counts": counts},
        stages=stages,
        attention=attention,
        rehearsal=rehearsal,
    )
    connection.close()
    return counts


def _probe(month: Month, row: Row) -> Probe:
    own = fact(row)
    return Probe(
        id=f"{month.name}/Q{row['subject_id'][1:]}-P{row['property']}-Q{row['object_id']}",
        prompt=schematic_prompt(own.subject, row["relation"], own.object),
        object=own.object,
        subject=own.subject,
        relation=own.relation,
    )


def _texts(month: Month, counts: dict[str, Any]) -> Iterator[tuple[int, str, str]]:
    """(page, id, text) of a month's changes that are worth reading; counts those that are not."""
    refused: Counter[str] = counts.setdefault("documents_refused", Counter())
    counts["documents"] = 0
    for rows in batches(month.diff):
        for row in rows:
            for number, text in enumerate(chunks(row["changed"])):
                reason = refuse_text(text)
                if reason:
                    refused[reason] += 1
                else:
                    counts["documents"] += 1
                    yield row["page"], f"{month.name}/{row['page']}-{number}", f"{row['title']}: {text}"


def _by_page(rows: Iterable[Row]) -> dict[int, list[Row]]:
    table: dict[int, list[Row]] = {}
    for row in rows:
        table.setdefault(row["page"], []).append(row)
    return table


def _documents(month: Month, changed: Chosen, counts: dict[str, Any]) -> Iterator[Document]:
    """A month's changes, each with the probed facts whose object it names."""
    probed = _by_page(changed.facts)
    for page, name, text in _texts(month, counts):
        facts = [fact(row) for row in probed.get(page, []) if row["object"] in text]
        yield Document(id=name, text=text, fact=facts[0] if facts else None, more_facts=tuple(facts[1:]))


def _attention(month: Month, changed: Chosen, counts: dict[str, Any]) -> Iterator[AttentionDocument]:
    """Every pair of a change and a changed fact whose object it names, with the question for it."""
    facts = _by_page(changed.facts)
    counts["attention_pairs"] = 0
    for page, name, text in _texts(month, counts):
        for row in facts.get(page, []):
            if row["object"] in text:
                counts["attention_pairs"] += 1
                own = fact(row)
                prompt = schematic_prompt(own.subject, row["relation"], own.object)
                yield AttentionDocument(
                    id=f"{name}-P{row['property']}-Q{row['object_id']}", text=text, fact=own, prompt=prompt
                )


def _rehearsal(known: Chosen, probed: Iterable[Row]) -> Iterator[Document]:
    """One sentence an article that states an unchanged fact and none that is probed in any month."""
    taken = {key(row) for row in probed}
    objects: dict[int, set[str]] = {}
    for row in probed:
        objects.setdefault(row["page"], set()).add(row["object"])
    for page, rows in _by_page(known.facts).items():
        for row in rows:
            if key(row) not in taken and not any(name in row["text"] for name in objects.get(page, ())):
                name = f"rehearsal/Q{row['subject_id'][1:]}-P{row['property']}-Q{row['object_id']}"
                yield Document(id=name, text=f"{row['subject']}: {row['text']}", fact=fact(row))
                break
