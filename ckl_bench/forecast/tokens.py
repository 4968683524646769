"""A benchmark and a tokenizer -> the tokens that a run reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from ckl_bench.benchmarks.format import Benchmark
from ckl_bench.encode import tokenize
from ckl_bench.models.sketch import Sketch

BYTES_A_TOKEN = 4  # of English text, where the tokenizer is not at hand


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens that a run reads."""

    estimated: bool  # at four bytes a token, where the tokenizer is not at hand
    longest: int  # of a document
    stages: Sequence[int]  # of a stage's documents
    prompts: Sequence[int]  # of a stage's probes
    epoch: int  # read in training in one epoch of all stages, rehearsed ones among them
    all: int  # in all epochs


def count_tokens(
    benchmark: Benchmark, sketch: Sketch, max_tokens: int, limit: int | None
) -> tuple[list[int], list[int], int, bool]:
    """Tokens of every stage's documents and prompts, those of the longest document, and whether they are estimated."""
    known = sketch.tokenizer is not None
    documents, prompts, longest = [], [], 1
    for stage in benchmark.stages:
        each = lengths(sketch, (row.text for row in islice(stage.documents, limit)), max_tokens)
        documents.append(sum(each))
        longest = max([longest, *each])
        texts = (row.prompt for rows in stage.probes.values() for row in islice(rows, limit))
        prompts.append(sum(lengths(sketch, texts, None)))
    return documents, prompts, longest, not known


def lengths(sketch: Sketch, texts: Iterable[str], cut: int | None) -> list[int]:
    """Tokens of every text, cut at `cut`; estimated where the tokenizer is not at hand."""
    if sketch.tokenizer is not None:
        return [len(tokenize(sketch.tokenizer, text, cut)[0]) for text in texts]
    counts = (max(1, len(text.encode()) // BYTES_A_TOKEN) for text in texts)
    return [min(count, cut) if cut else count for count in counts]
