"""Rows of the two tasks in this folder, which lm-evaluation-harness reads without a network."""

from __future__ import annotations

from typing import Any

from datasets import Dataset

CHOICES = [
    ("The sky by day is", [" blue", " loud"], 0),
    ("Two and two make", [" seven", " four"], 1),
    ("Cats chase", [" mice", " Tuesdays"], 0),
    ("Ice is made of frozen", [" water", " song"], 0),
]
TEXTS = ["The cat sat on the mat and looked at the door.", "It rained for three days, and then the sun came out."]


def choices(**_: Any) -> dict[str, Dataset]:
    """Four questions with two answers each."""
    return {"test": Dataset.from_list([{"question": q, "choices": c, "label": n} for q, c, n in CHOICES])}


def texts(**_: Any) -> dict[str, Dataset]:
    """Two sentences."""
    return {"test": Dataset.from_list([{"text": text} for text in TEXTS])}
