"""Commands as child processes that start at once: a server imports the heavy libraries and forks a child for each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from helpers.quick import be_quick

SHIM = Path(__file__).with_name("faults.c")  # fails chosen system calls, once a child arms it
PRELOADED = [  # also what a command imports as it goes on: a child that does so itself takes seconds
    "torch",
    "torch._decomp",
    "transformers",
    "transformers.models.llama.modeling_llama",
    "peft",
    "datasets",
    "pandas",
    "scipy.stats",
    "matplotlib.pyplot",
    "duckdb",
    "ckl_bench.cli.app",
    "ckl_bench.learning.run",
    "ckl_bench.results.output",
]


@dataclass(frozen=True)
class Child:
    """A command under way; its standard output and error go to files."""

    process: BaseProcess
    out: Path
    err: Path

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.is_alive()

    def send(self, number: int) -> None:
        """Send a signal, if it is still there: its end is heard of a moment after it."""
        if self.process.is_alive() and self.process.pid:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit code (negative: the signal that killed it), or None where it still runs after so many seconds."""
        self.process.join(seconds)
        return self.process.exitcode


def _main(arguments: list[str], folder: str, out: str, err: str, before: Callable[[], Any] | None) -> None:
    os.chdir(folder)
    for path, number in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOCTTY)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    from ckl_bench.cli.app import main

    be_quick()
    if before:
        before()
    try:
        main(arguments)
    finally:  # what is left to be written was heard of by now; a server's child would flush, and fail, once more
        with suppress(OSError):
            sys.stdout.flush()
        sys.stdout = None


def start(
    arguments: Sequence[object],
    folder: Path,
    logs: Path,
    *,
    before: Callable[[], Any] | None = None,
    out: Path | None = None,
    err: Path | None = None,
) -> Child:
    """Start `ckl-bench ARGUMENTS` in `folder`, its output in files under `logs` (which should lie outside of it).

    `before` is a function, importable by name, that the child calls first; `out` and `err` take the output instead.
    """
    _serve()
    logs.mkdir(parents=True, exist_ok=True)
    out = out or Path(tempfile.mkstemp(prefix="out-", dir=logs)[1])
    err = err or Path(tempfile.mkstemp(prefix="err-", dir=logs)[1])
    given = ([str(a) for a in arguments], str(folder), str(out), str(err), before)
    process = get_context("forkserver").Process(target=_main, args=given)
    process.start()
    return Child(process, out, err)


@cache
def _serve() -> None:
    """Start the server, with one thread a process and, where there is a compiler, the shim in front of the C library.

    Environment variables hold for every child: set what children need before the first one starts.
    """
    from multiprocessing import forkserver

    given = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    if library := shim():
        given["LD_PRELOAD"] = str(library)
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        get_context("forkserver").set_forkserver_preload(PRELOADED)
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@cache
def shim() -> Path | None:
    """The compiled shim; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None or not SHIM.is_file():
        return None
    library = Path(tempfile.mkdtemp(prefix="ckl-bench-shim-")) / "faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM), "-ldl"], check=True)
    return library
