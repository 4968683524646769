"""Does a text state a fact? One rule, for the sets that a builder keeps apart and for what a run reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ckl_bench.benchmarks.format import Fact
from ckl_bench.words import Span, fold, occurrences

_BREAK = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_KEY = 4  # characters of a subject by which it is looked for


class Statements:
    """Facts that a text may state: it does where one of its sentences names subject and object, as whole words.

    A name inside the other (Paris in Paris Hilton) does not count, nor a fact without a subject. The object may stand
    in the form that the fact's own text uses.
    """

    def __init__(self, facts: Iterable[Fact]) -> None:
        self._facts: dict[str, list[Fact]] = {}
        for fact in facts:
            if fact.subject.strip():
                self._facts.setdefault(fact.subject, []).append(fact)
        self._subjects: dict[str, list[str]] = {}
        for subject in self._facts:
            self._subjects.setdefault(fold(subject).strip()[:_KEY], []).append(subject)
        self._lengths = {len(key) for key in self._subjects}

    def stated_in(self, text: str) -> Fact | None:
        """The first of the facts that the text states, in the order of their subjects' first letters; None for none."""
        breaks = [match.start() for match in _BREAK.finditer(text)]
        for subject in self._subjects_of(text):
            spans = occurrences(text, subject)
            for fact in self._facts[subject] if spans else ():
                for form in fact.forms:
                    if any(_together(a, b, breaks) for b in occurrences(text, form) for a in spans):
                        return fact
        return None

    def _subjects_of(self, text: str) -> Iterator[str]:
        """Subjects whose first characters are somewhere in the text."""
        folded = fold(text)
        here = {folded[i : i + length] for length in self._lengths for i in range(len(folded) - length + 1)}
        for key in sorted(here & self._subjects.keys()):
            yield from self._subjects[key]


def _together(one: Span, other: Span, breaks: Iterable[int]) -> bool:
    """Whether two names stand apart from each other and in one sentence; a full stop that ends a name ends none."""
    first, second = sorted((one, other))
    return first[1] <= second[0] and not any(first[1] < place < second[0] for place in breaks)
