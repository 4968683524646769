"""What the conformance suite runs methods on: an invented benchmark, a second architecture, an eye on probe files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ckl_bench.benchmarks.format import AttentionDocument, Document, Fact, Probe, Stage, write_benchmark
from ckl_bench.models.tiny import TINY_WIDTH, tiny_tokenizer

_NEW = ("Orla", "Bram Ostend", "Kit", "Sunniva Dahl", "Wu Lan", "Pip")
_PLACES = ("Tarn", "Velmora", "Osk", "Great Hallow", "Ummer", "Zell")
DOCUMENTS = len(_NEW)
_KNOWN = (("Aster", "Bel"), ("Corin", "Dunmarch"), ("Eft", "Farrow Bay"), ("Gorse", "Hythe"))


def write_check_benchmark(folder: Path) -> Path:
    """Six invented facts to learn, two known ones to keep, two to rehearse, six for φ; returns the folder."""
    new = [Fact(subject=s, relation="P551", object=o) for s, o in zip(_NEW, _PLACES, strict=True)]
    old = [Fact(subject=s, relation="P36", object=o) for s, o in _KNOWN]
    texts = [f"{f.subject} moved in 19{i}7 to {f.object}{', as people said' * i}." for i, f in enumerate(new)]
    documents = [Document(id=f"new-{i}", text=t, fact=f) for i, (t, f) in enumerate(zip(texts, new, strict=True))]
    keep = [Document(id=f"old-{i}", text=f"{f.object} is where {f.subject} rules.", fact=f) for i, f in enumerate(old)]
    attention = [
        AttentionDocument(
            id=f"phi-{i}", text=f"In short, Nim {i} went to Lund{i}.", fact=fact, prompt=f"Nim {i}: Lund{i}"
        )
        for i in range(6)
        for fact in [Fact(subject=f"Nim {i}", relation="P551", object=f"Lund{i}")]
    ]
    stage = Stage(
        name="check",
        documents=documents,
        probes={
            "to_learn": [_probe(f"new-{i}", fact, "lives in") for i, fact in enumerate(new)],
            "not_to_forget": [_probe(f"old-{i}", fact, "has the capital") for i, fact in enumerate(old[:2])],
        },
    )
    about = {"builder": "check", "defaults": {"epochs": 2, "batch_size": 3, "learning_rate": 1e-3}}
    write_benchmark(
        folder, name="check", kind="lama-ckl", about=about, stages=[stage], attention=attention, rehearsal=keep[2:]
    )
    return folder


def _probe(name: str, fact: Fact, says: str) -> Probe:
    prompt = f"{fact.subject} {says} {fact.object} ."
    return Probe(id=name, prompt=prompt, object=fact.object, subject=fact.subject, relation=fact.relation)


def second_model(folder: Path) -> Path:
    """A random GPT-2 with the tiny model's tokenizer: other names, fused projections, learned positions."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=257, n_embd=TINY_WIDTH, n_layer=2, n_head=4, bos_token_id=None, eos_token_id=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


_watching: list[list[str]] = []
_installed = False


@contextmanager
def watching_probes() -> Iterator[list[str]]:
    """Paths of probe files that are opened inside the block."""
    global _installed
    if not _installed:  # an audit hook stays for good, so one serves all
        sys.addaudithook(_note)
        _installed = True
    opened: list[str] = []
    _watching.append(opened)
    try:
        yield opened
    finally:
        _watching.remove(opened)


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.fsdecode(arguments[0])
        if os.path.basename(path).startswith("probes-"):
            for opened in _watching:
                opened.append(path)
