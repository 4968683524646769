"""What a frozen model makes of documents: once each, the same whatever is asked for first or stands beside it."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from ckl_bench.benchmarks.format import Document
from ckl_bench.encode import EncodedDocument, collate
from ckl_bench.learning import readings
from ckl_bench.learning.readings import Readings
from ckl_bench.learning.train import token_nll
from helpers.architectures import BUILDERS, make
from helpers.stages import TEXT, encode


def documents() -> tuple[EncodedDocument, ...]:
    draw = random.Random(0)
    return encode(*(Document(id=str(i), text=TEXT[i : i + draw.randrange(3, 60)]) for i in range(14)))


@pytest.mark.parametrize("shape", BUILDERS)
def test_a_document_is_read_once_and_equal_to_the_last_bit_whatever_is_asked_first(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "TOKENS", 128)
    model, given = make(shape), documents()
    read: list[tuple[int, ...]] = []

    def nll(ids: Tensor, mask: Tensor) -> Tensor:
        read.append(tuple(ids.shape))
        return token_nll(model, ids, mask)

    found: list[dict[str, Tensor]] = []
    for seed in range(3):
        order = list(given)
        random.Random(seed).shuffle(order)
        known = Readings(given, nll, "cpu")
        seen: dict[str, Tensor] = {}
        read.clear()
        for start in (0, 3, 4, 9, 0):  # the last ones again
            batch = collate(order[start : start + 5])
            seen |= {d.id: row for d, row in zip(batch.documents, known.of(batch), strict=True)}
        found.append(seen)
        assert 1 < len(read) < len(given)
        assert all(rows * tokens <= 128 for rows, tokens in read)
        assert sum(rows for rows, _ in read) == len({document.ids for document in given})
    for document in given:
        alone = collate([document])
        with torch.no_grad():
            by_itself = token_nll(model, alone.ids, alone.mask)[0]
        for seen in found:
            assert torch.equal(seen[document.id], found[0][document.id])
            torch.testing.assert_close(seen[document.id], by_itself, atol=1e-6, rtol=0)


def test_what_is_no_document_of_the_stage_is_read_alone_and_not_taken_for_one_of_the_same_name() -> None:
    model, given = make("llama"), documents()
    known = Readings(given[:6], lambda ids, mask: token_nll(model, ids, mask), "cpu")
    other = encode(Document(id=given[0].id, text="another text by that name"))[0]
    long = encode(Document(id="long", text=TEXT * 20))[0]
    batch = collate([given[0], other, given[9], long])
    for document, row in zip(batch.documents, known.of(batch), strict=True):
        alone = collate([document])
        with torch.no_grad():
            torch.testing.assert_close(row, token_nll(model, alone.ids, alone.mask)[0], atol=1e-6, rtol=0)
