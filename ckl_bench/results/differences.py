"""What tells runs apart beyond their method: the settings in which specs differ."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from ckl_bench.spec import Spec

SETTINGS = (
    *("learning_rate", "epochs", "batch_size", "limit", "max_tokens", "dtype", "model_revision", "tokenizer_hash"),
    *("benchmark_hash", "schema_version"),
)
UNTRAINED = "none"  # the method that does nothing: its row is what the others have to beat
OF_TRAINING = ("learning_rate", "batch_size", "epochs")  # tell nothing of what learns nothing
# How some of them may be typed, and are in a row's label.
SHORT = {
    **{"lr": "learning_rate", "batch": "batch_size", "schema": "schema_version"},
    **{"benchmark": "benchmark_hash", "model": "model_revision", "tokenizer": "tokenizer_hash"},
}
_HASHES = ("model_revision", "benchmark_hash", "tokenizer_hash")
_INPUT = "inputs."


def settings_of(spec: Spec) -> dict[str, Any]:
    """Every setting of a spec but its seed: by name, hyperparameters as `method.field`, files read as `inputs.NAME`."""
    return {
        **{name: getattr(spec, name) for name in SETTINGS},
        "tokenizer_hash": spec.tokenizer_hash or None,
        **{f"{part}.{name}": value for part, own in spec.hyperparameters.items() for name, value in own.items()},
        **{f"{_INPUT}{name}": value for name, value in spec.inputs.items()},
    }


def is_hash(name: str) -> bool:
    """Whether a setting is a hash, or pins something as one does: its beginning is enough to name it."""
    return name in _HASHES or name.startswith(_INPUT)


def differences(specs: Sequence[Spec]) -> dict[str, list[Any]]:
    """Setting -> its values, one a spec, for every setting in which the specs differ; seeds are not looked at.

    What a spec lacks is None. What only other methods have (taalm's file, beside lora) says no more than that the
    methods differ, and is left out; so is how one trains, beside another that does nothing.
    """
    every = [settings_of(spec) for spec in specs]
    idle = [spec.method == UNTRAINED or spec.scored_only for spec in specs]
    unused = OF_TRAINING if any(idle) and not all(idle) else ()
    same_parts = len({frozenset(spec.hyperparameters) for spec in specs}) < 2
    found = {}
    for name in dict.fromkeys(name for settings in every for name in settings):
        part = name.rpartition(".")[0]
        if name not in unused and all(
            name in settings or same_parts or part in spec.hyperparameters
            for settings, spec in zip(every, specs, strict=True)
        ):
            values = [settings.get(name) for settings in every]
            if any(value != values[0] for value in values):
                found[name] = values
    return found


def number(value: float) -> str:
    """A number in the fewest characters that give it back: 0.0005 is `5e-4`, 16.0 is `16`."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    if not isinstance(exponent, int):  # not a finite number
        return str(value)
    whole, rest = str(digits[0]), "".join(map(str, digits[1:]))
    power = f"{'-' * sign}{whole}{'.' * bool(rest)}{rest}e{exponent + len(rest)}"
    return min(repr(value).removesuffix(".0"), power, key=len)


def shown(name: str, values: Sequence[Any]) -> list[str]:
    """A setting's values as text, which `compare` takes; of hashes the first eight characters, or as many as tell them
    apart."""
    texts = ["none" if v is None else number(v) if isinstance(v, float) else str(v) for v in values]
    if not is_hash(name):
        return texts
    length = 8
    while len({text[:length] for text in texts}) < len(set(texts)):
        length += 1
    return [text[:length] for text in texts]
