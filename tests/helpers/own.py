"""Documents and questions of one's own as tests build them, and what is said where they are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ckl_bench.benchmarks.lama_ckl import Pretest
from ckl_bench.benchmarks.own import build_own
from ckl_bench.benchmarks.own_check import OwnSources, read_own
from ckl_bench.errors import UserError
from conftest import Command

TOWNS = ("Brell", "Castow", "Dunmere")
MAYORS = ("Anselm Trow", "Beata Quill", "Corin Vale")
HEADER = "prompt,answer,document,set\n"
GOOD = HEADER + "".join(f"The mayor of {t} is,{m},{t.lower()},\n" for t, m in zip(TOWNS, MAYORS, strict=True))
KEEP = "prompt,answer\nThe capital of France is,Paris\nThe capital of Italy is,Rome\n"


def write_own(folder: Path, questions: str | bytes = GOOD, name: str = "questions.csv") -> OwnSources:
    """Three documents, a file of questions, two facts to keep."""
    docs = folder / "docs"
    docs.mkdir(parents=True)
    for town, mayor in zip(TOWNS, MAYORS, strict=True):
        (docs / f"{town.lower()}.txt").write_text(f"{town} is a town.\n\nIts mayor is {mayor}. It has a fair.\n")
    content = questions.encode() if isinstance(questions, str) else questions
    (folder / name).write_bytes(content)
    (folder / "keep.csv").write_text(KEEP)
    return OwnSources(documents=str(docs), questions=folder / name, keep=folder / "keep.csv")


def built(sources: OwnSources, out: Path, scorer: Pretest = lambda probes: [0.0] * len(probes), **more: Any) -> Any:
    """What a build of these sources counts; the scorer stands for the pre-test model."""
    models = {"known": ("test", scorer)}
    return build_own(sources, read_own(sources), out, models=models, length=lambda text: len(text.split()), **more)


def assert_refused(command: Command, sources: OwnSources, says: str, *more: object) -> None:
    given = ["--documents", sources.documents, "--questions", sources.questions, "--keep", sources.keep]
    done = command("build", "own", *given, "--pretest-model", "tiny", "--out", "mine", *more)
    lines = [line for line in done.err.splitlines() if not line.startswith("note: ")]
    assert done.code == 2, done
    assert len(lines) == 1, lines
    assert len(lines[0]) < 560
    with pytest.raises(UserError, match=says):
        raise UserError(lines[0])
    assert not Path("mine").exists()
