"""What a method's hooks are given: a stage, of texts as the tiny tokenizer reads them."""

from __future__ import annotations

from collections.abc import Sequence

from ckl_bench.benchmarks.format import Document
from ckl_bench.encode import EncodedDocument, encode_documents
from ckl_bench.method import StageContext
from ckl_bench.models.tiny import tiny_tokenizer
from helpers.architectures import make

TEXT = "In 1903 Marie Curie shared the prize with Pierre; Marie Curie won again."


def encode(*documents: Document) -> tuple[EncodedDocument, ...]:
    return encode_documents(tiny_tokenizer(), documents, 512)


def stage(
    documents: Sequence[EncodedDocument] = (), rehearsal: Sequence[EncodedDocument] = (), seed: int = 0
) -> StageContext:
    return StageContext(
        name="s",
        index=0,
        seed=seed,
        documents=documents,
        rehearsal=lambda: rehearsal,
        base=lambda: make("llama"),
        inputs={},
        tokenizer=tiny_tokenizer(),
    )
