"""Scoring by vLLM: the same scores of a probe as `engine`, from the log-probabilities of its prompt's tokens.

vLLM is given token ids, never text, so that tokens before the first word and spaces before an object are those of
`engine`; it then says of every prompt token how likely it was and what was likeliest in its place. The
log-probabilities of one prompt differ with what is scored beside it: some are asked again, on their own, and compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from ckl_bench.benchmarks.format import Probe
from ckl_bench.encode import Tokenizer
from ckl_bench.errors import CklError
from ckl_bench.progress import log
from ckl_bench.scoring.engine import EncodedProbe, ProbeScore, encode_probe, scores_of
from ckl_bench.scoring.vllm_engine import Engine, started

SAME = {"float32": 1e-3}  # nats by which a probe's NLL may differ when it is asked again; of 16 bits see `OTHER`
OTHER = 0.1
AGAIN = 8  # probes that are asked twice


class Score(Protocol):
    """Scores probes: by the base model, or with one of the engine's adapters over it."""

    def __call__(self, probes: Sequence[Probe], adapter: Path | None = None) -> list[ProbeScore]:
        """CklError where the engine dies, leaves out a token, or answers otherwise when asked again."""


@contextmanager
def vllm_scorer(engine: Engine, longest: int) -> Iterator[Score]:
    """A function that scores probes, of at most `longest` tokens, while the block runs; the engine ends with it.

    Raises what `started` does.
    """
    with started(engine, longest) as ask:
        checked: set[Path | None] = set()

        def score(probes: Sequence[Probe], adapter: Path | None = None) -> list[ProbeScore]:
            tokenizer: Tokenizer = engine.base.tokenizer
            encoded = [encode_probe(tokenizer, probe) for probe in probes]
            outputs = ask([one.ids for one in encoded], adapter)
            scores = scores_of(tokenizer, encoded, _read_all(engine, encoded, outputs))
            if adapter not in checked:
                checked.add(adapter)
                few = encoded[:AGAIN]
                alone = [ask([one.ids], adapter)[0] for one in few]
                require_same(scores[:AGAIN], scores_of(tokenizer, few, _read_all(engine, few, alone)), engine.dtype)
            return scores

        yield score


class Running:
    """One engine at a time, while the block runs: started when it is first needed, and kept for whoever asks next.

    A new one takes its place for another model, and where a prompt is longer than it has room for.
    """

    def __init__(self) -> None:
        self._ending = ExitStack()
        self._engine: Engine | None = None
        self._room = 0
        self._score: Score

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *raised: object) -> None:
        self._ending.close()

    def scorer(self, engine: Engine, longest: int) -> Score:
        """What scores probes of at most `longest` tokens; raises what `started` does."""
        if engine is not self._engine or longest > self._room:
            self._ending.close()
            self._engine = None  # until it has started
            self._score = self._ending.enter_context(vllm_scorer(engine, longest))
            self._engine, self._room = engine, longest
        return self._score


def _read_all(
    engine: Engine, probes: Sequence[EncodedProbe], outputs: Sequence[Any]
) -> list[list[tuple[float, int, int]]]:
    return [_read_off(engine, probe, output) for probe, output in zip(probes, outputs, strict=True)]


def _read_off(engine: Engine, probe: EncodedProbe, output: Any) -> list[tuple[float, int, int]]:
    """NLL, likeliest token and true token of a probe's object tokens; CklError where vLLM left any out."""
    found = output.prompt_logprobs or []
    if len(found) != len(probe.ids):
        raise CklError(
            f"vLLM gave log-probabilities for {len(found)} of the {len(probe.ids)} tokens of probe '{probe.id}'; "
            f"--vllm enable_prefix_caching=false may help, {engine.switch} transformers does"
        )
    tokens = []
    for at in probe.objects:
        here, true = found[at], probe.ids[at]
        if not here or true not in here or not math.isfinite(here[true].logprob):
            raise CklError(
                f"vLLM gave no log-probability for token {at} of probe '{probe.id}'; use {engine.switch} transformers"
            )
        tokens.append((-here[true].logprob, min(here, key=lambda token: here[token].rank), true))
    return tokens


def require_same(scores: Sequence[ProbeScore], again: Sequence[ProbeScore], dtype: str) -> None:
    """CklError where probes that are asked again, each on its own, have another NLL than beside others."""
    worst = max(abs(one.nll - other.nll) for one, other in zip(scores, again, strict=True))
    allowed = SAME.get(dtype, OTHER)
    if not worst <= allowed:
        raise CklError(
            f"vLLM scores the same probe otherwise when it is asked again, by up to {worst:.2g} nats ({allowed:g} are "
            "rounding); --vllm max_num_seqs=1 or --vllm enable_prefix_caching=false may help"
        )
    log(f"asked again, {len(again)} probes differ by at most {worst:.1e} nats")
