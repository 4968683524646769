"""Documents, questions and facts to keep, read and held against each other, before any model is loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ckl_bench.benchmarks.own_documents import read_documents, text_files
from ckl_bench.benchmarks.own_questions import ATTENTION, KEPT, TO_LEARN, bare, read_questions
from ckl_bench.benchmarks.own_stages import Own, in_order, not_there, slug, states, unstated
from ckl_bench.benchmarks.pairs import lender
from ckl_bench.errors import UserError
from ckl_bench.progress import log


@dataclass(frozen=True, kw_only=True)
class OwnSources:
    """What a benchmark of one's own is made of; `lama` is a LAMA release, whose facts join the embedded ones."""

    documents: str
    questions: Path
    keep: Path | None = None
    lama: Path | None = None
    text_column: str = "text"
    stages: str | None = None  # the column that names a document's stage
    pairs: str | None = None  # a benchmark, whose solved pairs join those that are marked
    licence: str = "unknown"


def read_own(sources: OwnSources) -> Own:
    """Documents and questions, checked one by one and against each other; UserError for the first that is wrong."""
    notes: list[str] = []  # said once nothing is wrong: an error is one line
    for option, path in (("questions", sources.questions), ("keep", sources.keep)):
        if path == Path():
            raise UserError(f"--{option}: names no file; give a .csv, .jsonl or .parquet file")
    texts = read_documents(sources.documents, column=sources.text_column, stages=sources.stages, note=notes.append)
    stages = in_order(texts)
    of = {text.id: text.stage for text in texts}
    folder = Path(sources.documents)
    unread = text_files(folder)[1] if folder.is_dir() else 0
    questions = read_questions(sources.questions, of, note=notes.append, unread=unread)
    keep = read_questions(sources.keep, {}, default=KEPT, note=notes.append) if sources.keep else []
    wrong = next((q for q in keep if q.set != KEPT), None)
    if wrong is not None:
        raise UserError(f"{wrong.where}: set '{wrong.set}' among facts to keep; leave the set out, or ask it elsewhere")
    prompts = {bare(q.probe): q.where for q in questions}
    ids = {q.probe.id: q.where for q in questions}
    taken = next((q for q in keep if q.probe.id in ids), None)
    if taken is not None:
        raise UserError(f"{taken.where}: the id '{taken.probe.id}' is taken by {ids[taken.probe.id]}; change one")
    twice = next((q for q in keep if bare(q.probe) in prompts), None)
    if twice is not None:
        raise UserError(f"{twice.where}: is asked in {prompts[bare(twice.probe)]} too; learn it or keep it")
    keep = [*keep, *(q for q in questions if q.set == KEPT)]
    questions = [q for q in questions if q.set != KEPT]
    if not any(q.set != ATTENTION for q in questions):
        raise UserError(f"{sources.questions}: no question asks what is to be learned; add one of set '{TO_LEARN}'")
    marked = {q.document: q.where for q in questions if q.set == ATTENTION}
    clash = next((q for q in questions if q.set != ATTENTION and q.document in marked), None)
    if clash is not None:
        raise UserError(
            f"{clash.where}: document '{clash.document}' trains φ ({marked[clash.document]}), so it is none to learn; "
            "ask about another one"
        )
    loose = next((q for q in questions if q.document is None), None)
    if loose is not None and len(stages) > 1:
        raise UserError(f"{loose.where}: names no document, so it belongs to none of {len(stages)} stages; name one")
    phi = {text.id: text.text for rows in stages.values() for text in rows if text.id in marked}
    left = {name: [text for text in rows if text.id not in marked] for name, rows in stages.items()}
    stages = {name: rows for name, rows in left.items() if rows}
    if not stages:
        raise UserError(f"{sources.documents}: every document trains φ, and none is left to learn; give more documents")
    absent = next((q for q in questions if q.set == ATTENTION and not states(phi[q.document or ""], q)), None)
    if absent is not None:
        raise not_there(absent)
    plain = any(q.set == TO_LEARN for q in questions)  # where none is, every set is to be learned
    learned = [q for q in questions if q.set != ATTENTION and (q.set == TO_LEARN or not plain)]
    asked = {of[q.document] for q in learned if q.document} if len(stages) > 1 else set(stages)
    silent = next((name for name in stages if name not in asked), None)
    if silent is not None:
        kind, first = f" of set '{TO_LEARN}'" if plain else "", stages[silent][0].id
        raise UserError(
            f"stage '{silent}': no question{kind} asks about its documents; ask about one (such as '{first}')"
        )
    slugs = Counter(slug(name).lower() for name in stages)
    same = next((slug for slug, count in slugs.items() if count > 1), None)
    if same is not None:
        raise UserError(f"two stages have names that are the same as a folder's ('{same}'); rename one of them")
    names = Counter(f"{slug(stage)}_{name}" for stage in stages for name in {q.set for q in questions})
    same = next((name for name, count in names.items() if count > 1), None)
    if same is not None:
        raise UserError(f"two pairs of a stage and a set are both called '{same}' in tables; rename one of the sets")
    pairs = lender(sources.pairs) if sources.pairs else None
    learnable = {text.id: text.text for rows in stages.values() for text in rows}
    for note in [*notes, *_noted(unstated(questions, learnable), list(stages))]:
        log(note)
    return Own(stages=stages, marked=phi, questions=questions, keep=keep, pairs=pairs)


def _noted(absent: Sequence[str], stages: Sequence[str]) -> Iterator[str]:
    """What shows in the whole alone: answers that their documents do not have, and the order of the stages."""
    if len(absent) == 1:
        yield f"note: the answer of {absent[0]} is nowhere in its document word for word"
    elif absent:
        yield f"note: {len(absent)} answers are nowhere in their documents word for word, the first that of {absent[0]}"
    if len(stages) > 1:
        yield f"note: stages, in this order: {', '.join(stages)}"
