"""Questions of one's own -> probes: `prompt, answer[, document, set]`, checked one by one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ckl_bench.benchmarks.format import Probe
from ckl_bench.benchmarks.own_tables import Note, blank, heading, known_columns, one_form, read_table, whole
from ckl_bench.errors import UserError
from ckl_bench.progress import log
from ckl_bench.words import fold, occurrences

COLUMNS = ("prompt", "answer", "document", "set", "id", "subject", "relation")
TO_LEARN, KEPT, ATTENTION = "to_learn", "not_to_forget", "attention"
LONGEST = 20_000  # characters of a prompt with its answer
_PLACE = re.compile(r"\{answer\}|\[MASK\]|\[Y\]|_{3,}", re.IGNORECASE)  # where the answer belongs, as people write it
_ASKS = ("?", ":", "？", "：")
_GAP = re.compile(r"\{\s*\}|\.{3,}|…+")  # where an answer may be meant to go; it may be an ellipsis as well
_MARKED = re.compile(r"\[\[(.+?)\]\]", re.DOTALL)
# Scripts whose words stand side by side without a space (Chinese, Japanese, Thai, Lao, Khmer, Burmese).
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uff00-\uffef]")


@dataclass(frozen=True, kw_only=True)
class Question:
    """A probe, what it belongs to, and where it stands."""

    probe: Probe
    document: str | None
    set: str
    where: str


def read_questions(
    path: Path, documents: Mapping[str, str], default: str = TO_LEARN, note: Note = log, unread: int = 0
) -> list[Question]:
    """The questions of a table; `documents` are the ids that they may name, each with its stage.

    `unread` files beside the documents were none, and an error about a document that is not there says so.

    Raises UserError with file and line for the first row that is no question, and what to do about it.
    """
    found: list[Question] = []
    seen: dict[tuple[str, str], Question] = {}
    ids: dict[str, str] = {}
    asked_before: dict[tuple[str, tuple[str, str]], list[Question]] = {}
    otherwise: list[tuple[str, str]] = []
    again: list[tuple[str, str]] = []
    staged = len(set(documents.values())) > 1
    columns: set[str] = set()
    sets: dict[str, str] = {name: name for name in (TO_LEARN, KEPT, ATTENTION)}
    for number, row in read_table(path, COLUMNS[:4], note):
        where = f"{path}:{number}"
        for name in COLUMNS[:2]:
            if name not in row:
                raise UserError(
                    f"{heading(path, where)}: no column '{name}' (found: {', '.join(map(str, row))[:120]}); "
                    "name the columns prompt, answer[, document, set] in the first line"
                    if path.suffix.lower() in (".csv", ".tsv")
                    else f"{where}: no '{name}' (found: {', '.join(map(str, row))[:120]}); expected prompt and answer"
                )
        if not columns.issuperset(row):  # of JSON every row has its own
            known_columns(list(row), COLUMNS, heading(path, where), None if columns else note)
            columns.update(row)
        question = _question(row, where, number, documents, default, unread)
        same = sets.setdefault(re.sub(r"[\W_]", "_", question.set).lower(), question.set)
        if same != question.set:
            raise UserError(f"{where}: set '{question.set}' is too much like '{same}'; name both the same, or one anew")
        key = (question.set, question.probe.prompt)
        if key in seen:
            raise UserError(f"{where}: the same question as in {seen[key].where}; remove one of the two")
        # A stage that comes later may well have another answer.
        before = asked_before.setdefault(
            (documents.get(question.document or "", "") if staged else "", bare(question.probe)), []
        )
        others = [q for q in before if fold(q.probe.object) != fold(question.probe.object)]
        same_set = next((q.where for q in others if q.set == question.set), None)
        if same_set is not None:
            raise UserError(f"{where}: asks what {same_set} asks, with another answer; remove one, or ask more exactly")
        elsewhere = [q for q in before if q.set != question.set]
        kept = next((q.where for q in elsewhere if KEPT in (q.set, question.set)), None)
        if kept is not None:
            raise UserError(f"{where}: is asked in {kept} too; learn it or keep it")
        otherwise += [(where, q.where) for q in others]
        again += [(where, q.where) for q in elsewhere if q not in others]
        before.append(question)
        if question.probe.id in ids:
            raise UserError(f"{where}: the id '{question.probe.id}' is taken by {ids[question.probe.id]}; change one")
        seen[key], ids[question.probe.id] = question, where
        found.append(question)
    if not found:
        raise UserError(f"{path} holds no question; expected rows of prompt, answer[, document, set]")
    for pairs, how in ((otherwise, "in another set and with another answer"), (again, "in another set")):
        if pairs:
            more = f" (and {len(pairs) - 1} more)" if pairs[1:] else ""
            note(f"note: {pairs[0][0]} asks what {pairs[0][1]} asks, {how}{more}; is that meant?")
    return found


def bare(probe: Probe) -> tuple[str, str]:
    """What is asked, without the answer: what stands before it and behind it, however it is written."""
    before, _, behind = probe.prompt.rpartition(probe.object)
    return " ".join(fold(before).casefold().split()), " ".join(fold(behind).casefold().split())


def _question(
    row: Mapping[str, Any], where: str, number: int, documents: Mapping[str, str], default: str, unread: int
) -> Question:
    values = {name: _text(row.get(name), name, where) for name in COLUMNS}
    prompt, answer, document, own = (values[name] for name in ("prompt", "answer", "document", "set"))
    document = one_form(document)
    if blank(prompt):
        raise UserError(f"{where}: the prompt is empty; write what is asked")
    if blank(answer):
        raise UserError(f"{where}: the answer is empty; write what the model should say")
    if document and document not in documents:
        if not documents:
            raise UserError(f"{where}: names a document ('{document}'), which facts to keep have none of; leave it out")
        raise _no_document(document, where, list(documents), unread)
    own = own or default
    if not re.fullmatch(r"[A-Za-z0-9][\w-]{0,39}", own, re.ASCII):
        raise UserError(f"{where}: set '{own[:60]}': expected up to 40 letters, digits, _ and -")
    if own.lower() == "rehearsal":
        raise UserError(f"{where}: set '{own}' is what the benchmark's own texts to rehearse are called; name it anew")
    if own == ATTENTION and not document:
        raise UserError(f"{where}: a question of set '{ATTENTION}' trains φ on its document; name the document")
    probe = Probe(
        id=values["id"] or f"{'k' if default == KEPT else 'q'}{number}",
        prompt=asked(prompt, answer, where),
        object=answer,
        subject=values["subject"],
        relation=values["relation"],
    )
    return Question(probe=probe, document=document or None, set=own, where=where)


def _no_document(name: str, where: str, ids: list[str], unread: int) -> UserError:
    close = get_close_matches(name, ids, n=1, cutoff=0.6)
    shown = ", ".join(f"'{each[:40]}'" for each in ids[:2])
    guess = (
        f"did you mean '{close[0]}'?"
        if close
        else f"expected a file's name without its ending, or a row's id, such as {shown}"
    )
    more = f" (files that are not .txt or .md, and were not read: {unread})" if unread else ""
    return UserError(f"{where}: there is no document '{name}'{more}; {guess}")


def _text(value: object, name: str, where: str) -> str:
    value = whole(value)
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise UserError(f"{where}: '{name}' is of type {type(value).__name__}; expected text, in quotes")
    control = next((sign for sign in value if unicodedata.category(sign) == "Cc" and sign not in "\t\n\r"), None)
    if control is not None:
        raise UserError(f"{where}: '{name}' holds a control character (U+{ord(control):04X}); remove it")
    text = value.strip() if name != "prompt" else value.rstrip("\n").lstrip()
    edge = next((s for s in (text[:1], text[-1:]) if not blank(text) and s and _unseen(s)), None)
    if edge is not None:
        raise UserError(
            f"{where}: '{name}' begins or ends with a sign that cannot be seen (U+{ord(edge):04X}); remove it"
        )
    return text


def _unseen(sign: str) -> bool:
    """Whether a sign has no width: marks of direction, byte-order marks; but not the tags at the end of some flags."""
    return unicodedata.category(sign) == "Cf" and not "\U000e0020" <= sign <= "\U000e007f"


def asked(prompt: str, answer: str, where: str) -> str:
    """The prompt with the answer where it belongs: marked in it, or at its end.

    Marked is `[[Paris]]`, or a place (`{answer}`, `[MASK]`, `[Y]`, `____`), or the answer itself as the last words of a
    prompt that does not end by asking. Raises UserError where no place is left, or nothing stands before it.
    """
    marks = _MARKED.findall(prompt)
    places = list(_PLACE.finditer(prompt))
    if len(marks) + len(places) > 1:
        raise UserError(f"{where}: the answer's place is marked more than once in the prompt; mark it once")
    if marks and marks[0].strip() != answer:
        raise UserError(
            f"{where}: the prompt marks [[{marks[0][:60]}]], but the answer is '{answer[:60]}'; correct one"
        )
    if marks:
        before, _, behind = _MARKED.split(prompt)
        before += " " if marks[0][0].isspace() and before[-1:].isalnum() else ""  # is[[ Paris ]]: one blank is meant
        filled = before + answer + (" " if marks[0][-1].isspace() and behind[:1].isalnum() else "") + behind
    elif places:
        before = prompt[: places[0].start()]
        filled = before + answer + prompt[places[0].end() :]
    else:
        before, filled = _ended(prompt, answer, where)
    if blank(before):
        raise UserError(f"{where}: nothing stands before the answer; begin the prompt with what is asked")
    if re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", filled[len(before) + len(answer) :]):
        raise UserError(f"{where}: the answer comes again behind its place; end the prompt before '{answer[:60]}'")
    if len(filled) > LONGEST:
        raise UserError(f"{where}: {len(filled):,} characters; a prompt has at most {LONGEST:,}: ask shorter")
    return filled


def _ended(prompt: str, answer: str, where: str) -> tuple[str, str]:
    """What stands before the answer, and the whole, of a prompt that marks no place."""
    ended = prompt.rstrip()
    there = [] if ended.endswith(_ASKS) else _places(ended, answer, where)
    if len(there) > 1:
        raise UserError(
            f"{where}: the answer '{answer[:60]}' stands {len(there)} times in the prompt; mark the place that is "
            f"asked for: [[{answer[:60]}]]"
        )
    if there:
        return prompt[: there[0]], prompt
    gap = None if ended.endswith(_ASKS) else _GAP.search(ended)
    if gap is not None:
        raise UserError(
            f"{where}: '{gap.group()}' marks no place in a prompt; write ___ or [[{answer[:60]}]] there, or end the "
            "prompt before it"
        )
    if ended.endswith((".", "!", "。", "！")):
        raise UserError(
            f"{where}: the answer '{answer[:60]}' is not in the prompt, which is a whole sentence; "
            "put {answer} where it belongs, or end the prompt before it"
        )
    side_by_side = bool(_UNSPACED.match(ended[-1]) and _UNSPACED.match(answer[0]))
    joint = "" if side_by_side or prompt != ended else " "
    return prompt + joint, prompt + joint + answer


def _places(prompt: str, answer: str, where: str) -> list[int]:
    """Where the prompt has the answer as whole words; UserError where it has it written otherwise."""
    found = occurrences(prompt, answer)
    exact = [start for start, end in found if prompt[start:end] == answer]
    if exact:
        return exact
    if re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", prompt):
        raise UserError(
            f"{where}: the prompt has the answer '{answer[:60]}' only within something longer; write both alike, "
            f"or mark the place: [[{answer[:60]}]]"
        )
    last = prompt[-len(answer) :]
    # "may" and "us" are other words than "May" and "US": of short answers only the last words of a prompt count.
    alike = re.findall(rf"(?<!\w){re.escape(answer)}(?!\w)", prompt, re.IGNORECASE) if len(answer) > 3 else []
    if found:
        last, how = prompt[slice(*found[-1])], "by signs that look alike"
    elif last.casefold() == answer.casefold() and not prompt[: -len(answer)][-1:].isalnum():
        how = "by capital letters"
    elif alike:
        last, how = alike[-1], "by capital letters"
    else:
        return []
    raise UserError(
        f"{where}: the prompt has '{last[:60]}' and the answer is '{answer[:60]}', which differ {how}; write both "
        "alike, or put {answer} where it belongs"
    )
