"""A reader at work on a folder, in a process of its own with little time and memory, and what is to be said of it."""

from __future__ import annotations

import faulthandler
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ckl_bench.errors import CklError, printable
from ckl_bench.storage.json import canonical_json

Files = dict[str, bytes | str | None]  # content; the target of a link; None for a folder in its place
CPU_SECONDS = 10
WALL_SECONDS = 120  # waiting for other processes is no fault
MEMORY = 2 << 30  # bytes above what the process has before it reads
LONGEST_ERROR = 500
MOST_PRINTED = 5000
OUTSIDE = "../outside/rows.jsonl"  # lies beside what is read
SECRET = b'{"id": "secret", "text": "secret", "prompt": "secret", "object": "secret"}\n'


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader, its input, and its promise."""

    name: str
    make: Callable[[Path], object]  # makes valid input in an empty folder
    read: Callable[[Path, Path], object]  # (folder, place to write) -> what can be compared, as JSON
    strict: bool = True  # checksums protect it: what is changed is refused
    restore: Callable[[Files], None] | None = None  # makes the checksums right again, as a forger would
    share: float = 1.0  # of the inputs, against other readers


@dataclass(frozen=True)
class Damaged:
    """A folder that is not as it was; and whether its checksums were made right again."""

    files: Files = field(repr=False)  # megabytes
    restored: bool


class Outcome(NamedTuple):
    """What reading gave: `result` with its JSON, `refused` with the error's line, `wrong` with what happened where."""

    kind: str
    text: str


class Bench:
    """A reader with its valid input; every reading happens in a process of its own, in a fresh folder."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.reader, self._folder = reader, folder
        made = folder / "made" / "input"
        made.mkdir(parents=True)
        outcome = _apart(lambda: reader.make(made) and None, made.parent)
        assert outcome.kind == "result", outcome
        self.valid = {p.relative_to(made).as_posix(): p.read_bytes() for p in sorted(made.rglob("*")) if p.is_file()}
        self.expected = self.read(dict(self.valid))

    def read(self, files: Files) -> Outcome:
        """What the reader makes of a folder."""
        place = self._folder / "try"
        shutil.rmtree(place, ignore_errors=True)
        for folder in ("input", "outside", "target"):
            (place / folder).mkdir(parents=True)
        for name, content in (files | {OUTSIDE: SECRET}).items():
            path = place / "input" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir()
            elif isinstance(content, str):
                path.symlink_to(content)
            else:
                path.write_bytes(content)
        before = _listed(place)
        found = _apart(lambda: self.reader.read(place / "input", place / "target"), place / "outside")
        return found if _listed(place) == before else Outcome("wrong", "wrote outside of its target")

    def judge(self, damage: Damaged) -> Outcome:
        """Refused, the same result, another one (where no checksum stands against it), or wrong."""
        found = self.read(damage.files)
        if found.kind != "result" or found == self.expected:
            return Outcome(found.kind.replace("result", "same"), found.text)
        believed = self.reader.strict and not damage.restored
        return Outcome("wrong", "believed: the result is another one") if believed else Outcome("other", "")


def _listed(place: Path) -> list[Any]:
    """All that is in a folder, but for what is in the place to write."""
    found = [path for path in place.rglob("*") if "target" not in path.parts]
    return sorted((str(p), p.lstat().st_mode, p.lstat().st_mtime_ns, p.lstat().st_size) for p in found)


def _apart(work: Callable[[], object], folder: Path) -> Outcome:
    """What a process of its own does, with little time and memory."""
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as printed:
        child = os.fork()
        if not child:
            try:
                _confine(folder, printed.fileno())
                os.write(answer.fileno(), "\0".join(_outcome(work)).encode())
                sys.stdout.flush()
            finally:
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        words = os.pread(printed.fileno(), MOST_PRINTED + 1, 0)
        said = os.pread(answer.fileno(), 1 << 30, 0).decode()
    if status or not said:
        return Outcome("wrong", f"the process ended by signal {os.WTERMSIG(status)}: {words[:300]!r}")
    return Outcome("wrong", "prints pages") if len(words) > MOST_PRINTED else Outcome(*said.split("\0", 1))


def _confine(folder: Path, printed: int) -> None:
    faulthandler.disable()  # pytest's would tell of a death that is counted here
    for stream in (1, 2):
        os.dup2(printed, stream)
    sys.stdout = sys.stderr = os.fdopen(os.dup(printed), "w")
    os.chdir(folder)
    os.environ["CKL_BENCH_CACHE"] = tempfile.tempdir = str(folder.parent / "target")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WALL_SECONDS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for what, limit in ((resource.RLIMIT_AS, used + MEMORY), (resource.RLIMIT_CPU, CPU_SECONDS)):
        resource.setrlimit(what, (limit, resource.getrlimit(what)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _outcome(work: Callable[[], object]) -> Outcome:
    try:
        return Outcome("result", canonical_json(work()).encode().decode())
    except CklError as error:
        line = printable(" ".join(str(error).split()))
        if 0 < len(line) <= LONGEST_ERROR:
            return Outcome("refused", line)
        return Outcome("wrong", f"an error of {len(line)} characters at {_where(error)}")
    except BaseException as error:
        return Outcome("wrong", f"{type(error).__name__} at {_where(error)}: {ascii(str(error))[:200]}")


def _where(error: BaseException) -> str:
    """The innermost line of the product, or of the reader's own checks."""
    files = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [(path, line) for path, line in files if path.is_file() and not {"lib", "site-packages"} & {*path.parts}]
    return f"{own[-1][0].name}:{own[-1][1]}" if own else "?"
