"""The record: one JSON file per run, the only truth that tables are made of.

A record is immutable: it is written once, atomically, under its run id. Every score measured is in it, per probe, so
that no later analysis needs the run again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from ckl_bench.errors import InvalidRecord
from ckl_bench.spec import CLOSED, Count, Spec, reasons
from ckl_bench.storage.files import read_sealed
from ckl_bench.storage.json import sealed
from ckl_bench.storage.writing import write_json

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # of what can be spent
LEARNING = ("weigh", "penalty", "train")  # phases of a run in which it learns


class _Model(BaseModel):
    model_config = CLOSED


class Environment(_Model):
    """Where and with what the run was made."""

    ckl_bench: str
    """Version of this package."""
    commit: str
    """Git commit of the checkout, with `+changes` where files differed from it; `unknown` outside a checkout."""
    python: str
    """Python's version."""
    packages: dict[str, str]
    """Versions of torch, transformers, peft, datasets, safetensors."""
    platform: str
    """Operating system and processor architecture."""
    device: str
    """What computed: cpu with its name, or the GPU's name."""
    threads: Count
    """Threads torch used, in each process."""
    processes: Count = 1
    """Processes that shared the run; it changes time and memory, and results in their rounding."""
    command: list[str]
    """The command line; of absolute paths the last part."""
    started: str
    """UTC time of the start, ISO 8601."""
    micro_batch: Count | None = None
    """Documents that went through the model at once, where the user said so; it changes memory, not the loss."""
    score_batch_tokens: Count | None = None
    """Tokens of prompts that went through the model at once, where the user said so; no score depends on it."""
    checkpoint_activations: bool = False
    """Whether activations were computed again for the gradient rather than kept."""
    attention: str = ""
    """The attention kernel that was asked for; empty where transformers chose."""
    shard: bool = False
    """Whether the frozen base model lay in parts, one a process; it changes memory and time."""
    tf32: bool = False
    """Whether a GPU multiplied float32 in TF32."""
    deterministic: bool | None = None
    """Whether the device was told to repeat itself bit for bit; null where it was not recorded."""


class Preparation(_Model):
    """What was spent before the run, once, on a file that the method reads."""

    input: str
    """The method's name for the file; its hash is in the spec's inputs."""
    seconds: Amount
    """Wall-clock seconds of training and validation."""
    documents: Count
    """Documents learned from, counted every time."""
    tokens: Count
    """Tokens of those documents."""


class Cost(_Model):
    """What the run took."""

    seconds: dict[str, Amount]
    """Wall-clock seconds per phase: load, weigh (token weights), penalty (what penalties make before a stage's first
    step; records before 2026-11-28 lack it), train (the rest of training), score."""
    train_tokens: Count
    """Tokens read in training, padding not counted, over all epochs."""
    train_tokens_per_second: Amount
    """train_tokens over the seconds of the phases in `LEARNING`."""
    peak_memory_bytes: Count
    """Peak resident memory of the process, or peak allocated memory of the GPU."""
    trainable_parameters: Count
    """Parameters that train."""
    total_parameters: Count
    """Parameters of the model, trained or not."""
    preparations: list[Preparation] = []
    """What was spent on files that the method reads; not part of the seconds above."""


class Perplexity(_Model):
    """exp of a text's mean NLL a token, by the base model and by the model that has learned."""

    before: float
    """Of the base model."""
    after: float
    """Of the model after the stage's last epoch, as its method wants it scored."""


class SetScores(_Model):
    """One probe set at one epoch; lists run parallel to the stage's `probe_ids` of that set."""

    accuracy: float
    """Mean token accuracy over probes."""
    exact: float
    """Share of probes with every object token right."""
    nll: float
    """Mean over probes of the object tokens' mean NLL, nats."""
    probe_accuracy: list[float]
    """Token accuracy per probe."""
    probe_nll: list[float]
    """NLL per probe, nats."""
    probe_guess: list[str]
    """The argmax prediction at the object's positions, per probe."""


class EpochScores(_Model):
    """All probe sets after one epoch; epoch 0 is before training."""

    epoch: Count
    """Passes done over the stage's documents."""
    train_loss: float | None
    """Mean loss over the epoch's steps, nats; none at epoch 0."""
    sets: dict[str, SetScores]
    """Scores by probe set."""
    views: dict[str, dict[str, SetScores]] = {}
    """After the last epoch of a method that scores the model in several ways (wiseft): scores by view and probe set."""


def total(epoch: EpochScores) -> float:
    """LAMA-ckl's total of an epoch: accuracy on what is to be learned plus that on what is not to be forgotten."""
    return epoch.sets["to_learn"].accuracy + epoch.sets["not_to_forget"].accuracy


def best_total(epochs: Sequence[EpochScores]) -> EpochScores:
    """The epoch with the highest total, of several the first: that of the tables' `best_total`."""
    return max(epochs, key=total)


class Retained(_Model):
    """One number of one task that has nothing to do with the benchmark, by lm-evaluation-harness."""

    before: float
    """Of the base model."""
    after: float
    """Of the model after the last stage's last epoch, as its method wants it scored."""
    before_stderr: float | None = None
    """Standard error of `before`, where lm-eval gives one."""
    after_stderr: float | None = None
    """Standard error of `after`."""
    higher_is_better: bool | None = None
    """Which way is up, where lm-eval says so."""
    samples: Count = 0
    """Samples that were asked."""


class TokenWeights(_Model):
    """What a method that weighs tokens made of one document, after the stage's last epoch."""

    document: str
    """The document's id."""
    tokens: list[str]
    """Its text, token by token; the first one is never predicted and so never weighed. A character that is split stands
    in the first of its tokens, the others are empty; older records repeat it."""
    weights: list[float]
    """Weight of every token but the first, as the method gave it."""


