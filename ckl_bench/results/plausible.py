"""Whether a record's numbers can be what it says they are: what scoring cannot give.

Every rule is a theorem about `scoring.engine`, so no honest run breaks one; numbers that keep to all of them can still
be made up. Only `ckl-bench reproduce` shows that they were not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from ckl_bench.benchmarks.format import Benchmark, Probe
from ckl_bench.models.base import BaseModel
from ckl_bench.records import Record, SetScores
from ckl_bench.results.differences import UNTRAINED
from ckl_bench.results.reproduce import scored_sets
from ckl_bench.scoring.engine import encode_probe

ROUNDING = 1e-6  # a probe's scores are kept to six decimals
SLACK = 1e-5  # nats: rounding, and a cross entropy in float32

Fault = tuple[str, str]  # the rule that is broken, and how, in words


def implausible(record: Record, benchmark: Benchmark, base: BaseModel) -> list[str]:
    """What in a record's scores no model can have been given, one sentence a rule that is broken.

    With n tokens of a probe's object, k of them predicted right (the argmax), V tokens to choose from, and p the
    probability of a true token:

    - the accuracy is k/n, and `exact` the share of probes with k = n;
    - a right token is the most likely of V, so p >= 1/V: for k = n the mean NLL is at most ln V;
    - a wrong token has another one that is at least as likely, so p <= 1/2: the mean NLL is at least (n-k)/n ln 2;
    - the guess is n tokens long, k of them the object's own in their places (see `_right_in`);
    - an epoch's scores are those of one of its views, where the model was scored in several;
    - a model that learns nothing scores the same after every epoch.

    The record must have the benchmark's stages and probes.
    """
    tokens = _tokens_of(base)
    objects = {
        (stage.name, name): [_Object.of(base.tokenizer, probe) for probe in rows]
        for stage in benchmark.stages
        for name, rows in stage.probes.items()
    }
    broken: dict[str, list[str]] = {}
    for place, stage_name, set_name, scores in scored_sets(record):
        own = objects[stage_name, set_name]
        for rule, words in _faults_of_set(scores, own, tokens):
            broken.setdefault(rule, []).append(f"{place}{words}")
    for stage in record.stages:
        for epoch in stage.epochs:
            if record.spec.method == UNTRAINED and epoch.sets != stage.epochs[0].sets:
                place = f"{stage.name} epoch {epoch.epoch}"
                broken.setdefault("untrained", []).append(f"{place}: a model that learns nothing scores otherwise")
            if epoch.views and epoch.sets not in epoch.views.values():
                place = f"{stage.name} epoch {epoch.epoch}"
                broken.setdefault("views", []).append(f"{place}: its scores are those of none of its views")
    return [faults[0] + (f" (and {len(faults) - 1} more like it)" if faults[1:] else "") for faults in broken.values()]


@dataclass(frozen=True, kw_only=True)
class _Object:
    """The object of a probe as the tokens that a model has to predict."""

    probe: str
    ids: tuple[int, ...]
    text: str

    @classmethod
    def of(cls, tokenizer: Any, probe: Probe) -> _Object:
        encoded = encode_probe(tokenizer, probe)
        ids = tuple(encoded.ids[position] for position in encoded.objects)
        return cls(probe=probe.id, ids=ids, text=tokenizer.decode(list(ids)))


def _faults_of_set(scores: SetScores, objects: Sequence[_Object], tokens: _Tokens) -> Iterator[Fault]:
    rows = zip(objects, scores.probe_accuracy, scores.probe_nll, scores.probe_guess, strict=True)
    for item, accuracy, nll, guess in rows:
        for rule, words in _faults_of_probe(item, accuracy, nll, guess, tokens):
            yield rule, f", probe '{item.probe}': {words}"
    exact = sum(accuracy == 1 for accuracy in scores.probe_accuracy) / len(objects)
    if not abs(scores.exact - exact) <= ROUNDING:
        yield "exact", f": exact is {scores.exact:.6f}, of its probes {exact:.6f} have an accuracy of 1"


def _faults_of_probe(item: _Object, accuracy: float, nll: float, guess: str, tokens: _Tokens) -> Iterator[Fault]:
    if not (math.isfinite(accuracy) and math.isfinite(nll)):
        yield "finite", "a score is not a finite number"
        return
    if nll < -SLACK:
        yield "negative", f"an NLL of {nll:.6f} is below 0"
    if not 0 <= accuracy <= 1:
        yield "range", f"an accuracy of {accuracy} is not between 0 and 1"
        return
    count = len(item.ids)
    right = round(accuracy * count)
    if abs(accuracy - right / count) > ROUNDING:
        yield "fraction", f"an accuracy of {accuracy} is no number of right tokens over the object's {count}"
        return
    least, most = (count - right) / count * math.log(2), math.log(tokens.size)
    if nll < least - SLACK:
        yield "low", f"an NLL of {nll:.6f} is too low with {right} of {count} tokens right (at least {least:.6f})"
    if right == count and nll > most + SLACK:
        yield "high", f"an NLL of {nll:.6f} is too high with all tokens right (at most {most:.6f})"
    if right not in tokens.right_in(guess, item):
        yield "guess", f"'{guess}' was guessed for '{item.text}', which has not {right} of {count} tokens right"


class _Tokens:
    """The tokens that a model chooses from, and what a guess says of how many it chose right."""

    def __init__(self, base: BaseModel) -> None:
        self.size = base.vocabulary
        self._pieces = _bytes_of_tokens(base.tokenizer)
        self._longest = max(map(len, self._pieces or [b""]))
        if self._pieces is not None and base.vocabulary > len(base.tokenizer):
            self._pieces.setdefault(b"", set()).add(-1)  # rows of the head that stand for no text
        self.right_in = cache(self._right_in)

    def _right_in(self, guess: str, item: _Object) -> set[int]:
        """How many of the object's tokens a guess can have right: every way to cut it into as many tokens is tried.

        A text does not say which tokens it came from, and where bytes are no UTF-8 not even which bytes: then only a
        guess with all tokens right is known to read as the object does.
        """
        count = len(item.ids)
        if self._pieces is None or "\N{REPLACEMENT CHARACTER}" in guess:
            return set(range(count + (guess == item.text)))
        text = guess.encode()
        if len(text) > count * self._longest:
            return set()
        ways: dict[int, set[int]] = {0: {0}}  # bytes read so far -> numbers of right tokens among them
        for true in item.ids:
            longer: dict[int, set[int]] = {}
            for start, rights in ways.items():
                for end in range(start, min(len(text), start + self._longest) + 1):
                    ids = self._pieces.get(text[start:end], set())
                    if true in ids:
                        longer.setdefault(end, set()).update(right + 1 for right in rights)
                    if ids - {true}:
                        longer.setdefault(end, set()).update(rights)
            ways = longer
        return ways.get(len(text), set())


@lru_cache(maxsize=4)
def _tokens_of(base: BaseModel) -> _Tokens:
    """One reading of a vocabulary serves all records of a model, and so does what its guesses were found to say."""
    return _Tokens(base)


def _bytes_of_tokens(tokenizer: Any) -> dict[bytes, set[int]] | None:
    """Bytes -> ids of the tokens that stand for them; None where a text is more than its tokens' bytes in a row."""
    from tokenizers.decoders import ByteLevel

    plain = not getattr(tokenizer, "clean_up_tokenization_spaces", True)
    if not (plain and isinstance(tokenizer.backend_tokenizer.decoder, ByteLevel)):
        return None
    letters = _byte_letters()
    pieces: dict[bytes, set[int]] = {}
    for token, number in tokenizer.get_vocab().items():
        known = all(letter in letters for letter in token)
        piece = bytes(letters[letter] for letter in token) if known else token.encode()
        pieces.setdefault(piece, set()).add(number)
    return pieces


def _byte_letters() -> dict[str, int]:
    """The letter that byte-level tokenizers write for each byte (Radford et al. 2019, `bytes_to_unicode`)."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(b): b for b in printed} | {chr(256 + i): b for i, b in enumerate(others)}
