"""Snapshots of Wikipedia and Wikidata -> a benchmark of consecutive months (Jang et al. 2022; paper, section 4.2)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from ckl_bench.benchmarks.building import building, built
from ckl_bench.benchmarks.format import StageRows, write_benchmark
from ckl_bench.errors import CklError, UserError
from ckl_bench.progress import log
from ckl_bench.storage.json import sha256_json

from . import engines, ingest, writing
from .diffs import diff_texts
from .facts import candidates, facts, linked
from .joins import connect
from .revisions import changed_pages, newest, revisions_of, unchanged_pages
from .select import Caps, Chosen, Selection
from .shards import counts_of
from .sources import Snapshot, Sources, hashed, language_of
from .writing import Month

DEFAULTS: Mapping[str, Any] = {"epochs": 1, "batch_size": 64, "learning_rate": 1e-4}
UNCHANGED_ARTICLES = 20_000
VERSION = 5  # of the intermediate files: another one starts anew
_COLLAPSED = 0.5  # of a set that passed the filters, what the shares leave at least without a word about it


def build_from_dumps(
    sources: Sources,
    out: Path,
    *,
    caps: Caps,
    attention_months: int | None = None,
    unchanged_articles: int = UNCHANGED_ARTICLES,
    defaults: Mapping[str, Any] = DEFAULTS,
    memory_mb: int = 2000,
    work: Path | None = None,
    engine: str = "local",
) -> dict[str, Any]:
    """Dumps -> benchmark directory; returns the manifest's counts. A stopped build, given again, goes on.

    The first `attention_months` pairs of snapshots (by default one where there are three or more) give φ's training
    data, each later pair is a scored stage. Unchanged facts are asked of revised articles, and of `unchanged_articles`
    drawn among those that nobody revised. `engine` says where pages and entities are parsed (`engines.pool`).
    Intermediate files lie in `work` (OUT.work) until the build is done.
    Raises UserError for dumps that do not fit together, are damaged, or give a month without probes.
    """
    snapshots = sources.snapshots()
    pairs = len(snapshots) - 1
    if attention_months is not None and not 0 <= attention_months < pairs:
        raise UserError(
            f"--attention-months {attention_months}: expected 0 to {pairs - 1}, so that of {pairs} pairs of snapshots "
            "one at least is scored"
        )
    training = attention_months if attention_months is not None else int(pairs > 1)
    parent = work or out.with_name(f"{out.name}.work")
    log("hashing the sources ...")
    sums = hashed(sources.files, sources.licence, parent / "hashes.json")
    reads = {
        "wiki": sources.wiki,
        "languages": list(sources.languages),
        "unchanged_articles": unchanged_articles,
        "seed": caps.seed,
    }
    about = {
        "builder": {
            "command": "build temporalwiki",
            "arguments": asdict(caps) | {"attention_months": training} | reads,
        },
        "sources": sums,
        "defaults": dict(defaults),
    }
    # The dates of snapshots say what holds, and may stand in a folder's name, which no hash has.
    folder = parent / sha256_json([VERSION, reads, sums, [[s.date, len(s.wikipedia)] for s in snapshots]])[:12]
    with building(out):
        counts = built(out, about)
        if counts is None:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with engines.pool(engine) as pool:
                    months = _months(sources, snapshots, reads, folder, pool, memory_mb)
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


def _months(
    sources: Sources,
    snapshots: Sequence[Snapshot],
    reads: Mapping[str, Any],
    folder: Path,
    pool: Executor,
    memory_mb: int,
) -> list[Month]:
    """Every step from dumps to candidate facts, each in a folder of its own; a dump's part files have one each."""
    connection = connect(folder, memory_mb)
    indexed, articles, entities, props = [], [], [], []
    for i, snapshot in enumerate(snapshots):
        parts = []
        for k, dump in enumerate(snapshot.wikipedia):
            log(f"indexing {dump.name} ...")
            parts.append(ingest.read_articles(dump, folder / f"articles-{i}-{k}", pool))
        indexed.append(parts)
        articles.append(newest(connection, parts, folder / f"newest-{i}"))
    for i, snapshot in enumerate(snapshots):
        reading = ingest.Reading(wiki=sources.wiki, languages=sources.languages, date=snapshot.date)
        parts = []
        for k, dump in enumerate(snapshot.wikidata):
            log(f"reading {dump.name} ...")
            parts.append(ingest.read_entities(dump, reading, folder / f"entities-{i}-{k}", pool))
        if not counts_of(*parts).get("entities"):
            raise UserError(f"{snapshot.wikidata[0]} is not a Wikidata dump: no entity stands in it; give Wikidata's")
        entities.append(parts)
        props.append([ingest.read_page_props(p, folder / f"props-{i}-{k}") for k, p in enumerate(snapshot.page_props)])
    changed, unchanged = [], []
    for i, (old, new) in enumerate(pairwise(articles)):
        changed.append(changed_pages(connection, old, new))
        items = linked(entities[i + 1], props[i + 1], new)
        unchanged.append(
            unchanged_pages(connection, old, new, items, int(reads["unchanged_articles"]), int(reads["seed"]))
        )
    texts = []
    none = np.empty(0, dtype=np.int64)
    for i, snapshot in enumerate(snapshots):
        before = (changed[i - 1], unchanged[i - 1]) if i else (none,)
        pages = np.unique(np.concatenate([*before, changed[i] if i < len(changed) else none]))
        wanted = ingest.Wanted.write(folder / f"wanted-{i}.npy", *revisions_of(connection, articles[i], pages))
        parts = []
        for k, dump in enumerate(snapshot.wikipedia):
            log(f"cleaning {len(pages):,} articles of {dump.name} ...")
            parts.append(ingest.read_texts(dump, wanted, folder / f"texts-{i}-{k}", pool, language_of(sources.wiki)))
        texts.append(parts)
    months = []
    for i, name in enumerate(sources.names()):
        log(f"comparing {name} ...")
        diff = diff_texts(connection, texts[i], texts[i + 1], changed[i], unchanged[i], folder / f"diff-{i}")
        held = facts(connection, diff, entities[i], entities[i + 1], props[i + 1], folder / f"facts-{i}")
        found = candidates(connection, diff, held, folder / f"candidates-{i}")
        counts = {
            "wikipedia": [counts_of(*indexed[k]) | counts_of(*texts[k]) for k in (i, i + 1)],
            "wikidata": [counts_of(*entities[k]) for k in (i, i + 1)],
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
    selection = Selection(connection)
    learned = [selection.choose(m.found, "changed", None, f"learned_{i}") for i, m in enumerate(months[:training])]
    for chosen in learned:
        selection.use(chosen)
    counts: dict[str, Any] = {month.name: dict(month.counts) for month in months}
    scored: list[tuple[Month, dict[str, Chosen]]] = []
    for i, month in enumerate(months[training:]):
        sets = {kind: selection.choose(month.found, kind, caps, f"{kind}_{i}") for kind in ("changed", "unchanged")}
        # What φ was trained with is never a probe, and what changed once is not asked for as unchanged a month later.
        selection.use(selection.choose(month.found, "changed", None, "every_change"))
        for kind, chosen in sets.items():
            if not chosen.number:
                raise UserError(f"{month.name} gives no {kind} probe ({chosen.why}); give larger snapshots")
            _warn(month, kind, chosen, caps)
            counts[month.name][f"{kind}_probes"] = _kept(kind, chosen)
        scored.append((month, sets))
    known = selection.choose(scored[0][0].found, "unchanged", None, "known")
    probed = [chosen for _, sets in scored for chosen in sets.values()]
    stages = [
        StageRows(
            name=month.name,
            documents=writing.documents(month, sets["changed"], counts[month.name]),
            probes={kind: writing.probes(month, chosen) for kind, chosen in sets.items()},
        )
        for month, sets in scored
    ]
    trained = zip(months, learned, strict=False)
    attention = (pair for month, chosen in trained for pair in writing.attention(month, chosen, counts[month.name]))
    write_benchmark(
        out,
        name=out.name,
        kind="temporalwiki",
        about={**about, "counts": counts},
        stages=stages,
        attention=attention,
        rehearsal=writing.rehearsal(connection, known, probed, counts),
    )
    connection.close()
    return counts


def _kept(kind: str, chosen: Chosen) -> dict[str, Any]:
    """How many probes a set has, and of which kinds: updates and additions, of revised articles and of others."""
    if kind == "changed":
        updates = chosen.count("was IS NOT NULL")
        parts = {"updates": updates, "additions": chosen.number - updates}
    else:
        revised = chosen.count("revised")
        parts = {"of_revised_articles": revised, "of_unrevised_articles": chosen.number - revised}
    return {"kept": chosen.number, **parts, "refused": chosen.refused}


def _warn(month: Month, kind: str, chosen: Chosen, caps: Caps) -> None:
    """Say aloud where the shares leave little of a set: few relations cannot all stay under a small share."""
    lost = {name: chosen.refused.get(f"{name} over its share", 0) for name in ("subject", "relation")}
    if chosen.passed - sum(lost.values()) < _COLLAPSED * chosen.passed:
        log(
            f"{month.name}: the shares leave {chosen.passed - sum(lost.values()):,} of {chosen.passed:,} {kind} facts "
            f"({lost['subject']:,} over --max-subject-share {caps.subject}, {lost['relation']:,} over "
            f"--max-relation-share {caps.relation}); give larger shares, or larger snapshots"
        )