class StageScores(_Model):
    """One stage: what was learned, and every score in it."""

    name: str
    """The stage's name."""
    documents: Count
    """Documents learned."""
    probe_ids: dict[str, list[str]]
    """Ids of the probes of each set, in order."""
    epochs: list[EpochScores]
    """From epoch 0 on."""
    rehearsed: list[str] = []
    """Ids of the documents read that are not the stage's own."""
    token_weights: list[TokenWeights] = []
    """Of a method that weighs tokens: its weights in the stage's first documents, to look at."""
    divergence: dict[str, float] = {}
    """After the last epoch: mean KL(base model || model) in nats a token, on the stage's first `documents`, on the
    first `rehearsal` documents of the benchmark and on `general` text; empty in records from before it was measured."""
    perplexity: dict[str, Perplexity] = {}
    """After the last epoch, on the same texts; empty in records from before it was measured."""
    earlier: dict[str, dict[str, SetScores]] = {}
    """After this stage: scores on the probe sets of every earlier stage, by stage and set."""


class Record(_Model):
    """One run."""

    run_id: str
    """Hash of the spec; the file's name."""
    status: Literal["done", "failed"]
    """Whether the run reached its end."""
    error: str | None = None
    """What stopped a failed run."""
    spec: Spec
    """What was run."""
    environment: Environment
    """Where and with what."""
    cost: Cost | None = None
    """What it took; none for a failed run."""
    before: dict[str, dict[str, SetScores]] = {}
    """Scores of the base model on the probe sets of every stage after the first (the first's are its epoch 0)."""
    stages: list[StageScores] = []
    """Scores, stage by stage."""
    told: bool | None = None
    """Whether the method read facts that documents declare, and so knew the answers; None: from before it was noted."""
    retained: dict[str, dict[str, Retained]] = {}
    """With --retain: what became of the model's scores on other tasks, by task and metric."""
    weights_sha256: str = ""
    """Hash of the trained parameters as the run left them: equal ones are equal to the last bit."""

    @model_validator(mode="after")
    def _consistent(self) -> Record:
        if faults := list(self._faults()):
            raise ValueError(*faults)
        return self

    def _faults(self) -> Iterator[str]:
        """Where parts of the record contradict each other."""
        if self.run_id != self.spec.run_id:
            yield f"run_id {self.run_id} is not the hash of the spec ({self.spec.run_id})"
        if self.status == "done" and (self.cost is None or not self.stages):
            yield "a finished run needs a cost and stages"
        ids = {stage.name: stage.probe_ids for stage in self.stages}
        if len(ids) < len(self.stages):
            yield "two stages have one name"
        for stage in self.stages:
            for name, own in stage.probe_ids.items():
                if len(set(own)) < len(own):
                    yield f"stage {stage.name}, {name}: a probe stands in it twice"
            numbers = [epoch.epoch for epoch in stage.epochs]
            if not numbers or numbers != sorted(set(numbers)):
                yield f"stage {stage.name}: its epochs are {numbers}, expected each once and in order"
            for epoch in stage.epochs:
                where = f"stage {stage.name}, epoch {epoch.epoch}"
                for name, sets in {"": epoch.sets, **epoch.views}.items():
                    yield from _faults_of_sets(f"{where} {name}".strip(), sets, stage.probe_ids)
            for earlier, sets in stage.earlier.items():
                yield from _faults_of_sets(f"after stage {stage.name}, {earlier}", sets, ids.get(earlier, {}))
        for later, sets in self.before.items():
            yield from _faults_of_sets(f"before training, {later}", sets, ids.get(later, {}))


def _faults_of_sets(where: str, sets: Mapping[str, SetScores], probe_ids: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Where scores are not those of the probe sets, or a mean is not its probes'."""
    if sets.keys() != probe_ids.keys():
        yield f"{where}: other probe sets than probe_ids"
        return
    for name, scores in sets.items():
        count = len(probe_ids[name])
        if any(len(v) != count for v in (scores.probe_accuracy, scores.probe_nll, scores.probe_guess)):
            yield f"{where}, {name}: expected {count} probes"
            continue
        pairs = ((scores.accuracy, scores.probe_accuracy), (scores.nll, scores.probe_nll))
        if any(not math.isclose(mean, sum(v) / max(count, 1), abs_tol=1e-5) for mean, v in pairs):
            yield f"{where}, {name}: a mean is not its probes'"


def write_record(folder: Path, record: Record) -> Path:
    """Write `records/<run_id>.json` under `folder`, atomically; returns its path."""
    path = folder / "records" / f"{record.run_id}.json"
    write_json(path, sealed(record.model_dump()))
    return path


def read_record(path: Path) -> Record:
    """Read and validate one record; UserError with what is wrong, be it one changed byte."""
    try:
        return Record.model_validate(read_sealed(path))
    except ValidationError as error:
        raise InvalidRecord(path, list(reasons(error))) from error


def read_records(folder: Path, *, naming: Sequence[str] = ()) -> Iterator[Record]:
    """Every record under `folder/records`, in the order of their names; only those in whose text all of `naming` stand.

    To find a text in a record takes a fraction of the time that it takes to read it.
    """
    wanted = [json.dumps(text, ensure_ascii=False).encode() for text in naming]
    for path in sorted((folder / "records").glob("*.json")):
        if _holds(path, wanted):
            yield read_record(path)


def _holds(path: Path, wanted: Sequence[bytes]) -> bool:
    try:
        content = path.read_bytes() if wanted else b""
    except OSError:
        return True  # who reads it says what is wrong with it
    return all(text in content for text in wanted)
