"""Whether a record's scores before training are those of other runs that start from the same model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ckl_bench.records import Record, SetScores
from ckl_bench.results.reproduce import surroundings
from ckl_bench.stacks.stack import Stack
from ckl_bench.storage.json import canonical_json

# Nats by dtype, between one base model's scores of a probe on different machines; see `unlike_the_base`.
SAME_NLL = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
NEAR_TIES = 50  # one probe in so many may have two tokens that are as likely, and another accuracy elsewhere
# They build a model that is the base model until it is trained.
STARTS_AS_THE_BASE = {"finetune", "kadapter", "lora", "lora-null", "none"}
# What the scores of an untrained model do not depend on.
_OF_TRAINING = {"seed", "epochs", "batch_size", "learning_rate", "max_tokens", "schema_version", "tokenizer_hash"}


def starts_as_the_base(stack: Stack) -> bool:
    """Whether a stack's model is the base model until it is trained; that no plugin of it decides otherwise."""
    mine = {name for name in stack.parts if f"method:{name}" not in stack.plugins}
    deciding = [stack.owner("build"), stack.owner("scoring")]
    owners = {name for name, part in stack.parts.items() if any(part is owner for owner in deciding)}
    return bool(STARTS_AS_THE_BASE & mine) and owners <= mine


def unlike_the_base(record: Record, others: Iterable[Record], as_base: bool = False) -> list[str]:
    """Where a record's scores before training are not those of other runs that start from the same model.

    Methods that add to the base model what is zero at first start from it as it is; `as_base` says so of a stack with a
    part that is not built in (`starts_as_the_base`). A stack with another way to build its model (`qlora` rounds the
    weights), or of whose parts nothing is known, is compared with runs of the very same stack, versions and machine
    alone. Between all committed runs of a benchmark that start from the base model (two kinds of processors, five ways
    to build) the NLL of a probe differs by at most 2.2e-5 nats and no accuracy; 1e-3 nats leaves room for other
    processors and GPUs, as does, where versions or machines differ, one probe in 50 with another accuracy. Weights of
    16 bits round more.
    """
    own, start = _untrained(record), _start(record, as_base)
    like = [other for other in others if other.run_id != record.run_id and other.stages and _start(other) == start]
    found = []
    for place, scores in own.items():
        for other in like:
            theirs = _untrained(other).get(place)
            there = surroundings(record) == surroundings(other)
            words = _difference(scores, theirs, SAME_NLL[record.spec.dtype], there) if theirs else None
            if words:
                found.append(f"{place}: {words} in run {other.run_id}, which starts from the same model")
                break
    return found


def _untrained(record: Record) -> Mapping[str, SetScores]:
    """The scores of the model before any training, by their place in words."""
    first = record.stages[0]
    stages = {f"{first.name} epoch 0": first.epochs[0].sets if first.epochs else {}}
    stages |= {f"{name} before training": sets for name, sets in record.before.items()}
    return {f"{place} {name}": scores for place, sets in stages.items() for name, scores in sets.items()}


def _start(record: Record, as_base: bool = False) -> str:
    """Equal texts where the models before training are equal."""
    start = record.spec.model_dump(exclude=_OF_TRAINING)
    plugin = any(name.startswith("method:") for name in record.spec.inputs)
    if as_base or (STARTS_AS_THE_BASE & record.spec.hyperparameters.keys() and not plugin):
        return canonical_json({name: start[name] for name in start.keys() - {"method", "hyperparameters", "inputs"}})
    return canonical_json([start, surroundings(record)])


def _difference(scores: SetScores, theirs: SetScores, nats: float, same_machine: bool) -> str | None:
    """How two scores of one model on one probe set differ by more than machines do, in words."""
    if len(scores.probe_nll) != len(theirs.probe_nll):
        return f"{len(scores.probe_nll)} probes were scored, {len(theirs.probe_nll)}"
    far = [p for p in zip(scores.probe_nll, theirs.probe_nll, strict=True) if not abs(p[0] - p[1]) <= nats]
    if far:
        return f"the NLL of {len(far)} probes differs, the first is {far[0][0]:.6f} and {far[0][1]:.6f}"
    flipped = sum(a != b for a, b in zip(scores.probe_accuracy, theirs.probe_accuracy, strict=True))
    if flipped > (0 if same_machine else math.ceil(len(scores.probe_nll) / NEAR_TIES)):
        return f"{flipped} probes have another accuracy than"
    return None
