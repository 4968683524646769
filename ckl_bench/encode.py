"""Text -> tokens: object spans by character offsets, and length-bucketed batches."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ckl_bench.benchmarks.format import Document, Fact
from ckl_bench.errors import UserError
from ckl_bench.words import Span, occurrences

if TYPE_CHECKING:  # what lists methods or makes tables speaks of documents too, and needs no torch
    import torch
    from torch import Tensor

Tokenizer = Any  # a transformers fast tokenizer; its class differs from model to model
Declared = tuple["Fact | None", tuple["Fact", ...]]  # a document's fact, and more of them


def _nothing() -> Declared:
    return None, ()


@dataclass(frozen=True, init=False)
class EncodedDocument:
    """A document as tokens: `ids` and the characters `[start, end)` that each token stands for.

    The facts that it declares are what the probes ask for. They are handed out by `declared` alone, so that a run can
    note that its method was told the answers; a pickle holds them, too. A copy is the document itself.
    """

    id: str
    text: str
    ids: tuple[int, ...]
    offsets: tuple[Span, ...]
    declared: Callable[[], Declared] = field(repr=False, compare=False)

    def __init__(
        self,
        *,
        id: str,
        text: str,
        ids: tuple[int, ...],
        offsets: tuple[Span, ...],
        declared: Callable[[], Declared] = _nothing,
        **facts: Any,  # fact, more_facts: of a document that a method makes
    ) -> None:
        if facts:
            made = facts.pop("fact", None), tuple(facts.pop("more_facts", ()))
            declared = partial(tuple, made)
        if facts:
            raise TypeError(f"a document has no {', '.join(facts)}")
        for name, value in (("id", id), ("text", text), ("ids", ids), ("offsets", offsets), ("declared", declared)):
            object.__setattr__(self, name, value)

    def __copy__(self) -> EncodedDocument:
        return self

    def __deepcopy__(self, memo: object) -> EncodedDocument:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        handed_out = partial(tuple, self.declared())
        return _made_again, (self.id, self.text, self.ids, self.offsets, handed_out)

    @property
    def fact(self) -> Fact | None:
        """The fact that the text is evidence of."""
        return self.declared()[0]

    @property
    def more_facts(self) -> tuple[Fact, ...]:
        """Other facts that the text is evidence of."""
        return self.declared()[1]

    @property
    def facts(self) -> tuple[Fact, ...]:
        """Every fact the text is evidence of."""
        fact, more = self.declared()
        return (fact, *more) if fact else more


def _made_again(
    id: str, text: str, ids: tuple[int, ...], offsets: tuple[Span, ...], declared: Callable[[], Declared]
) -> EncodedDocument:
    return EncodedDocument(id=id, text=text, ids=ids, offsets=offsets, declared=declared)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Documents side by side, padded on the right."""

    documents: tuple[EncodedDocument, ...]
    ids: Tensor  # (B, T) int64
    mask: Tensor  # (B, T) int64: 1 on tokens, 0 on padding

    @property
    def targets(self) -> Tensor:
        """(B, T-1) float: 1 where a token is predicted; the first token never is, nor is padding."""
        return self.mask[:, 1:].float()


def tokenize(tokenizer: Tokenizer, text: str, max_tokens: int | None = None) -> tuple[list[int], list[Span]]:
    """Token ids with their character spans, cut at `max_tokens`; UserError for a tokenizer without offsets."""
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"tokenizer {type(tokenizer).__name__} gives no character offsets; use a model with a fast tokenizer"
        )
    encoding = tokenizer(
        text, return_offsets_mapping=True, truncation=max_tokens is not None, max_length=max_tokens, verbose=False
    )
    return list(encoding["input_ids"]), [(int(a), int(b)) for a, b in encoding["offset_mapping"]]


def tokens_in(offsets: Sequence[Span], span: Span) -> list[int]:
    """Positions of the tokens whose characters overlap `span`."""
    return [i for i, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]


def object_span(prompt: str, obj: str) -> Span:
    """Characters of the last occurrence of the object in the prompt, as whole words where it occurs so.

    Raises UserError where it does not occur at all.
    """
    whole = [(start, end) for start, end in occurrences(prompt, obj) if prompt[start:end] == obj]
    if whole:
        return whole[-1]
    start = prompt.rfind(obj) if obj else -1
    if start < 0:
        raise UserError(f"the object '{obj}' does not occur in the prompt '{prompt}'; correct the probe")
    return start, start + len(obj)


def object_tokens(document: EncodedDocument) -> Tensor:
    """(T,) float: 1 on the tokens of the objects of the document's facts, wherever the text names them; 0 elsewhere.

    Only whole words name an object (`words.occurrences`), in the form of the fact or in the form that the text uses.
    """
    import torch

    marks = torch.zeros(len(document.ids))
    for fact in document.facts:
        for form in fact.forms:
            for span in occurrences(document.text, form):
                marks[tokens_in(document.offsets, span)] = 1.0
    return marks


def encode_documents(
    tokenizer: Tokenizer, documents: Iterable[Document], max_tokens: int, told: Callable[[], object] = bool
) -> tuple[EncodedDocument, ...]:
    """Tokenise documents once, cut at `max_tokens`; texts under two tokens hold nothing to predict and are left out.

    `told` is called whenever one of them hands out its facts.
    """
    encoded = []
    for document in documents:
        ids, offsets = tokenize(tokenizer, document.text, max_tokens)
        if len(ids) > 1:
            encoded.append(
                EncodedDocument(
                    id=document.id,
                    text=document.text,
                    ids=tuple(ids),
                    offsets=tuple(offsets),
                    declared=_handing_out(document.fact, document.more_facts, told),
                )
            )
    return tuple(encoded)


def _handing_out(fact: Fact | None, more: tuple[Fact, ...], told: Callable[[], object]) -> Callable[[], Declared]:
    def declared() -> Declared:
        told()
        return fact, more

    return declared


def pad(sequences: Sequence[Sequence[int]], value: int = 0) -> tuple[Tensor, Tensor]:
    """Sequences padded on the right to (B, T) ids, with the (B, T) mask of real tokens."""
    import torch

    longest = max(len(sequence) for sequence in sequences)
    ids = torch.tensor([[*sequence, *[value] * (longest - len(sequence))] for sequence in sequences])
    mask = torch.tensor([[1] * len(sequence) + [0] * (longest - len(sequence)) for sequence in sequences])
    return ids, mask


def by_length(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Places in `lengths` in groups of similar length, each of at most `max_tokens` with its padding, or of one."""
    group: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if group and (len(group) + 1) * lengths[index] > max_tokens:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def collate(documents: Sequence[EncodedDocument], device: torch.device | str = "cpu") -> Batch:
    """One batch of the given documents, in the given order."""
    ids, mask = pad([document.ids for document in documents])
    return Batch(documents=tuple(documents), ids=ids.to(device), mask=mask.to(device))


def batches(
    documents: Sequence[EncodedDocument], batch_size: int, order: random.Random, device: torch.device | str = "cpu"
) -> Iterator[Batch]:
    """Every document once, in shuffled batches of similar length.

    Shuffled first, then sorted by length within pools of eight batches, so that batches stay random but carry little
    padding; the order of batches is shuffled again. A pure function of `order`'s state.
    """
    shuffled = list(documents)
    order.shuffle(shuffled)
    groups: list[list[EncodedDocument]] = []
    for start in range(0, len(shuffled), 8 * batch_size):
        pool = sorted(shuffled[start : start + 8 * batch_size], key=lambda document: len(document.ids))
        groups += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    order.shuffle(groups)
    for group in groups:
        yield collate(group, device)
