"""Memory of a run by part, and when which parts stand in it at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ckl_bench.forecast.shape import BYTES, Shape
from ckl_bench.learning.divergence import TOKENS as DIVERGENCE_TOKENS
from ckl_bench.learning.sizes import SCORED
from ckl_bench.method import Needs
from ckl_bench.models.head import CHUNK

LIBRARIES = 450 * 2**20  # what Python with torch, transformers and peft takes of a process's memory, without a model
DIVERGENCE_TABLES = 4  # of logits: of both models, what is made of them, and what its exponent needs
HEAP = 1.75  # of a CPU's memory, for tensors of many sizes that come and go: what they leave free is not all used again
SAVED_COPIES = 3  # of a run's state, while `storage.checkpoint` writes it


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a run is asked to do, as far as memory depends on it."""

    on_gpu: bool
    dtype: str
    longest: int  # tokens of the longest document
    at_once: int  # tokens that go through the model at once, padding among them
    checkpoints: bool
    eager: bool  # attention that keeps its scores
    trains: bool
    stages: int
    scored: int = SCORED  # tokens of prompts that go through the model at once


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes by part; by phase, what stands at once; the peak is that of the fullest phase."""

    parts: Mapping[str, int]
    phases: Mapping[str, int]

    @property
    def peak(self) -> int:
        """Bytes."""
        return max(self.phases.values())


def activations(shape: Shape, needs: Needs, setting: Setting, tokens: int) -> int:
    """Bytes kept for the gradient of so many tokens, and what the widest layer makes beside it on the way back.

    What a penalty reads for each of them (`Needs.beside`) is kept until both go back together.

    Numbers a token come from `shape.kept`, at the width of the run's dtype; with checkpoints a layer keeps its input
    (`width` numbers) and one layer is kept whole. Eager attention keeps its scores twice over. On a CPU the heap needs
    1.75 times as much for them.
    """
    size, layers = BYTES[setting.dtype], max(shape.layers, 1)
    inside = 0.0 if needs.trunk_once else shape.kept
    scores = 2.0 * shape.heads * setting.longest * layers if setting.eager else 0.0
    one = (inside + scores) / layers
    kept = shape.width * layers + one if setting.checkpoints and inside else inside + scores
    heap = 1.0 if setting.on_gpu else HEAP
    return int(tokens * (min(needs.documents, 1.0) + needs.beside) * (kept + one + shape.kept_beside) * size * heap)


def memory_of(shape: Shape, needs: Needs, setting: Setting) -> Memory:
    """What a run holds, and when.

    Weights stand in the run's dtype (quantised ones as they are packed; on a CPU the file's pages count beside them,
    since the embedding stays in it), what trains in float32 with its gradient and AdamW's two moments. Phases:
    *loading* (weights, and as much again of the file that they are read from); *learning* (all of the above,
    activations of one part of a batch, a chunk of the logits, 2^24 numbers, and its gradient; where the head trains,
    two more gradients of it); *scoring* (1,024 tokens of prompts, on a GPU as many as fit, two chunks of logits);
    *divergence* (a layer's tensors of 512 tokens, four quarters of a chunk of logits, and a second base model where the
    weights train, while its file is read); *checkpoint* (trained weights and moments three times over: copied, as
    bytes, and as one file). On a CPU the libraries count too; a GPU's own context (about half a gigabyte) does not.
    """
    size = BYTES[setting.dtype]
    of_base = 4 * shape.base if shape.base_trains else shape.base_bytes
    start = 4 * shape.trained if setting.trains and setting.stages > 1 else 0
    parts = {
        "libraries": 0 if setting.on_gpu else LIBRARIES,
        "weights": of_base,
        "weights added": 4 * shape.added,
        "gradients": 4 * shape.trained if setting.trains else 0,
        "optimizer states": 8 * shape.trained if setting.trains else 0,
        **needs.memory,
    }
    if start:
        parts["weights at the stage's start"] = start
    if not setting.on_gpu and shape.file_bytes > of_base:  # quantised as they were read, but for the embedding
        parts["weights' file, mapped"] = shape.file_bytes
    held = sum(parts.values())
    rows = min(CHUNK, setting.at_once * shape.vocabulary)
    of_head = 8 * shape.head if shape.base_trains else 0
    parts["activations"] = activations(shape, needs, setting, setting.at_once) if setting.trains else 0
    parts["loss: a chunk of logits"] = (4 * rows + 4 * shape.width * setting.at_once + of_head) * setting.trains
    one_layer = 4 * (3 * shape.width + shape.kept / shape.layers) if shape.layers else 0.0  # bytes a token
    scored, looked_at = int(setting.scored * one_layer), max(DIVERGENCE_TOKENS, setting.longest)
    logits = 4 * min(CHUNK // 4, looked_at * shape.vocabulary)
    compared = int(looked_at * one_layer) + DIVERGENCE_TABLES * logits
    copy = shape.base * size if setting.trains and not shape.shared else 0
    parts["base model beside it"] = copy
    parts["divergence: logits of both models"] = DIVERGENCE_TABLES * logits
    read = 0 if setting.on_gpu else shape.file_bytes  # the file's pages count until the weights are there
    libraries = parts["libraries"]
    phases = {
        "loading": libraries + of_base + read,
        "scoring": held + scored + 2 * 4 * min(CHUNK, setting.scored * shape.vocabulary),
        "divergence": held + copy + max(compared, read if copy else 0),
    }
    if setting.trains:
        phases["learning"] = held + parts["activations"] + parts["loss: a chunk of logits"]
        # AdamW's denominators: of one tensor at a time on a CPU, of all together on a GPU
        phases["step"] = held + 4 * (shape.trained if setting.on_gpu else 2 * shape.largest_trained)
        if not setting.on_gpu:
            phases["checkpoint"] = held + SAVED_COPIES * (12 * shape.trained + start)
        if needs.whole_logits:
            whole = activations(shape, needs, setting, setting.longest)
            phases["before a stage"] = held + whole + needs.whole_logits * 4 * setting.longest * shape.vocabulary
    return Memory(parts={name: size for name, size in parts.items() if size}, phases=phases)


def documents_that_fit(shape: Shape, needs: Needs, setting: Setting, room: int) -> int:
    """How many of the longest documents can go through the model at once in `room` bytes; 0 where not even one."""
    alone = Setting(**{**vars(setting), "at_once": setting.longest})
    one = memory_of(shape, needs, alone)
    if one.peak > room:
        return 0
    per_document = activations(shape, needs, setting, setting.longest) + 4 * shape.width * setting.longest
    chunk = 4 * (CHUNK - min(CHUNK, setting.longest * shape.vocabulary))  # that more documents may still fill
    return 1 + max(0, room - one.phases.get("learning", one.peak) - chunk) // max(per_document, 1)
