"""In a run: a stage's documents -> their statements, written once and kept on disk, and the loss of learning them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ckl_bench.encode import Tokenizer, tokenize
from ckl_bench.method import StageContext
from ckl_bench.progress import line
from ckl_bench.storage.files import cache_dir, sha256_file
from ckl_bench.storage.json import sha256_json
from ckl_bench.storage.seals import made_once

from .forms import Form
from .rows import Row
from .statements import Statement, write
from .writer import MARK, READ, load_writer

VERSION = 3  # of how statements are written: what was kept by another is written again
FILE = "statements.json"


def written(
    stage: StageContext, forms: Sequence[Form], *, beams: int, count: int, device: torch.device
) -> dict[str, list[Statement]]:
    """Statements of every document of the stage, by its id, the likeliest first: those of `count` questions, and more.

    They depend on documents, forms and writer alone, so all seeds of a run share them.
    """
    writer = stage.inputs["writer"]
    texts = {document.id: document.text for document in stage.documents}
    about: Any = [
        VERSION,
        READ,
        MARK,
        beams,
        count,
        sha256_file(writer),
        str(device),
        texts,
        [asdict(form) for form in forms],
    ]

    def make(folder: Path) -> None:
        with line("writing statements") as shown:
            shown.begin(len(texts))
            model: Any = load_writer(writer, stage.base())
            found, names = {}, list(texts)
            for i, statements in write(model, stage.tokenizer, list(texts.values()), forms, beams=beams, count=count):
                found[names[i]] = [asdict(one) for one in statements]
                shown.advance(1)
        (folder / FILE).write_text(json.dumps(found))

    folder = made_once(cache_dir() / "statements" / sha256_json(about)[:24], make)
    rows = json.loads((folder / FILE).read_text())
    return {name: [Statement(**one) for one in found] for name, found in rows.items()}


def chosen(statements: Sequence[Statement], *, count: int, temperature: float) -> list[tuple[Statement, float]]:
    """The likeliest answers of the `count` likeliest questions, with their weights: exp of score over temperature."""
    first: dict[str, Statement] = {}
    for one in sorted(statements, key=lambda one: -one.score):
        first.setdefault(one.prefix, one)
    best = list(first.values())[:count]
    return [(one, math.exp((one.score - best[0].score) / temperature)) for one in best]


class Beside:
    """The statements of documents, and how the loss counts each of them."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        statements: Mapping[str, Sequence[Statement]],
        *,
        count: int,
        temperature: float,
    ) -> None:
        self._rows: dict[str, list[tuple[Row, float]]] = {}
        for name, found in statements.items():
            best = chosen(found, count=count, temperature=temperature)
            whole = sum(weight for _, weight in best)
            self._rows[name] = [(_row(tokenizer, one), weight / whole) for one, weight in best]

    def of(self, ids: Sequence[str]) -> tuple[list[Row], list[float]]:
        """The rows of some documents and their weights, whose sum is 1 for each document that has any, over all."""
        found = [one for name in ids for one in self._rows.get(name, ())]
        return [row for row, _ in found], [weight / len(ids) for _, weight in found]


def _row(tokenizer: Tokenizer, one: Statement) -> Row:
    """A statement as a probe would be read: its tokens, and where the answer begins."""
    ids, offsets = tokenize(tokenizer, f"{one.prefix} {one.object}")
    return ids, next(i for i, (_, end) in enumerate(offsets) if end > len(one.prefix) + 1)
