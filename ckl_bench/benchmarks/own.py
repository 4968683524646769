"""One's own documents and questions -> a benchmark directory of kind `own`, with facts not to be forgotten."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ckl_bench.benchmarks.building import building, built, described
from ckl_bench.benchmarks.format import Document, Probe, write_benchmark
from ckl_bench.benchmarks.lama_ckl import SLICE, TRANSFORMERS, Pretest, pretested_on
from ckl_bench.benchmarks.lama_select import eligible
from ckl_bench.benchmarks.lama_sources import Candidate, read_lama
from ckl_bench.benchmarks.own_check import OwnSources
from ckl_bench.benchmarks.own_documents import text_files
from ckl_bench.benchmarks.own_questions import ATTENTION, KEPT, Question
from ckl_bench.benchmarks.own_stages import Assembly, Own
from ckl_bench.benchmarks.pairs import described_lender, joined
from ckl_bench.errors import CklError, UserError
from ckl_bench.progress import bar
from ckl_bench.storage.checkpoint import Keeper, Store
from ckl_bench.storage.files import data_dir
from ckl_bench.storage.json import sha256_json

DRAWN = 100  # facts not to forget, where none are given and no number is asked for
DEFAULTS: Mapping[str, Any] = {"epochs": 10, "batch_size": 8, "learning_rate": 5e-4}
_VERSION = 1  # of saved pre-tests: another one starts anew


def build_own(
    sources: OwnSources,
    read: Own,
    out: Path,
    *,
    models: Mapping[str, tuple[str, Pretest]],
    at_once: int = SLICE,
    backend: str = TRANSFORMERS,
    length: Callable[[str], int],
    passage_tokens: int = 512,
    not_to_forget: int | None = None,
    rehearsal: bool = True,
    seed: int = 42,
    defaults: Mapping[str, Any] = DEFAULTS,
) -> dict[str, Any]:
    """What was read -> benchmark directory; `models` maps a name to (revision, scorer), `length` counts tokens.
    A scorer is given `at_once` prompts; `backend` is what runs the models.

    Every question is pre-tested, and so are the facts from which those not to forget and those to rehearse are drawn:
    none of them without `rehearsal`, which takes facts to keep of one's own.
    Returns the manifest's counts. Raises UserError for a source that is wrong, and where no fact is known.
    """
    if not rehearsal and not read.keep:
        raise UserError(
            "--no-rehearsal belongs to --keep: without it what must not be forgotten is drawn from facts too"
        )
    if read.keep and (not_to_forget or 0) > len(read.keep):
        given = len(read.keep)
        raise UserError(f"--not-to-forget {not_to_forget}: {given} facts to keep are given; give at most that many")
    revisions = pretested_on(models, backend)
    files = _described(sources, read)
    about: dict[str, Any] = {
        "builder": {
            "command": "build own",
            "arguments": {
                "text_column": sources.text_column,
                "stages": sources.stages,
                "passage_tokens": passage_tokens,
                "not_to_forget": not_to_forget,
                "seed": seed,
            }
            | ({} if rehearsal else {"rehearsal": False})
            | ({"pairs": sources.pairs} if sources.pairs else {}),
        },
        "sources": files,
        "pretest_models": revisions,
        "defaults": dict(defaults),
    }
    store = Store(out.with_name(f"{out.name}.work"), sha256_json([_VERSION, files, revisions]))
    with building(out):
        counts = built(out, about)
        if counts is None:
            candidates, drawn = _candidates(sources, read) if rehearsal else ([], {})
            asked = [question.probe for question in [*read.questions, *read.keep]]
            keeper = Keeper(store)
            with keeper.listening():
                known = _pretest([*asked, *map(_probe, candidates)], models, keeper, at_once)
            tested = [
                replace(c, scores={"descriptive": tuple(known[name][len(asked) + i] for name in models)})
                for i, c in enumerate(candidates)
            ]
            kept, replayed = _drawn(tested, read.keep, not_to_forget, seed)
            made = Assembly(read, length, passage_tokens)
            stages = [made.stage(name, kept) for name in read.stages]
            own, (others, passed) = made.attention(), made.others(kept)
            attention = joined(own, others, read.pairs.name if read.pairs else "")
            if passed:
                drawn = drawn | {"solved pairs about what your documents or questions speak of": passed}
            answered = _answered(read, known)
            counts = {
                "documents": sum(map(len, read.stages.values())),
                "passages": sum(len(stage.documents) for stage in stages),
                "kept": {
                    **Counter(name for stage in stages for name, rows in stage.probes.items() for _ in rows),
                    KEPT: len(kept),
                    ATTENTION: len(attention),
                    "rehearsal": len(replayed),
                },
                "pretested": {"questions": len(read.questions), "answered_already": answered[0]},
                "notes": made.notes(answered[1], len(read.keep)),
                "refused": drawn | ({"not known to every pre-test model": _unknown(tested)} if tested else {}),
            }
            write_benchmark(
                out,
                name=out.name,
                kind="own",
                about={**about, "counts": counts},
                stages=stages,
                attention=attention,
                rehearsal=replayed,
            )
        store.remove()
    return counts


def _described(sources: OwnSources, read: Own) -> list[dict[str, str]]:
    """Every source with its hash; of a data set's id the hash of the texts that it gave."""
    path = Path(sources.documents)
    if path.is_dir():
        found = described(text_files(path)[0], sources.licence, path)
    elif path.is_file():
        found = described([path], sources.licence)
    else:
        texts = [[text.id, text.text] for rows in read.stages.values() for text in rows]
        found = [{"file": sources.documents, "sha256": sha256_json(texts), "licence": sources.licence}]
    given = [file for file in (sources.questions, sources.keep) if file is not None]
    found += described(given, sources.licence)
    if read.pairs is not None:
        found.append(described_lender(read.pairs))
    for folder, licence in ((data_dir() / "facts", "Apache-2.0"), (sources.lama, "CC-BY-NC-4.0")):
        if folder is not None:
            facts = [folder / "relations.jsonl", *sorted((folder / "TREx").glob("P*.jsonl"))]
            found += described(facts, licence, folder)
    return found


