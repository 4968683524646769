"""How facts are asked for: question forms read off solved pairs, and what of a document may stand in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import regex

from ckl_bench.benchmarks.format import AttentionDocument
from ckl_bench.encode import object_span
from ckl_bench.errors import UserError
from ckl_bench.method import RunTarget
from ckl_bench.words import occurrences

_WORD = regex.compile(r"\w+(?:['’.&/-](?!s\b)\w+)*")
_APART = set(';:()!?"“”—–\n')  # no name goes across these


@dataclass(frozen=True, order=True)
class Form:
    """A question without its subject: what stands before it, and between it and the object."""

    before: str
    after: str

    def about(self, subject: str) -> str:
        """The question, up to where its object begins."""
        return f"{self.before}{subject}{self.after}"


def forms_of(solved: Iterable[AttentionDocument]) -> list[Form]:
    """The forms of the prompts of solved pairs, each once and in order; prompts without their subject have none."""
    found = set()
    for row in solved:
        prefix = row.prompt[: object_span(row.prompt, row.fact.object)[0]].rstrip()
        for start, end in occurrences(prefix, row.fact.subject)[:1]:
            found.add(Form(prefix[:start], prefix[end:]))
    return sorted(found)


def require_pairs(target: RunTarget, method: str) -> None:
    """UserError before anything is loaded, where the benchmark has no solved pairs for a method that needs some."""
    if not target.attention_sha256:
        raise UserError(
            f"{method} learns from solved pairs how facts are asked for, and benchmark '{target.benchmark}' has none; "
            "build it with --pairs lama-ckl-mini (build own, build lama-ckl --published), or mark questions of your "
            "own 'attention' (build own)"
        )


def required_forms(solved: Iterable[AttentionDocument], method: str) -> list[Form]:
    """As `forms_of`; UserError where there is none."""
    found = forms_of(solved)
    if not found:
        raise UserError(
            f"{method} reads forms of questions off solved pairs, and none of them has its subject in its prompt; give "
            "their questions a column subject, or build with --pairs lama-ckl-mini (build own)"
        )
    return found


def spans(text: str, longest: int = 5) -> list[str]:
    """Every run of up to `longest` words that goes across no sentence, bracket or comma."""
    return [text[a:b] for a, b in _runs(text, longest, ",")]


def subjects(text: str, longest: int = 6) -> list[str]:
    """What may be a name: runs that begin and end with a capital or digit, and single words."""
    return [s for s in dict.fromkeys(text[a:b] for a, b in _runs(text, longest, "")) if _named(s) or " " not in s]


def names(text: str) -> list[str]:
    """The longest runs of words that all begin with a capital, but for a word that only begins a sentence."""
    found: list[str] = []
    end = 0
    for a, b in sorted(_runs(text, 6, ","), key=lambda span: (span[0], -span[1])):
        words = _WORD.findall(text[a:b])
        begins = a == 0 or text[:a].rstrip()[-1:] in ".!?"
        if a >= end and all(word[0].isupper() for word in words) and not (begins and len(words) == 1):
            found.append(text[a:b])
            end = b
    return list(dict.fromkeys(found))


def _named(run: str) -> bool:
    first, last = run[0], _WORD.findall(run)[-1][0]
    return (first.isupper() or first.isdigit()) and (last.isupper() or last.isdigit())


def _runs(text: str, longest: int, apart: str) -> list[tuple[int, int]]:
    """Where runs of words stand; `apart` names more characters that none goes across."""
    words = [match.span() for match in _WORD.finditer(text)]
    found = []
    for i, (start, _) in enumerate(words):
        for j in range(i, min(i + longest, len(words))):
            if j > i:
                before, gap = words[j - 1], text[words[j - 1][1] : words[j][0]]
                ends = gap.startswith(".") and before[1] - before[0] > 2  # initials and "St." end no sentence
                if len(gap) > 2 or ends or any(c in _APART or c in apart for c in gap):
                    break
            found.append((start, words[j][1]))
    return found
