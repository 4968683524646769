"""Whether a benchmark's texts fit a model: as many positions, and an embedding for every token. No weight is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from ckl_bench.benchmarks.format import AttentionDocument, Benchmark
from ckl_bench.encode import tokenize
from ckl_bench.errors import UserError
from ckl_bench.models.base import BaseModel

Text = tuple[str, str, int | None]  # what it is called, the text, and at how many tokens it is cut, if it is


def require_fit(texts: Iterable[Text], base: BaseModel) -> None:
    """UserError where a text has more tokens than the model has positions, or one that it does not embed.

    Only texts that could be too long are tokenised, and all of them only where the tokenizer has more tokens than the
    model.
    """
    room = base.positions
    ids = max(base.tokenizer.get_vocab().values(), default=0)
    embedded = base.embedded if base.embedded is not None and ids >= base.embedded else None
    for what, text, cut in texts:
        # A token is at least a byte, but for those that a tokenizer puts around a text.
        long = room is not None and (cut is None or cut > room) and len(text.encode()) + 8 > room
        if not long and embedded is None:
            continue
        tokens = tokenize(base.tokenizer, text, cut)[0]
        if room is not None and len(tokens) > room:
            hint = f"; give --max-tokens {room} (--set max_tokens={room})" if cut else "; give a model that reads more"
            raise UserError(f"{what} has {len(tokens)} tokens, and '{base.name}' reads {room} at most{hint}")
        if embedded is not None and max(tokens, default=0) >= embedded:
            raise UserError(
                f"{what} has the token {max(tokens)} ({base.tokenizer.decode([max(tokens)])!r}), and '{base.name}' has "
                f"embeddings for {embedded}: tokenizer and model do not belong together; give the folder of both"
            )


def texts_of_run(benchmark: Benchmark, max_tokens: int, limit: int | None) -> Iterator[Text]:
    """Everything that a run reads of a benchmark's stages."""
    for stage in benchmark.stages:
        for document in islice(stage.documents, limit):
            yield f"document '{document.id}'", document.text, max_tokens
    yield from texts_of_probes(benchmark, limit)


def texts_of_probes(benchmark: Benchmark, limit: int | None) -> Iterator[Text]:
    """Everything that is asked on a benchmark's stages."""
    for stage in benchmark.stages:
        for probes in stage.probes.values():
            for probe in islice(probes, limit):
                yield f"prompt '{probe.id}'", probe.prompt, None


def texts_of_attention(rows: Iterable[AttentionDocument], max_tokens: int) -> Iterator[Text]:
    """Everything that the training of φ reads."""
    for row in rows:
        yield f"document '{row.id}'", row.text, max_tokens
        yield f"prompt of '{row.id}'", row.prompt, None