def _candidates(sources: OwnSources, read: Own) -> tuple[list[Candidate], dict[str, int]]:
    """Facts that may be known, and how many are none for this benchmark, by reason."""
    found, refused = read_lama(data_dir() / "facts")
    if sources.lama is not None:
        more, bad = read_lama(sources.lama)
        have = {candidate.fact for candidate in found}
        found, refused = [*found, *(candidate for candidate in more if candidate.fact not in have)], refused + bad
    speaks_of = read.speaks_of()
    apart = [c for c in found if not speaks_of(c.fact.subject)]
    if len(apart) < len(found):
        refused["its subject is in your documents or questions"] = len(found) - len(apart)
    return apart, dict(sorted(refused.items()))


def _probe(candidate: Candidate) -> Probe:
    fact = candidate.fact
    return Probe(
        id=candidate.id,
        prompt=candidate.prompt("descriptive"),
        object=fact.object,
        subject=fact.subject,
        relation=fact.relation,
    )


def _pretest(
    probes: Sequence[Probe], models: Mapping[str, tuple[str, Pretest]], keeper: Keeper, at_once: int
) -> dict[str, list[float]]:
    """Every probe's accuracy by each model, going on from what `keeper` holds."""
    table: dict[str, list[float]] = keeper.load() or {}
    for name, (_, scorer) in models.items():
        scores = table.setdefault(name, [])
        with bar(f"pre-testing {name}", len(probes), "probes") as advance:
            advance(len(scores))
            while len(scores) < len(probes):
                part = probes[len(scores) : len(scores) + at_once]
                with keeper.kept(lambda: table):
                    found = [float(score) for score in scorer(part)]
                if len(found) != len(part):
                    raise CklError(f"pre-test model {name} gave {len(found)} scores to {len(part)} prompts")
                scores += found
                advance(len(part))
                keeper.after_step(lambda: table)
    return table


def _unknown(tested: Sequence[Candidate]) -> int:
    return sum(not eligible(c, "not_to_forget", "descriptive") for c in tested)


def _drawn(
    tested: Sequence[Candidate], keep: Sequence[Question], count: int | None, seed: int
) -> tuple[list[Probe], list[Document]]:
    """Probes of what must not be forgotten, and known facts to rehearse that none of them asks for."""
    known = [c for c in tested if eligible(c, "not_to_forget", "descriptive")]
    if keep:
        return [question.probe for question in keep][:count], [_document(c) for c in known if not _asked_in(c, keep)]
    if not known:
        raise UserError(
            "the pre-test model knows none of the facts from which those not to forget are drawn; give your own with "
            "--keep FILE, more with --lama DIR, or another --pretest-model"
        )
    wanted = max(1, min(DRAWN, len(known) // 2)) if count is None else count
    if wanted > len(known):
        raise UserError(f"--not-to-forget {wanted}: {len(known)} facts are known; give at most that many")
    chosen = random.Random(seed).sample(known, wanted)
    pairs, passed = {(c.fact.subject, c.fact.relation) for c in chosen}, {c.evidence for c in chosen}
    others = [c for c in known if (c.fact.subject, c.fact.relation) not in pairs and c.evidence not in passed]
    return [*map(_probe, chosen)], [*map(_document, others)]


def _document(candidate: Candidate) -> Document:
    return Document(id=candidate.id, text=candidate.evidence, fact=candidate.fact)


def _asked_in(candidate: Candidate, keep: Sequence[Question]) -> bool:
    """Whether a question states the fact: then it is none to rehearse."""
    return any(candidate.fact.subject in q.probe.prompt and candidate.fact.object in q.probe.prompt for q in keep)


def _answered(read: Own, known: Mapping[str, Sequence[float]]) -> tuple[int, int]:
    """Questions to learn that every pre-test model answers already, and facts to keep that not all of them know."""
    count = len(read.questions)
    least = [min(values) for values in zip(*known.values(), strict=True)]
    to_learn = sum(score == 1 and q.set != ATTENTION for q, score in zip(read.questions, least, strict=False))
    return to_learn, sum(score < 1 for score in least[count : count + len(read.keep)])
